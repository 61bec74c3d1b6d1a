"""The CMS messages of the emulated AWS KMS: their form, and two readers that are not ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cipherkeep_host.emulated.aws_cms import envelop, recipient_key
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.host.emulated.cms import open_cms


@pytest.fixture(scope="module")
def private() -> rsa.RSAPrivateKey:
    """A recipient's key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 32, 33, 1024])
def test_every_length_opens(private: rsa.RSAPrivateKey, length: int) -> None:
    """Padding and chunks at every boundary."""
    plaintext = bytes(range(256)) * 4
    assert open_cms(envelop(plaintext[:length], private.public_key()), private) == plaintext[:length]


def test_openssl_opens_it(private: rsa.RSAPrivateKey, folder: Path) -> None:
    """`openssl cms -decrypt` reads the message with nothing but the private key."""
    key = folder / "key.pem"
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    message = envelop(b"a data key of thirty-two bytes!!", private.public_key())
    command = ["openssl", "cms", "-decrypt", "-inform", "DER", "-inkey", str(key)]
    done = subprocess.run(command, input=message, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"a data key of thirty-two bytes!!"


def test_it_has_the_size_of_authentic_answers(private: rsa.RSAPrivateKey) -> None:
    """An authentic answer to a six-byte plaintext under RSA-2048 has 461 bytes; so has ours."""
    assert len(envelop(b"sixsix", private.public_key())) == 461


def test_a_stranger_does_not_open_it(private: rsa.RSAPrivateKey) -> None:
    """Another key of the same size opens nothing."""
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(ValueError):
        open_cms(envelop(b"secret", private.public_key()), other)


def test_only_rsa_keys_of_kms_sizes_are_taken(private: rsa.RSAPrivateKey) -> None:
    """2048 bits pass; other sizes and garbage are named."""

    def spki(key: rsa.RSAPrivateKey) -> bytes:
        return key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    assert recipient_key(spki(private)).key_size == 2048
    for wrong in (b"", b"\x30\x00", spki(rsa.generate_private_key(public_exponent=65537, key_size=1024))):
        with pytest.raises(ValueError, match="public key of the document"):
            recipient_key(wrong)
