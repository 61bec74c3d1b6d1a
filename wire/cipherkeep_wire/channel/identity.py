"""The only place that makes channel certificates: self-signed, for one role, of a key that stays in the process."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Final, Literal, NoReturn, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Role: TypeAlias = Literal["initiator", "responder"]

SERVER_NAME: Final = "cipherkeep.enclave"  # what a client asks for; the pin decides, not the name
VALIDITY: Final = timedelta(days=1)
BACKDATE: Final = timedelta(minutes=5)  # how far a peer's clock may lag behind ours


def pem_of(certificate_der: bytes) -> bytes:
    """The PEM form that gRPC takes and tells: one encoding for each certificate."""
    return x509.load_der_x509_certificate(certificate_der).public_bytes(Encoding.PEM)


class TlsIdentity:
    """A P-256 key and its self-signed certificate: CA:false, a subject nobody else has, valid for a day.

    P-256: both ends sign once per connection, and TLS 1.3 needs no more. A responder keeps its key for a boot and
    renews the certificate; an initiator makes a new identity for every session.
    """

    __slots__ = ("_key", "certificate_der", "certificate_pem", "not_after", "role", "spki_der")

    def __init__(self, role: Role, key: ec.EllipticCurvePrivateKey, now: datetime) -> None:
        self.role: Role = role
        self.not_after = now + VALIDITY
        self._key = key
        certificate = _self_signed(role, key, now)
        self.certificate_der = certificate.public_bytes(Encoding.DER)
        self.certificate_pem = certificate.public_bytes(Encoding.PEM)
        self.spki_der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @classmethod
    def generate(cls, role: Role, now: datetime) -> TlsIdentity:
        """A new key, and its certificate from five minutes before `now` (UTC) to a day after."""
        return cls(role, ec.generate_private_key(ec.SECP256R1()), now)

    def renewed(self, now: datetime) -> TlsIdentity:
        """The same key under a new certificate."""
        return TlsIdentity(self.role, self._key, now)

    @property
    def private_key_pem(self) -> bytes:
        """PKCS #8, for gRPC's credentials and nothing else."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def __repr__(self) -> str:
        return f"<TlsIdentity {self.role}, until {self.not_after:%Y-%m-%d %H:%M}Z>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not copied or pickled")


def _self_signed(role: Role, key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    # Distinct subjects: a trust store looks anchors up by name, and would try the wrong one first.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"cipherkeep {role} {secrets.token_hex(16)}")])
    usage = ExtendedKeyUsageOID.SERVER_AUTH if role == "responder" else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + VALIDITY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_DIGITAL_SIGNATURE, critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )
    if role == "responder":
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
    return builder.sign(key, SHA256())


_DIGITAL_SIGNATURE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
