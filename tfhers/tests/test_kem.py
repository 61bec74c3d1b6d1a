"""ML-KEM-512, against a vector of another implementation and its own rules."""

from __future__ import annotations

import hashlib
import secrets

import pytest

import tfhers

D, Z, M = (bytes(range(start, start + 32)) for start in (0, 32, 64))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_it_agrees_with_another_implementation() -> None:
    """Keys, ciphertext, shared secret and implicit rejection are those that kyber-py 1.2.0 computes."""
    public, secret = tfhers.ml_kem_512_keypair(D, Z)
    ciphertext, shared = tfhers.ml_kem_512_encapsulate(public, M)
    assert digest(public) == "3ae268dccc5456ac0d0f9b39257dc48fe081383b97c400512d712b739762daee"
    assert digest(secret) == "17fb29b8c4baf74fb81eea15ffd583b3e37f5a5b8dcf6db96c72c3b3751d6f17"
    assert digest(ciphertext) == "81efe667826848514dcae46fc10cfd34f7b95ed6900e094f727c9e7cccc34df2"
    assert shared.hex() == "14cace3e48771b316676afad2cfcfe8488daaa4fad954e57236caa3f24a42cf7"
    altered = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    rejected = "32ee1fb3f7bd2915218e9c1b2d0d2da88f0edce6804278bab3a6123c5bb64fc4"
    assert tfhers.ml_kem_512_decapsulate(secret, altered).hex() == rejected


def test_both_sides_agree() -> None:
    """Whatever the randomness, decapsulation gives what encapsulation gave."""
    for _ in range(20):
        public, secret = tfhers.ml_kem_512_keypair(secrets.token_bytes(32), secrets.token_bytes(32))
        ciphertext, shared = tfhers.ml_kem_512_encapsulate(public, secrets.token_bytes(32))
        assert (len(public), len(secret), len(ciphertext), len(shared)) == (800, 1632, 768, 32)
        assert tfhers.ml_kem_512_decapsulate(secret, ciphertext) == shared


def test_lengths_are_exact() -> None:
    """One byte less or more is refused, for every argument."""
    public, secret = tfhers.ml_kem_512_keypair(D, Z)
    ciphertext, _ = tfhers.ml_kem_512_encapsulate(public, M)
    for wrong in (lambda data: data[:-1], lambda data: data + b"\0", lambda _: b""):
        with pytest.raises(tfhers.FormatError):
            tfhers.ml_kem_512_encapsulate(wrong(public), M)
        with pytest.raises(tfhers.FormatError):
            tfhers.ml_kem_512_encapsulate(public, wrong(M))
        with pytest.raises(tfhers.FormatError):
            tfhers.ml_kem_512_decapsulate(wrong(secret), ciphertext)
        with pytest.raises(tfhers.FormatError):
            tfhers.ml_kem_512_decapsulate(secret, wrong(ciphertext))
        with pytest.raises(tfhers.FormatError):
            tfhers.ml_kem_512_keypair(wrong(D), Z)


def test_a_public_key_out_of_range_is_refused() -> None:
    """FIPS 203's modulus check: a coefficient of 4095 is not below 3329."""
    public, _ = tfhers.ml_kem_512_keypair(D, Z)
    with pytest.raises(tfhers.FormatError, match="out of range"):
        tfhers.ml_kem_512_encapsulate(b"\xff\xff\xff" + public[3:], M)


def test_a_secret_key_put_together_from_two_is_refused() -> None:
    """FIPS 203's hash check: the public key inside a secret key is the one it was made with."""
    _, secret = tfhers.ml_kem_512_keypair(D, Z)
    _, other = tfhers.ml_kem_512_keypair(Z, D)
    ciphertext = bytes(768)
    for mixed in (secret[:768] + other[768:1568] + secret[1568:], secret[:1568] + other[1568:1600] + secret[1600:]):
        with pytest.raises(tfhers.FormatError, match="belong together"):
            tfhers.ml_kem_512_decapsulate(mixed, ciphertext)
