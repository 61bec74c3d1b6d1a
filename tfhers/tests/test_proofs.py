"""Lists with proofs, and the reference string they are made with."""

from __future__ import annotations

import hashlib

import pytest
from insecure_keys import OTHER_SEED, TAG, Keys

import tfhers

METADATA = b"contract | user | acl | chain".ljust(92, b".")
VALUES = [("uint64", 2**64 - 9), ("bool", 1)]


@pytest.fixture(scope="module", params=["verify", "proof"])
def proven(request: pytest.FixtureRequest, keys: Keys) -> bytes:
    return keys.public.encrypt_with_proof(VALUES, keys.crs, METADATA, load=request.param)


def test_a_proven_list_expands(keys: Keys, proven: bytes) -> None:
    """What was proven is what is expanded, compressed and decrypted, for both loads."""
    tfhers.verify(proven, keys.public, keys.crs, METADATA)
    expanded = tfhers.verify_and_expand(proven, keys.public, keys.crs, METADATA, keys.server)
    packed = tfhers.compress(expanded, keys.server)
    assert [keys.client.decrypt_packed(packed, index=index) for index in range(2)] == VALUES


@pytest.mark.parametrize("metadata", [b"", METADATA[:-1], METADATA + b".", METADATA.swapcase()])
def test_a_proof_for_other_metadata_is_refused(keys: Keys, proven: bytes, metadata: bytes) -> None:
    """A list proven for one contract and user cannot be submitted for another."""
    with pytest.raises(tfhers.ProofError):
        tfhers.verify(proven, keys.public, keys.crs, metadata)
    with pytest.raises(tfhers.ProofError):
        tfhers.verify_and_expand(proven, keys.public, keys.crs, metadata, keys.server)


def test_a_proof_under_another_public_key_is_refused(keys: Keys, proven: bytes) -> None:
    """A stranger's key does not vouch for a list."""
    stranger = tfhers.ClientKey.from_seed(OTHER_SEED, tag=TAG).compact_public_key()
    with pytest.raises(tfhers.ProofError):
        tfhers.verify(proven, tfhers.PublicKey.from_bytes(stranger), keys.crs, METADATA)


def test_a_changed_list_does_not_pass(keys: Keys, proven: bytes) -> None:
    """A bit flipped anywhere, in ciphertext or proof, makes the list malformed or the proof false."""
    for at in range(300, len(proven), len(proven) // 24):
        changed = bytearray(proven)
        changed[at] ^= 4
        with pytest.raises(tfhers.TfheError):
            tfhers.verify(bytes(changed), keys.public, keys.crs, METADATA)


def test_a_list_without_proof_is_not_verified(keys: Keys, proven: bytes) -> None:
    """Lists with and without proof are not taken for each other."""
    plain = keys.public.encrypt(VALUES)
    with pytest.raises(tfhers.FormatError):
        tfhers.verify(plain, keys.public, keys.crs, METADATA)
    with pytest.raises(tfhers.FormatError):
        tfhers.expand(proven, keys.server)


def test_a_longer_list_than_the_string_allows_is_refused(keys: Keys) -> None:
    """More than 2048 bits are refused before anything is proven, and metadata has a limit."""
    with pytest.raises(tfhers.TfheError, match="too many"):
        keys.public.encrypt_with_proof([("uint256", 1)] * 9, keys.crs, METADATA)
    with pytest.raises(tfhers.TfheError, match="too long"):
        keys.public.encrypt_with_proof(VALUES, keys.crs, b"m" * 70_000)
    with pytest.raises(ValueError, match="load"):
        keys.public.encrypt_with_proof(VALUES, keys.crs, METADATA, load="fast")


def test_a_reference_string_is_fixed_by_its_seed(keys: Keys) -> None:
    """Seed and size make the string, today as on the day on which this digest was taken; sizes have bounds."""
    made = tfhers.Crs.generate(4, tfhers.Seed.from_bytes(b"c" * 32))
    assert made.bits == 4
    digest = hashlib.sha256(made.to_bytes()).hexdigest()
    assert digest == "eb1a6f18d3d4db1f7618eb8394d9ce6ac787e4297543416dd54af4050ec45158"
    assert keys.crs.bits == 2048
    for bits in (0, 2049):
        with pytest.raises(ValueError, match="bits"):
            tfhers.Crs.generate(bits, b"c" * 32)


def test_a_reference_string_is_checked_when_read(keys: Keys) -> None:
    """Without a digest each point is checked; with one, no other string passes."""
    data = keys.crs_file.read_bytes()
    assert tfhers.Crs.from_bytes(data).to_bytes() == data
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    with pytest.raises(tfhers.FormatError):
        tfhers.Crs.from_bytes(bytes(changed))
    with pytest.raises(tfhers.FormatError, match="digest"):
        tfhers.Crs.from_bytes(bytes(changed), sha256=hashlib.sha256(data).digest())
    for cut in (b"", data[:-1], data + b"\0"):
        with pytest.raises(tfhers.FormatError):
            tfhers.Crs.from_bytes(cut)
