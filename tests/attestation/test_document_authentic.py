"""What AWS hardware really sends is accepted at its own time under AWS's root, and at no other time or root."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import x509 as asn1
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.nitro.certificate import read_certificate
from cipherkeep_attestation.nitro.verify import (
    NO_NONCE,
    InsecureAnyMeasurement,
    Measurements,
    Policy,
    aws_root,
    verify,
    verify_host,
)
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pycose.keys.curves import P384
from pycose.keys.ec2 import EC2Key
from pycose.messages.sign1message import Sign1Message

from tests.simulators.attestation import SimulatedPlatform

VECTORS = Path(__file__).resolve().parent.parent / "vectors" / "nitro"
INDEX: list[dict[str, Any]] = json.loads((VECTORS / "index.json").read_text())
ANY = Policy(
    measurements=InsecureAnyMeasurement(),
    nonce=NO_NONCE,
    public_key=None,
    max_age=timedelta(minutes=1),
    insecure_allow_debug=True,
)
documents = pytest.mark.parametrize("entry", INDEX, ids=lambda entry: entry["file"][:8] + entry["sha256"][:6])


def load(entry: dict[str, Any]) -> tuple[bytes, datetime]:
    return (VECTORS / entry["file"]).read_bytes(), datetime.fromisoformat(entry["timestamp"])


def code_of(document: bytes, **judged: Any) -> str:
    with pytest.raises(EvidenceError) as refusal:
        verify(document, **judged)
    return refusal.value.code


@documents
def test_a_vector_is_the_one_that_was_published(entry: dict[str, Any]) -> None:
    """The files are byte for byte those of their index."""
    assert hashlib.sha256(load(entry)[0]).hexdigest() == entry["sha256"]


@documents
def test_an_authentic_document_is_accepted_at_its_own_time(entry: dict[str, Any]) -> None:
    """Each document of 2021 to 2026 leads to AWS's root, and says of itself what the index says."""
    data, at = load(entry)
    attestation = verify(data, root=aws_root(), policy=ANY, at=at)
    assert attestation.timestamp == at
    assert attestation.debug is entry["debug"]
    assert entry["debug"] or attestation.pcrs[0].hex() == entry["pcr0"]
    assert attestation.certificates[-1] == aws_root().certificate_der
    assert timedelta(hours=2) < attestation.not_after - at <= timedelta(hours=3)


@documents
def test_a_tagged_copy_is_accepted(entry: dict[str, Any]) -> None:
    """AWS's text allows tag 18, and the tag changes nothing about what is attested."""
    data, at = load(entry)
    tagged = verify(b"\xd2" + data, root=aws_root(), policy=ANY, at=at)
    assert tagged == verify(data, root=aws_root(), policy=ANY, at=at)


@documents
def test_an_authentic_document_is_refused_a_day_later(entry: dict[str, Any]) -> None:
    """However long its age is allowed to be, a document ends with its leaf certificate."""
    data, at = load(entry)
    patient = Policy(
        measurements=InsecureAnyMeasurement(),
        nonce=NO_NONCE,
        public_key=None,
        max_age=timedelta(days=9999),
        insecure_allow_debug=True,
    )
    assert code_of(data, root=aws_root(), policy=patient, at=at + timedelta(days=1)) == "path.expired"
    assert code_of(data, root=aws_root(), policy=patient, at=at - timedelta(days=30)) == "path.not_yet_valid"
    assert code_of(data, root=aws_root(), policy=ANY, at=at + timedelta(minutes=2)) == "document.too_old"


@documents
def test_an_authentic_document_is_refused_under_another_root(entry: dict[str, Any]) -> None:
    """Only the root that the caller names counts, never the first certificate of the bundle."""
    data, at = load(entry)
    assert code_of(data, root=SimulatedPlatform(at=at).root(), policy=ANY, at=at) == "path.root"


@documents
def test_debug_documents_need_the_word_insecure(entry: dict[str, Any]) -> None:
    """Authentic documents of debug enclaves are validly signed and refused; the others pass without the word."""
    data, at = load(entry)
    policy = Policy(
        measurements=InsecureAnyMeasurement(), nonce=NO_NONCE, public_key=None, max_age=timedelta(minutes=1)
    )
    if entry["debug"]:
        assert code_of(data, root=aws_root(), policy=policy, at=at) == "document.debug"
    else:
        assert not verify(data, root=aws_root(), policy=policy, at=at).debug


@documents
def test_measurements_of_an_authentic_document_are_compared(entry: dict[str, Any]) -> None:
    """The set that a document shows is accepted, also as the second alternative; one bit beside it is not."""
    data, at = load(entry)
    shown = verify(data, root=aws_root(), policy=ANY, at=at).pcrs
    good = Measurements({index: shown[index] for index in (0, 1, 2)})
    bad = Measurements({**good.pcrs, 2: bytes([shown[2][0] ^ 1]) + shown[2][1:]})

    def demanding(*sets: Measurements) -> Policy:
        return Policy(
            measurements=sets,
            nonce=NO_NONCE,
            public_key=None,
            max_age=timedelta(minutes=1),
            insecure_allow_debug=True,
        )

    assert verify(data, root=aws_root(), policy=demanding(bad, good), at=at).pcrs == shown
    assert code_of(data, root=aws_root(), policy=demanding(bad), at=at) == "document.pcr_mismatch"


@documents
def test_an_enclave_is_no_host(entry: dict[str, Any]) -> None:
    """An authentic enclave document is refused where a host's is demanded."""
    data, at = load(entry)
    with pytest.raises(EvidenceError) as refusal:
        verify_host(data, root=aws_root(), policy=ANY, at=at)
    assert refusal.value.code == "document.is_enclave_document"


@documents
def test_others_verify_the_same_signature(entry: dict[str, Any]) -> None:
    """pycose accepts the document with the key of its leaf, and refuses it with the key above."""
    data, at = load(entry)
    certificates = verify(data, root=aws_root(), policy=ANY, at=at).certificates
    message = Sign1Message.decode(b"\xd2" + data)
    for der, good in ((certificates[0], True), (certificates[1], False)):
        point = read_certificate(der).p384_point()
        message.key = EC2Key(crv=P384, x=point[1:49], y=point[49:])
        assert message.verify_signature() is good


@documents
def test_certificates_read_as_others_read_them(entry: dict[str, Any]) -> None:
    """Our reader, asn1crypto and OpenSSL agree on every certificate of every authentic document."""
    data, at = load(entry)
    for der in verify(data, root=aws_root(), policy=ANY, at=at).certificates:
        ours = read_certificate(der)
        theirs = x509.load_der_x509_certificate(der)
        third = asn1.Certificate.load(der, strict=True)
        assert ours.not_before == theirs.not_valid_before_utc == third.not_valid_before
        assert ours.not_after == theirs.not_valid_after_utc == third.not_valid_after
        assert ours.tbs == theirs.tbs_certificate_bytes
        assert ours.issuer == theirs.issuer.public_bytes() == third.issuer.dump()
        assert ours.subject == theirs.subject.public_bytes() == third.subject.dump()
        key = theirs.public_key()
        assert ours.spki == key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert ours.p384_point() == key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        constraints = theirs.extensions.get_extension_for_class(x509.BasicConstraints).value
        assert (ours.authority, ours.path_length) == (constraints.ca, constraints.path_length)
        assert ours.authority_key_id == third.authority_key_identifier
        assert ours.subject_key_id == third.key_identifier
        usage = theirs.extensions.get_extension_for_class(x509.KeyUsage).value
        assert ours.key_usage is not None
        assert (0 in ours.key_usage, 5 in ours.key_usage) == (usage.digital_signature, usage.key_cert_sign)
