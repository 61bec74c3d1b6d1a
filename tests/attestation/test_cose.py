"""Envelopes: ours are opened by others and theirs by us, and everything that is not exactly ours is refused."""

from __future__ import annotations

from typing import Any

import pytest
from cipherkeep_attestation import cbor, cose
from cipherkeep_attestation.errors import EvidenceError
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from pycose.algorithms import Es384
from pycose.headers import Algorithm
from pycose.keys.curves import P384, Ed25519
from pycose.keys.ec2 import EC2Key
from pycose.keys.okp import OKPKey
from pycose.messages.sign1message import Sign1Message

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
P384_KEY = ec.derive_private_key(0xC1F4E2, ec.SECP384R1())
POINT = P384_KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def code_of(data: bytes, **asked: Any) -> str:
    with pytest.raises(EvidenceError) as refusal:
        cose.open1(data, **{"public_key": PUBLIC, **asked})
    return refusal.value.code


@settings(deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=40))
def test_what_was_signed_is_opened(payload: bytes, aad: bytes) -> None:
    """Payload and context come back, or nothing does."""
    envelope = cose.sign1(payload, key=KEY, external_aad=aad)
    assert cose.open1(envelope, public_key=PUBLIC, external_aad=aad) == payload
    assert cose.unverified_payload(envelope) == payload
    assert code_of(envelope, external_aad=aad + b"\0") == "cose.signature"


@given(st.binary(max_size=300), st.binary(max_size=40))
@settings(max_examples=30, deadline=None)
def test_pycose_accepts_our_envelope(payload: bytes, aad: bytes) -> None:
    """Another implementation verifies what we sign, with the same external data."""
    message = Sign1Message.decode(b"\xd2" + cose.sign1(payload, key=KEY, external_aad=aad))
    setattr(message, "external_aad", aad)  # noqa: B010 - its setter is invisible to type checkers
    message.key = OKPKey(crv=Ed25519, x=PUBLIC)
    assert message.payload == payload
    assert message.verify_signature()


def test_a_sig_structure_is_that_of_the_standard() -> None:
    """RFC 9052 §4.4: context, protected header, external data, payload."""
    assert cose.sig_structure(b"\xa1", b"p", b"a") == b"\x84\x6aSignature1\x41\xa1\x41a\x41p"


def test_pycose_accepts_an_emulated_documents_envelope() -> None:
    """What an emulated NSM signs is ES384 for others too, and untagged."""
    made = cose.sign1_es384(b"payload", key=P384_KEY)
    assert made[:6] == bytes.fromhex("8444a1013822")
    message = Sign1Message.decode(b"\xd2" + made)
    message.key = EC2Key(crv=P384, x=POINT[1:49], y=POINT[49:])
    assert message.phdr == {Algorithm: Es384}
    assert message.verify_signature()


def test_es384_takes_both_halves_and_nothing_else() -> None:
    """A signature and its twin hold; zero, the order, other lengths, keys and messages do not."""
    r, s = decode_dss_signature(P384_KEY.sign(b"message", ec.ECDSA(hashes.SHA384())))
    n = cose.P384_ORDER

    def holds(r: int, s: int, *, message: bytes = b"message", point: bytes = POINT) -> bool:
        return cose.verify_es384(message, signature=r.to_bytes(48, "big") + s.to_bytes(48, "big"), point=point)

    assert holds(r, s)
    assert holds(r, n - s)
    for wrong in ((0, s), (r, 0), (n, s), (r, n), (s, r), (0, 0), (r, (s + 1) % n)):
        assert not holds(*wrong)
    assert not holds(r, s, message=b"massage")
    assert not holds(r, s, point=POINT[:-1] + bytes([POINT[-1] ^ 1]))
    assert not holds(r, s, point=b"")
    assert not holds(r, s, point=b"\0")
    whole = r.to_bytes(48, "big") + s.to_bytes(48, "big")
    assert not cose.verify_es384(b"message", signature=whole + b"\0", point=POINT)
    assert not cose.verify_es384(b"message", signature=b"", point=POINT)


def test_es384_is_made_with_p384_only() -> None:
    """A key on another curve is an error of the caller."""
    with pytest.raises(TypeError):
        cose.sign1_es384(b"", key=ec.generate_private_key(ec.SECP256R1()))


def envelope(
    protected: Any = b"\xa1\x01\x27", unprotected: Any = None, payload: Any = b"p", signature: Any = None
) -> bytes:
    if signature is None:
        signature = KEY.sign(cose.sig_structure(protected, payload))
    return cbor.encode([protected, {} if unprotected is None else unprotected, payload, signature])


@pytest.mark.parametrize(
    ("code", "data"),
    [
        ("cose.algorithm", envelope(protected=b"")),
        ("cose.algorithm", envelope(protected=b"\xa1\x01\x26")),
        ("cose.algorithm", envelope(protected=bytes.fromhex("a20127044161"))),
        ("cose.algorithm", cose.sign1_es384(b"p", key=P384_KEY)),
        ("cose.unprotected", envelope(unprotected={4: b"id"})),
        ("cose.shape", envelope(unprotected=[])),
        ("cose.shape", envelope(payload=None, signature=bytes(64))),
        ("cose.shape", envelope(protected="a10127", signature=bytes(64))),
        ("cose.shape", envelope(protected=None, signature=bytes(64))),
        ("cose.shape", envelope(signature="s")),
        ("cose.shape", cbor.encode(None)),
        ("cose.shape", cbor.encode(4)),
        ("cose.shape", cbor.encode("four")),
        ("cose.shape", cbor.encode({0: b"\xa1\x01\x27", 1: {}, 2: b"", 3: bytes(64)})),
        ("cose.shape", cbor.encode([])),
        ("cose.shape", cbor.encode({})),
        ("cose.shape", cbor.encode([b"", {}, b"", b"", b""])),
        ("cose.signature_length", envelope(signature=bytes(63))),
        ("cose.signature_length", envelope(signature=b"")),
        ("cose.signature", envelope(signature=bytes(64))),
        ("cose.signature", envelope(signature=b"\xff" * 64)),
        ("encoding.tag", b"\xd2" + envelope()),
        ("encoding.trailing", envelope() + b"\0"),
        ("encoding.indefinite", b"\x9f" + envelope()[1:] + b"\xff"),
        ("encoding.truncated", envelope()[:-1]),
        ("encoding.truncated", b""),
        ("encoding.depth", cbor.encode([b"", {1: [1]}, b"", b""])),
        ("encoding.items", cbor.encode([0] * 9)),
    ],
)
def test_what_is_not_exactly_ours_is_refused(code: str, data: bytes) -> None:
    """Another algorithm, anything unprotected, any other encoding of the same envelope."""
    assert code_of(data) == code


def test_another_key_is_refused() -> None:
    """The key comes from the caller; what is no key is refused as such."""
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    assert code_of(envelope(), public_key=other) == "cose.signature"
    assert code_of(envelope(), public_key=PUBLIC[:-1]) == "cose.key"
    assert code_of(envelope(), public_key=b"\xff" * 32) == "cose.signature"


def test_an_oversized_envelope_is_refused_before_it_is_read() -> None:
    """The caller's limit is on the whole envelope."""
    data = cose.sign1(bytes(1000), key=KEY)
    assert cose.open1(data, public_key=PUBLIC, limit=len(data)) == bytes(1000)
    assert code_of(data, limit=len(data) - 1) == "encoding.size"


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_changed_envelope_is_refused(data: st.DataObject) -> None:
    """There is no byte of an envelope that can be changed."""
    original = bytearray(envelope())
    at, value = data.draw(st.integers(0, len(original) - 1)), data.draw(st.integers(1, 255))
    original[at] ^= value
    with pytest.raises(EvidenceError):
        cose.open1(bytes(original), public_key=PUBLIC)
