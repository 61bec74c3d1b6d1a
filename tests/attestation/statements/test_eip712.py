"""Typed data against an implementation that is not ours: eth-account."""

from __future__ import annotations

from typing import Any

import pytest
from cipherkeep_attestation.errors import EvidenceError, Malformed, Untrusted
from cipherkeep_attestation.statements import eip712, fhevm
from cipherkeep_attestation.statements.binding import Ciphertext, Grant
from cipherkeep_attestation.statements.eip712 import Domain
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulators.coprocessor import ORDER, address, high_s, secp256k1

DOMAIN = Domain("Decryption", "1", 10901, b"\xdc" * 20)
KEY = secp256k1("signer")

DOMAIN_FIELDS = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
    {"name": "verifyingContract", "type": "address"},
]


def typed_data(domain: Domain, types: dict[str, list[tuple[str, str]]], message: dict[str, Any]) -> dict[str, Any]:
    """What a wallet is shown; the first type is the primary one."""
    return {
        "types": {
            "EIP712Domain": DOMAIN_FIELDS,
            **{name: [{"name": field, "type": kind} for field, kind in fields] for name, fields in types.items()},
        },
        "primaryType": next(iter(types)),
        "domain": {
            "name": domain.name,
            "version": domain.version,
            "chainId": domain.chain_id,
            "verifyingContract": eip712.checksum(domain.verifying_contract),
        },
        "message": message,
    }


def same(domain: Domain, struct: bytes, types: dict[str, list[tuple[str, str]]], message: dict[str, Any]) -> None:
    """Our digest is theirs, their signature is ours, and each side recovers the other's."""
    data = typed_data(domain, types, message)
    digest = domain.digest(struct)
    ours = eip712.sign(digest, KEY)
    theirs = Account.sign_typed_data(KEY.secret, full_message=data)
    assert bytes(theirs.message_hash) == digest
    assert bytes(theirs.signature) == ours
    assert eip712.recover(digest, bytes(theirs.signature)) == address(KEY)
    recovered = Account.recover_message(encode_typed_data(full_message=data), signature=ours)
    assert recovered == eip712.checksum(address(KEY))


raw32, raw20 = st.binary(min_size=32, max_size=32), st.binary(min_size=20, max_size=20)
domains = st.builds(
    Domain,
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.text("0123456789.", max_size=5),
    st.integers(0, (1 << 256) - 1),
    raw20,
)
free = st.binary(max_size=100)
each = settings(max_examples=25, deadline=None)


@each
@given(domain=domains, handles=st.lists(raw32, max_size=4), result=free, extra=free)
def test_public_decryption(domain: Domain, handles: list[bytes], result: bytes, extra: bytes) -> None:
    """PublicDecryptVerification, which fhEVM's contracts check."""
    types = {
        "PublicDecryptVerification": [
            ("ctHandles", "bytes32[]"),
            ("decryptedResult", "bytes"),
            ("extraData", "bytes"),
        ]
    }
    message = {"ctHandles": handles, "decryptedResult": result, "extraData": extra}
    same(domain, fhevm.public_decryption(handles, result, extra), types, message)


@each
@given(
    domain=domains,
    key=free,
    contracts=st.lists(raw20, max_size=4),
    start=st.integers(0, 1 << 62),
    days=st.integers(1, 365),
    extra=free,
)
def test_user_decryption_request(
    domain: Domain, key: bytes, contracts: list[bytes], start: int, days: int, extra: bytes
) -> None:
    """UserDecryptRequestVerification, which a user's wallet signs."""
    types = {
        "UserDecryptRequestVerification": [
            ("publicKey", "bytes"),
            ("contractAddresses", "address[]"),
            ("startTimestamp", "uint256"),
            ("durationDays", "uint256"),
            ("extraData", "bytes"),
        ]
    }
    message = {
        "publicKey": key,
        "contractAddresses": [eip712.checksum(item) for item in contracts],
        "startTimestamp": start,
        "durationDays": days,
        "extraData": extra,
    }
    struct = fhevm.user_decryption_request(key, contracts, start=start, days=days, extra_data=extra)
    same(domain, struct, types, message)


@each
@given(domain=domains, key=free, handles=st.lists(raw32, max_size=4), user=raw20)
def test_user_decryption_link(domain: Domain, key: bytes, handles: list[bytes], user: bytes) -> None:
    """UserDecryptionLinker, which ties ciphertexts to a user."""
    types = {"UserDecryptionLinker": [("publicKey", "bytes"), ("handles", "bytes32[]"), ("userAddress", "address")]}
    message = {"publicKey": key, "handles": handles, "userAddress": eip712.checksum(user)}
    same(domain, fhevm.user_decryption_link(key, handles, user), types, message)


@each
@given(domain=domains, key=free, handles=st.lists(raw32, max_size=4), payload=free, extra=free)
def test_user_decryption_response(
    domain: Domain, key: bytes, handles: list[bytes], payload: bytes, extra: bytes
) -> None:
    """UserDecryptResponseVerification, which the client library checks."""
    types = {
        "UserDecryptResponseVerification": [
            ("publicKey", "bytes"),
            ("ctHandles", "bytes32[]"),
            ("userDecryptedShare", "bytes"),
            ("extraData", "bytes"),
        ]
    }
    message = {"publicKey": key, "ctHandles": handles, "userDecryptedShare": payload, "extraData": extra}
    same(domain, fhevm.user_decryption_response(key, handles, payload, extra), types, message)


@each
@given(domain=domains, prepared=raw32, key=raw32, digests=st.lists(st.tuples(st.integers(0, 255), free), max_size=3))
def test_key_generation(domain: Domain, prepared: bytes, key: bytes, digests: list[tuple[int, bytes]]) -> None:
    """KeygenVerification, with an array of structs."""
    types = {
        "KeygenVerification": [("prepKeygenId", "uint256"), ("keyId", "uint256"), ("keyDigests", "KeyDigest[]")],
        "KeyDigest": [("keyType", "uint8"), ("digest", "bytes")],
    }
    message = {
        "prepKeygenId": int.from_bytes(prepared, "big"),
        "keyId": int.from_bytes(key, "big"),
        "keyDigests": [{"keyType": kind, "digest": digest} for kind, digest in digests],
    }
    same(domain, fhevm.key_generation(prepared, key, digests), types, message)


@each
@given(
    domain=domains,
    handle=raw32,
    key=raw32,
    kind=st.integers(0, 255),
    form=st.integers(0, 255),
    digest=raw32,
    owner=raw20,
)
def test_ciphertext_binding(
    domain: Domain, handle: bytes, key: bytes, kind: int, form: int, digest: bytes, owner: bytes
) -> None:
    """CiphertextBinding, which coprocessors sign; chain and ACL are the domain's."""
    types = {
        "CiphertextBinding": [
            ("chainId", "uint256"),
            ("acl", "address"),
            ("handle", "bytes32"),
            ("keyId", "bytes32"),
            ("fheType", "uint8"),
            ("format", "uint8"),
            ("digest", "bytes32"),
            ("owner", "address"),
        ]
    }
    message = {
        "chainId": domain.chain_id,
        "acl": eip712.checksum(domain.verifying_contract),
        "handle": handle,
        "keyId": key,
        "fheType": kind,
        "format": form,
        "digest": digest,
        "owner": eip712.checksum(owner),
    }
    same(domain, Ciphertext(handle, kind, form, digest, owner, ()).struct_hash(key, domain), types, message)


@each
@given(domain=domains, handle=raw32, user=raw20, until=st.integers(0, 1 << 62))
def test_grant(domain: Domain, handle: bytes, user: bytes, until: int) -> None:
    """Grant, which an owner's wallet signs."""
    types = {"Grant": [("handle", "bytes32"), ("user", "address"), ("validUntil", "uint256")]}
    message = {"handle": handle, "user": eip712.checksum(user), "validUntil": until}
    digest = Grant(handle, user, until, bytes(65)).signed_digest(domain)
    data = typed_data(domain, types, message)
    signed = Account.sign_typed_data(KEY.secret, full_message=data)
    assert bytes(signed.message_hash) == digest
    assert eip712.recover(digest, bytes(signed.signature)) == address(KEY)


@each
@given(value=raw20)
def test_addresses_as_people_read_them(value: bytes) -> None:
    """EIP-55 checksums as eth-utils writes them."""
    from eth_utils.address import to_checksum_address

    assert eip712.checksum(value) == to_checksum_address(value)


def test_values_are_abi_words() -> None:
    """decryptedResult is abi.encode of the values as uint256."""
    from eth_abi.abi import encode

    values = [0, 1, 255, (1 << 160) - 1, (1 << 256) - 1]
    assert fhevm.decrypted_result(values) == encode(["uint256"] * 5, values)


# --- signatures have one form ---


def test_the_high_s_twin_is_refused() -> None:
    """A second signature over the same digest by the same key, which some libraries accept, is none here."""
    digest = DOMAIN.digest(bytes(32))
    signature = eip712.sign(digest, KEY)
    twin = high_s(signature)
    assert int.from_bytes(twin[32:64], "big") > ORDER // 2
    with pytest.raises(Malformed) as refusal:
        eip712.recover(digest, twin)
    assert refusal.value.code == "eip712.high_s"


def test_the_middle_of_the_order_is_the_border() -> None:
    """s may be at most (order - 1) / 2."""
    digest = DOMAIN.digest(bytes(32))
    r = eip712.sign(digest, KEY)[:32]
    half = (ORDER - 1) // 2
    assert len(eip712.recover(digest, r + half.to_bytes(32, "big") + b"\x1b")) == 20
    with pytest.raises(Malformed):
        eip712.recover(digest, r + (half + 1).to_bytes(32, "big") + b"\x1b")


@pytest.mark.parametrize("v", [0, 1, 2, 26, 29, 30, 35, 36, 255])
def test_v_is_27_or_28(v: int) -> None:
    """Recovery ids, EIP-155 and other forms are refused."""
    digest = DOMAIN.digest(bytes(32))
    signature = eip712.sign(digest, KEY)[:64] + bytes([v])
    with pytest.raises(Malformed) as refusal:
        eip712.recover(digest, signature)
    assert refusal.value.code == "eip712.signature"


@pytest.mark.parametrize(
    "signature", [b"", bytes(64), bytes(66), bytes(64) + b"\x1b", b"\xff" * 32 + bytes(32) + b"\x1b"]
)
def test_what_is_no_signature_is_refused(signature: bytes) -> None:
    """Wrong lengths, zeros, and an r that is no coordinate end in an `EvidenceError`."""
    with pytest.raises(EvidenceError):
        eip712.recover(bytes(32), signature)


@settings(max_examples=100, deadline=None)
@given(digest=raw32, signature=st.binary(min_size=64, max_size=64), v=st.sampled_from([27, 28]))
def test_any_bytes_recover_someone_or_are_refused(digest: bytes, signature: bytes, v: int) -> None:
    """Noise never recovers a signer that we know, and never raises anything else."""
    try:
        found = eip712.recover(digest, signature + bytes([v]))
    except (Malformed, Untrusted):
        return
    assert len(found) == 20
    assert found != address(KEY)


@pytest.mark.parametrize("field", ["name", "version", "chain_id", "verifying_contract"])
def test_every_field_of_the_domain_is_signed(field: str) -> None:
    """A signature for one domain recovers to a stranger under another."""
    from dataclasses import replace

    change: dict[str, Any] = {"name": "Other", "version": "2", "chain_id": 1, "verifying_contract": bytes(20)}
    other = replace(DOMAIN, **{field: change[field]})
    signature = eip712.sign(DOMAIN.digest(bytes(32)), KEY)
    assert eip712.recover(other.digest(bytes(32)), signature) != address(KEY)


def test_words_have_their_length() -> None:
    """An address of 19 bytes or a bytes32 of 31 is refused instead of padded."""
    for call, size in ((eip712.address, 19), (eip712.address, 21), (eip712.bytes32, 31), (eip712.bytes32, 33)):
        with pytest.raises(Malformed):
            call(bytes(size))
