"""Seeds, key sets and sealed keys."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import textwrap

import pytest
from insecure_keys import OTHER_SEED, SEED, TAG, Keys

import tfhers

SEALING = b"k" * 32
# Sealed once under `SEALING` with the data "frozen".
FROZEN = bytes.fromhex(
    "01c578a3c9129c4b4f173711e8227167ddf904a40fc94b0eb3cf81184d0cbac35d72c1c1b3dd23415421232b971b653c"
    "611321e7cd76ac6d55376414da9cde730414a5215332a00a40201f9885811d44d5a293ad0758aa58fc29086561ea4ec7"
    "42959fdf3f1ef334c4bfc45af02fe33c2edf8af7a105d85ce9d321a7084020e14fc0c34882630864903c1acbbf52166b"
    "edcdd4"
)
FROZEN_DIGEST = "9b57a626df7f219d9af54f54e7ec3b8f045ac74fab7ad41f507d45144b3a81b3"


def in_another_process(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, **environment},
    )
    return done.stdout.strip()


def test_the_whole_set_is_the_same_in_another_process_on_one_thread(keys: Keys) -> None:
    """A seed fixes every byte of a key set, whatever process and however many threads make it."""
    program = f"""
        import hashlib, tfhers
        made = tfhers.KeySet.from_seed({SEED!r}, tag={TAG!r})
        parts = [made.client_key().insecure_export(), made.compact_public_key(), made.compressed_server_key()]
        print(*[hashlib.sha256(part).hexdigest() for part in parts])
    """
    theirs = in_another_process(program, RAYON_NUM_THREADS="1").split()
    ours = [keys.client.insecure_export(), keys.public_file.read_bytes(), keys.server_file.read_bytes()]
    assert theirs == [hashlib.sha256(part).hexdigest() for part in ours]


def test_the_fast_client_and_public_keys_are_those_of_the_set(keys: Keys) -> None:
    """The keys made in a millisecond from the seed are those that the whole set carries."""
    assert keys.server.compact_public_key() == keys.client.compact_public_key()
    assert keys.server.tag == keys.public.tag == keys.client.tag == TAG


def test_a_seed_makes_the_same_key_for_ever(keys: Keys) -> None:
    """The way from seed to keys never changes: these digests were taken from version 0.1.0."""
    secret, public = keys.client.insecure_export(), keys.client.compact_public_key()
    assert hashlib.sha256(secret).hexdigest() == "a901ff47d2d94f7e11ccb76e4a3612e762147733680bc666dc4141d114cd3f0d"
    assert hashlib.sha256(public).hexdigest() == "5ea9bb1542b5f1f7542b3c805e59be573833be0717b38dba439cec990119e166"


def test_another_seed_is_another_key() -> None:
    """One flipped bit in the seed changes secret and public key."""
    flipped = bytes([SEED[0] ^ 1]) + SEED[1:]
    one, other = tfhers.ClientKey.from_seed(SEED), tfhers.ClientKey.from_seed(flipped)
    assert one.insecure_export() != other.insecure_export()
    assert one.compact_public_key() != other.compact_public_key()


def test_a_seed_handle_is_worth_its_bytes() -> None:
    """Handles and bytes make the same key, and HKDF is the one of RFC 5869."""
    ikm, salt, info = b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA))
    # RFC 5869, A.1: the first 32 of its 42 bytes are what a 32-byte expansion gives.
    okm = bytes.fromhex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf")
    derived = tfhers.ClientKey.from_seed(tfhers.Seed.hkdf(ikm, salt, info))
    assert derived.insecure_export() == tfhers.ClientKey.from_seed(okm).insecure_export()
    assert tfhers.ClientKey.from_seed(tfhers.Seed.from_bytes(okm)).insecure_export() == derived.insecure_export()


@pytest.mark.parametrize("seed", [b"", b"s" * 31, b"s" * 33])
def test_a_seed_of_another_length_is_refused(seed: bytes) -> None:
    """Nothing is padded or cut to 32 bytes."""
    with pytest.raises(ValueError, match="32 bytes"):
        tfhers.ClientKey.from_seed(seed)
    with pytest.raises(ValueError, match="32 bytes"):
        tfhers.Seed.from_bytes(seed)


def test_short_key_material_is_refused() -> None:
    """A password is no key material."""
    with pytest.raises(ValueError, match="16 bytes"):
        tfhers.Seed.hkdf(b"hunter2", b"", b"")


def test_unknown_parameters_and_long_tags_are_refused() -> None:
    """A name that is not in `PARAMETERS` makes no key."""
    with pytest.raises(tfhers.TfheError, match="unknown name"):
        tfhers.ClientKey.from_seed(SEED, parameters="v1_8")
    with pytest.raises(tfhers.TfheError, match="too long"):
        tfhers.ClientKey.from_seed(SEED, tag=b"t" * 1025)


def test_a_sealed_key_opens_to_the_same_key(keys: Keys) -> None:
    """After a restart the sealed blob gives back secret, public key and tag, without the seed in Python."""
    blob = keys.client.seal(SEALING, b"vault/1")
    opened = tfhers.ClientKey.unseal(SEALING, blob, b"vault/1")
    assert opened.insecure_export() == keys.client.insecure_export()
    assert opened.compact_public_key() == keys.client.compact_public_key()
    assert opened.tag == TAG
    handle = tfhers.Seed.from_bytes(SEALING)
    assert tfhers.ClientKey.unseal(handle, blob, b"vault/1").tag == TAG
    assert blob != keys.client.seal(SEALING, b"vault/1"), "each sealing has a fresh nonce"
    assert SEED not in blob


def test_a_sealed_key_opens_under_its_key_and_data_only(keys: Keys) -> None:
    """Another key, another record's data, or a change of any byte is refused."""
    blob = keys.client.seal(SEALING, b"vault/1")
    attempts = [(b"K" * 32, blob, b"vault/1"), (SEALING, blob, b"vault/2"), (SEALING, blob, b"")]
    attempts += [(SEALING, blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :], b"vault/1") for at in range(len(blob))]
    attempts += [(SEALING, blob[:length], b"vault/1") for length in range(len(blob))]
    attempts += [(SEALING, blob + b"\0", b"vault/1"), (SEALING, b"\x01" * 5000, b"vault/1")]
    for key, sealed, aad in attempts:
        with pytest.raises(tfhers.FormatError):
            tfhers.ClientKey.unseal(key, sealed, aad)


def test_a_frozen_sealed_key_still_opens() -> None:
    """What an earlier version sealed opens for ever: this blob was sealed by version 0.1.0."""
    opened = tfhers.ClientKey.unseal(SEALING, FROZEN, b"frozen")
    assert opened.tag == b"frozen tag"
    digest = hashlib.sha256(opened.insecure_export()).hexdigest()
    assert digest == FROZEN_DIGEST


def test_handles_show_nothing(keys: Keys) -> None:
    """Neither text nor pickle of a handle contains key material."""
    for handle in (keys.client, tfhers.Seed.from_bytes(SEED), keys.server, keys.public, keys.crs):
        assert len(repr(handle)) < 80
        assert SEED.decode() not in repr(handle)
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(handle)


def test_a_server_key_of_other_form_is_refused(keys: Keys) -> None:
    """A public key is no server key, and half a server key is none."""
    with pytest.raises(tfhers.FormatError):
        tfhers.ServerKey.load(keys.public_file.read_bytes())
    data = keys.server_file.read_bytes()
    for damaged in (data[:-1], data + b"\0", data[: len(data) // 2]):
        with pytest.raises(tfhers.FormatError):
            tfhers.ServerKey.load(damaged)
    with pytest.raises(ValueError, match="threads"):
        tfhers.ServerKey.load(data, threads=5000)


def test_another_key_decrypts_to_something_else(keys: Keys) -> None:
    """A list carries no integrity: the wrong key gives a value, not an error. Callers bind digests."""
    data = keys.packed(("uint256", 1 << 200))
    stranger = tfhers.ClientKey.from_seed(OTHER_SEED, tag=TAG)
    kind, value = stranger.decrypt_packed(data)
    assert kind == "uint256"
    assert value != 1 << 200
