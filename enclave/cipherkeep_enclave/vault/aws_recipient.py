"""The only place that opens `CiphertextForRecipient`: the CMS message in which AWS KMS answers an attested caller.

Real answers are BER with indefinite lengths: EnvelopedData v2 with one recipient (KeyTransRecipientInfo v2, subject key
identifier, RSAES-OAEP with SHA-256) and AES-256-CBC content in chunks. CBC has no integrity: TLS to the service ends
here, and what comes out is used as the key of an AEAD.
Source: RFC 5652 §6, RFC 4055 §4.1, RFC 3565; authentic answers.
"""

from __future__ import annotations

from typing import Any

from asn1crypto import cms
from cipherkeep_wire.errors import ServiceError
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

MAX_MESSAGE = 1 << 14  # bytes; a data key in an RSA-4096 envelope takes under 1,000
_BLOCK = 128  # bits
_OAEP = rsa_padding.OAEP(mgf=rsa_padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


def open_envelope(message: bytes, key: rsa.RSAPrivateKey) -> bytes:
    """The content. `ServiceError("vault.kms_answer")` for anything that is not exactly this form, or another's key."""
    if len(message) > MAX_MESSAGE:
        raise ServiceError("vault.kms_answer", "an envelope larger than any")
    try:
        return _open(message, key)
    except ServiceError:
        raise
    # Parsing is lazy and raises what it likes; none of it may say more than that the envelope does not open, because
    # differences between failures are what padding attacks live on.
    except Exception:  # noqa: BLE001
        raise ServiceError("vault.kms_answer", "the envelope does not open") from None


def _open(message: bytes, key: rsa.RSAPrivateKey) -> bytes:
    outer = cms.ContentInfo.load(message, strict=True)
    _demand(outer["content_type"].native == "enveloped_data")
    enveloped = outer["content"]
    _demand(enveloped["version"].native == "v2" and len(enveloped["recipient_infos"]) == 1)
    _demand(not enveloped["originator_info"].native and not enveloped["unprotected_attrs"].native)
    choice = enveloped["recipient_infos"][0]
    _demand(choice.name == "ktri")
    recipient = choice.chosen
    _demand(recipient["version"].native == "v2" and recipient["rid"].name == "subject_key_identifier")
    _check_oaep(recipient["key_encryption_algorithm"])
    content = enveloped["encrypted_content_info"]
    _demand(content["content_type"].native == "data")
    algorithm = content["content_encryption_algorithm"]
    _demand(algorithm["algorithm"].native == "aes256_cbc")
    content_key = key.decrypt(recipient["encrypted_key"].native, _OAEP)
    _demand(len(content_key) == 32)
    decryptor = Cipher(algorithms.AES256(content_key), modes.CBC(algorithm["parameters"].native)).decryptor()
    padded = decryptor.update(content["encrypted_content"].native) + decryptor.finalize()
    unpadder = padding.PKCS7(_BLOCK).unpadder()
    return unpadder.update(padded) + unpadder.finalize()


def _check_oaep(algorithm: Any) -> None:
    _demand(algorithm["algorithm"].native == "rsaes_oaep")
    parameters = algorithm["parameters"]
    mask = parameters["mask_gen_algorithm"]
    _demand(parameters["hash_algorithm"]["algorithm"].native == "sha256")
    _demand(mask["algorithm"].native == "mgf1" and mask["parameters"]["algorithm"].native == "sha256")
    source = parameters["p_source_algorithm"]
    _demand(source["algorithm"].native == "p_specified" and source["parameters"].native == b"")


def _demand(holds: bool) -> None:
    if not holds:
        raise ServiceError("vault.kms_answer", "the envelope has another form")
