"""The only place that writes `CiphertextForRecipient`: the CMS message in which AWS KMS answers an attested caller.

ContentInfo(envelopedData v2) in BER with indefinite lengths; one KeyTransRecipientInfo v2 with [0] subjectKeyIdentifier
of 32 bytes; RSAES-OAEP with SHA-256, MGF1 with SHA-256 and an empty label; id-data under AES-256-CBC; the ciphertext
constructed from OCTET STRING chunks. Source: authentic answers of AWS KMS; RFC 5652 §6, RFC 4055 §4.1, RFC 3565.
"""

from __future__ import annotations

import hashlib
import os

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

KEY_SIZES = (2048, 3072, 4096)  # bits that AWS KMS takes
CHUNK = 32  # bytes; so small that a wrapped data key has two chunks, and a client that reads only the first one fails

_SEQUENCE, _SET, _OCTETS, _INTEGER = 0x30, 0x31, 0x04, 0x02
_CONTEXT_0, _CONTEXT_0_CONSTRUCTED, _CONTEXT_1_CONSTRUCTED = 0x80, 0xA0, 0xA1
_END = b"\x00\x00"
_NULL = b"\x05\x00"
_ENVELOPED_DATA = bytes.fromhex("06092a864886f70d010703")  # 1.2.840.113549.1.7.3
_DATA = bytes.fromhex("06092a864886f70d010701")  # 1.2.840.113549.1.7.1
_RSAES_OAEP = bytes.fromhex("06092a864886f70d010107")  # 1.2.840.113549.1.1.7
_MGF1 = bytes.fromhex("06092a864886f70d010108")  # 1.2.840.113549.1.1.8
_SHA256 = bytes.fromhex("0609608648016503040201")  # 2.16.840.1.101.3.4.2.1
_AES256_CBC = bytes.fromhex("060960864801650304012a")  # 2.16.840.1.101.3.4.1.42


def recipient_key(spki: bytes) -> rsa.RSAPublicKey:
    """The RSA key in a document's `public_key` (DER SubjectPublicKeyInfo). ValueError if KMS would not take it."""
    try:
        key = serialization.load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("the public key of the document is no SubjectPublicKeyInfo") from error
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size not in KEY_SIZES:
        raise ValueError("the public key of the document is not RSA of 2048, 3072 or 4096 bits")
    return key


def envelop(plaintext: bytes, key: rsa.RSAPublicKey) -> bytes:
    """`plaintext` as a CMS EnvelopedData that only the holder of the private key opens."""
    content_key, iv = os.urandom(32), os.urandom(16)
    oaep = rsa_padding.OAEP(mgf=rsa_padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES256(content_key), modes.CBC(iv)).encryptor()
    ciphertext = encryptor.update(padder.update(plaintext) + padder.finalize()) + encryptor.finalize()

    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    digest = _der(_SEQUENCE, _SHA256 + _NULL)
    mask = _der(_SEQUENCE, _MGF1 + digest)
    parameters = _der(_CONTEXT_0_CONSTRUCTED, digest) + _der(_CONTEXT_1_CONSTRUCTED, mask)
    recipient = _der(
        _SEQUENCE,
        _der(_INTEGER, b"\x02")
        + _der(_CONTEXT_0, hashlib.sha256(spki).digest())
        + _der(_SEQUENCE, _RSAES_OAEP + _der(_SEQUENCE, parameters))
        + _der(_OCTETS, key.encrypt(content_key, oaep)),
    )
    chunks = b"".join(_der(_OCTETS, ciphertext[start : start + CHUNK]) for start in range(0, len(ciphertext), CHUNK))
    content = _ber(
        _SEQUENCE,
        _DATA + _der(_SEQUENCE, _AES256_CBC + _der(_OCTETS, iv)) + _ber(_CONTEXT_0_CONSTRUCTED, chunks),
    )
    enveloped = _ber(_SEQUENCE, _der(_INTEGER, b"\x02") + _der(_SET, recipient) + content)
    return _ber(_SEQUENCE, _ENVELOPED_DATA + _ber(_CONTEXT_0_CONSTRUCTED, enveloped))


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(size))) + size + content


def _ber(tag: int, content: bytes) -> bytes:
    """A constructed value of indefinite length."""
    return bytes((tag, 0x80)) + content + _END
