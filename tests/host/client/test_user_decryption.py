"""The user's side of a re-encryption, against the enclave's."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import pytest
from cipherkeep_attestation.statements import eip712, fhevm
from cipherkeep_enclave.operations import signcryption
from cipherkeep_host.client.user_decryption import UserKey, open_payload
from cipherkeep_host.errors import HostError

from tests.simulators.coprocessor import TERMS, SimulatedUser, secp256k1

ALICE, BOB = SimulatedUser("alice"), SimulatedUser("bob")
PARTY, MALLORY = secp256k1("party"), secp256k1("mallory")
HANDLES = [b"\x01" * 32, b"\x02" * 32, b"\x03" * 32]
VALUES = [("bool", 1), ("uint64", 0x1122334455667788), ("uint160", (1 << 160) - 1)]


@pytest.fixture(scope="module")
def key() -> UserKey:
    """Alice's pair."""
    return UserKey.generate()


def address(private: Any) -> bytes:
    return eip712.address_of(private.public_key.format(compressed=False))


def seal(
    key: UserKey,
    values: Sequence[tuple[str, int]],
    handles: Sequence[bytes],
    *,
    user: bytes,
    signing: Any,
    named: Any = None,
) -> bytes:
    """A payload as an enclave makes it."""
    recipient = signcryption.Recipient.of(user, key.public_key)
    verification = signcryption.verification_key((named or signing).public_key.format())
    link = TERMS.decryption.digest(fhevm.user_decryption_link(key.public_key, handles, user))
    rows = []
    for (name, value), handle in zip(values, handles, strict=True):
        number = fhevm.TYPES[name][0]
        made = signcryption.signcrypt(
            signcryption.plaintext_bytes(name, value),
            number,
            link=link,
            recipient=recipient,
            key=signing,
            verification=verification,
            randomness=secrets.token_bytes(44),
        )
        rows.append((number, made, handle))
    return signcryption.payload(rows, link=link, verification=verification, party=1, degree=0)


def sealed(key: UserKey, *, signing: Any = PARTY, named: Any = None) -> bytes:
    """Alice's payload."""
    return seal(key, VALUES, HANDLES, user=ALICE.address, signing=signing, named=named)


def opened(payload: bytes, key: UserKey, **other: Any) -> Any:
    how = {"user": ALICE.address, "handles": HANDLES, "terms": TERMS, "signer": address(PARTY), **other}
    return open_payload(payload, key=key, **how)


def test_what_the_enclave_seals_opens(key: UserKey) -> None:
    """Types and values of all ciphertexts, in their order."""
    assert list(opened(sealed(key), key)) == VALUES


def test_it_opens_for_nobody_else(key: UserKey) -> None:
    """Another key, user, order of handles, domain or party is refused."""
    payload = sealed(key)
    attempts: list[dict[str, Any]] = [
        {"user": BOB.address},
        {"handles": HANDLES[::-1]},
        {"handles": HANDLES[:2]},
        {"signer": address(MALLORY)},
    ]
    for other in attempts:
        with pytest.raises(HostError) as refusal:
            opened(payload, key, **other)
        assert refusal.value.code == "client.opening"
    with pytest.raises(HostError):
        opened(payload, UserKey.generate())
    with pytest.raises(HostError):
        opened(payload, UserKey(key.public_key, UserKey.generate().secret))


def test_a_forged_payload_is_refused(key: UserKey) -> None:
    """Anyone can encrypt to a user; only the party can sign for it."""
    with pytest.raises(HostError):
        opened(sealed(key, signing=MALLORY, named=PARTY), key)
    with pytest.raises(HostError):
        opened(sealed(key, signing=MALLORY), key)


def test_no_mutation_opens_or_crashes(key: UserKey) -> None:
    """A byte changed, cut or added anywhere is refused with the one code, or changes only the party's number."""
    payload = sealed(key)
    for at in range(0, len(payload), 7):
        for changed in (
            payload[:at] + bytes((payload[at] ^ 1,)) + payload[at + 1 :],
            payload[:at],
            payload[:at] + b"\0" + payload[at:],
        ):
            try:
                result = opened(changed, key)
            except HostError as refusal:
                assert refusal.code == "client.opening"
            else:
                assert list(result) == VALUES and len(payload) - 8 <= at < len(payload) - 4


def test_the_secret_is_not_shown(key: UserKey) -> None:
    """Nothing of the secret key is in its representation."""
    assert "secret" not in repr(key)
