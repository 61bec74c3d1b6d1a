"""Opens `CiphertextForRecipient` with a library's parser: the tests' independent reader of what the emulator writes."""

from __future__ import annotations

from asn1crypto import cms
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def open_cms(data: bytes, private: rsa.RSAPrivateKey) -> bytes:
    """The plaintext; checks the form that authentic answers have on the way."""
    assert data[:2] == b"\x30\x80", "indefinite lengths"
    content = cms.ContentInfo.load(data)
    assert content["content_type"].native == "enveloped_data"
    enveloped = content["content"]
    assert enveloped["version"].native == "v2"
    (information,) = enveloped["recipient_infos"]
    recipient = information.chosen
    assert recipient["version"].native == "v2"
    assert recipient["rid"].name == "subject_key_identifier"
    assert len(recipient["rid"].native) == 32
    algorithm = recipient["key_encryption_algorithm"]
    assert algorithm["algorithm"].native == "rsaes_oaep"
    assert algorithm["parameters"]["hash_algorithm"]["algorithm"].native == "sha256"
    assert algorithm["parameters"]["mask_gen_algorithm"]["parameters"]["algorithm"].native == "sha256"
    oaep = rsa_padding.OAEP(mgf=rsa_padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
    key = private.decrypt(recipient["encrypted_key"].native, oaep)
    encrypted = enveloped["encrypted_content_info"]
    assert encrypted["content_type"].native == "data"
    assert encrypted["content_encryption_algorithm"]["algorithm"].native == "aes256_cbc"
    iv = encrypted["content_encryption_algorithm"]["parameters"].native
    decryptor = Cipher(algorithms.AES256(key), modes.CBC(iv)).decryptor()
    padded = decryptor.update(encrypted["encrypted_content"].native) + decryptor.finalize()
    unpadder = padding.PKCS7(128).unpadder()
    return unpadder.update(padded) + unpadder.finalize()
