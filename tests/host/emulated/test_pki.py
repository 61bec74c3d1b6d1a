"""The emulated PKI: the shapes of AWS's certificates, a root that lasts, and state that is never overwritten."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cipherkeep_attestation.cbor import decode_foreign
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.nitro.verify import NO_NONCE, InsecureAnyMeasurement, Policy, aws_root, verify, verify_host
from cipherkeep_host.emulated import pki
from cipherkeep_host.emulated.documents import sign_document
from cipherkeep_host.emulated.tpm import HostAttestor
from cipherkeep_host.errors import HostError
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
MODULE = "i-0123456789abcdef0-enc0123456789abcdef"


class Clock:
    """A clock that tests turn."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock of the PKI under test."""
    return Clock()


@pytest.fixture
def issuer(folder: Path, clock: Clock) -> pki.Pki:
    """A PKI whose root was made at START."""
    pki.create(folder, at=START)
    return pki.Pki(folder, module_id=MODULE, clock=clock)


def policy() -> Policy:
    """A policy that asks for nothing but a sound document of the last five minutes."""
    return Policy(measurements=InsecureAnyMeasurement(), nonce=NO_NONCE, public_key=None, max_age=timedelta(minutes=5))


def document(issuer: pki.Pki, at: datetime) -> bytes:
    """An enclave's document signed at a stated time."""
    pcrs = {index: bytes([1]) * 48 for index in range(16)}
    return sign_document(
        issuer.credentials(),
        module_id=MODULE,
        kind="pcrs",
        pcrs=pcrs,
        at=at,
        public_key=None,
        user_data=None,
        nonce=None,
    )


def test_certificates_have_the_shapes_of_authentic_ones(issuer: pki.Pki) -> None:
    """Lives, path lengths, missing key identifiers and the uncritical keyUsage of the leaf are those of hardware."""
    credentials = issuer.credentials()
    chain = [x509.load_der_x509_certificate(der) for der in (*credentials.cabundle, credentials.certificate)]
    lives = [certificate.not_valid_after_utc - certificate.not_valid_before_utc for certificate in chain]
    assert lives[1:] == [pki.REGIONAL_LIFE, pki.ZONAL_LIFE, pki.INSTANCE_LIFE, pki.LEAF_LIFE]
    limits = [c.extensions.get_extension_for_class(x509.BasicConstraints).value for c in chain]
    assert [(limit.ca, limit.path_length) for limit in limits] == [
        (True, None),
        (True, 2),
        (True, 1),
        (True, 0),
        (False, None),
    ]
    identified = [ExtensionOID.AUTHORITY_KEY_IDENTIFIER in {e.oid for e in c.extensions} for c in chain]
    assert identified == [False, True, True, False, False]
    usage = [c.extensions.get_extension_for_class(x509.KeyUsage) for c in chain]
    assert [extension.critical for extension in usage] == [True, True, True, True, False]
    assert usage[-1].value.digital_signature
    assert not usage[-1].value.key_cert_sign
    assert max(len(der) for der in (*credentials.cabundle, credentials.certificate)) <= 1024


def test_a_leaf_serves_8523_seconds(issuer: pki.Pki, clock: Clock) -> None:
    """As on hardware a fresh document may stand under a leaf with less than 40 minutes left."""
    first = issuer.credentials()
    clock.now = START + timedelta(seconds=8500)
    assert issuer.credentials() is first
    leaf = x509.load_der_x509_certificate(first.certificate)
    assert leaf.not_valid_after_utc - clock.now < timedelta(minutes=40)
    clock.now = START + timedelta(seconds=8530)
    assert issuer.credentials().certificate != first.certificate
    assert issuer.credentials().cabundle == first.cabundle


def test_documents_stay_valid_for_a_month(issuer: pki.Pki, clock: Clock, folder: Path) -> None:
    """Every certificate is renewed before a leaf under it would outlive it."""
    root = pki.emulated_root(folder)
    for _ in range(31 * 4):
        clock.now += timedelta(hours=6)
        verify(document(issuer, clock.now), root=root, policy=policy(), at=clock.now)


def test_a_clock_that_is_set_back_gets_certificates_that_are_valid_then(
    issuer: pki.Pki, clock: Clock, folder: Path
) -> None:
    """A laptop whose clock was wrong for a while recovers without a restart."""
    clock.now = START + timedelta(days=3)
    issuer.credentials()
    clock.now = START + timedelta(days=1)
    verify(document(issuer, clock.now), root=pki.emulated_root(folder), policy=policy(), at=clock.now)


def test_a_document_has_the_form_of_todays_hardware(issuer: pki.Pki) -> None:
    """Untagged envelope, indefinite outer map, definite inner ones, null for what is absent."""
    data = document(issuer, START)
    assert data[0] == 0x84
    envelope = decode_foreign(data)
    assert isinstance(envelope, list)
    payload = envelope[2]
    assert isinstance(payload, bytes)
    assert (payload[0], payload[-1]) == (0xBF, 0xFF)
    content = decode_foreign(payload)
    assert isinstance(content, dict)
    expected = [
        "module_id",
        "digest",
        "timestamp",
        "pcrs",
        "certificate",
        "cabundle",
        "public_key",
        "user_data",
        "nonce",
    ]
    assert list(content) == expected
    assert [content[name] for name in ("public_key", "user_data", "nonce")] == [None, None, None]
    assert b"\x64pcrs\xb0" in payload


def test_an_emulated_document_is_refused_under_the_root_of_aws(issuer: pki.Pki) -> None:
    """Emulated means another root: whoever names AWS's accepts nothing of ours."""
    with pytest.raises(EvidenceError) as refusal:
        verify(document(issuer, START), root=aws_root(), policy=policy(), at=START)
    assert refusal.value.code == "path.root"


def test_a_document_of_another_installation_is_refused(issuer: pki.Pki, state: Path) -> None:
    """Two laptops do not trust each other: each has a root of its own."""
    with pytest.raises(EvidenceError):
        verify(document(issuer, START), root=pki.emulated_root(state), policy=policy(), at=START)


def test_a_hosts_document_is_a_hosts_only(folder: Path) -> None:
    """A NitroTPM document is taken where a host's is asked for, and never as an enclave's."""
    pki.create(folder, at=START)
    attestor = HostAttestor(folder, clock=lambda: START)
    data = attestor.attest(nonce=b"n" * 32, public_key=b"k", user_data=b"u")
    root = pki.emulated_root(folder)
    found = verify_host(data, root=root, policy=policy(), at=START)
    assert (found.nonce, found.public_key, found.user_data) == (b"n" * 32, b"k", b"u")
    assert found.pcrs[4] != found.pcrs[0] == bytes(48)
    assert "-tpm" in found.module_id
    with pytest.raises(EvidenceError):
        verify(data, root=root, policy=policy(), at=START)
    with pytest.raises(ValueError, match="1024"):
        attestor.attest(user_data=bytes(1025))


def test_an_existing_root_is_never_overwritten(folder: Path) -> None:
    """Making state again is refused and changes nothing."""
    pki.create(folder)
    before = (folder / "pki" / "root.key").read_bytes()
    with pytest.raises(HostError) as refusal:
        pki.create(folder)
    assert refusal.value.code == "emulator.state_exists"
    assert (folder / "pki" / "root.key").read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["pki"]


def test_the_roots_key_is_for_its_owner_only(folder: Path) -> None:
    """The key has mode 0600, and one that others can read is not used."""
    pki.create(folder)
    key = folder / "pki" / "root.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.chmod(0o640)
    with pytest.raises(HostError) as refusal:
        pki.Pki(folder, module_id=MODULE)
    assert refusal.value.code == "emulator.state_permissions"


@pytest.mark.parametrize("name", ["root.key", "root.der"])
def test_damaged_state_is_named(folder: Path, name: str) -> None:
    """A root that cannot be read, or whose key is another's, is refused with the folder's name."""
    pki.create(folder)
    path = folder / "pki" / name
    path.write_bytes(b"\x30\x03" + path.read_bytes()[:40])
    with pytest.raises(HostError) as refusal:
        pki.Pki(folder, module_id=MODULE).credentials()
    assert refusal.value.code == "emulator.state_damaged"


def test_a_root_certificate_of_another_key_is_refused(folder: Path, state: Path) -> None:
    """Key and certificate belong together."""
    pki.create(folder)
    (folder / "pki" / "root.der").write_bytes((state / "pki" / "root.der").read_bytes())
    with pytest.raises(HostError) as refusal:
        pki.Pki(folder, module_id=MODULE)
    assert refusal.value.code == "emulator.state_damaged"


def test_no_secret_shows_in_a_repr(issuer: pki.Pki) -> None:
    """Credentials print as three dots."""
    assert repr(issuer.credentials()) == "Credentials(…)"
