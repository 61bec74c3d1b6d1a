"""The only place for the emulated AWS KMS's TLS identity and access key: a CA that lasts, a certificate that does not.

STATE/kms/ca.pem goes into an enclave's measured configuration: its TLS to KMS ends inside the enclave, on a laptop too.
"""

from __future__ import annotations

import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cipherkeep_host.emulated import state as files
from cipherkeep_host.emulated.aws_sigv4 import AccessKey
from cipherkeep_host.errors import HostError

HOST_NAME = "kms.emulated.internal"
CA_LIFE = timedelta(days=365 * 30)
SERVER_LIFE = timedelta(days=397)  # a new one is made at every start
_PEM = serialization.Encoding.PEM
_USAGE = dict.fromkeys(
    ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"),
    False,
)


def create(state: Path) -> None:
    """Make the CA, the access key and the folder of keys in STATE/kms. `HostError` if they exist."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Cipherkeep emulated AWS KMS CA")
    now = datetime.now(UTC)
    certificate = (
        _builder(name, name, key, now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, **_USAGE), critical=True
        )
        .sign(key, hashes.SHA256())
    )
    files.create_folder(
        state / "kms",
        {
            "ca.key": (_private(key), files.SECRET),
            "ca.pem": (certificate.public_bytes(_PEM), files.PUBLIC),
            "credentials.json": (AccessKey.generate().to_json(), files.SECRET),
        },
    )


def ca_certificate(state: Path) -> bytes:
    """The CA's certificate (DER) that a client of the emulated KMS must pin. HostError if there is none."""
    return _ca(state).public_bytes(serialization.Encoding.DER)


def access_key(state: Path) -> AccessKey:
    """The access key with which clients sign; the host hands it to its enclave."""
    return AccessKey.from_json(files.read_secret(state / "kms" / "credentials.json"))


def server_context(state: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer with a fresh certificate for `kms.emulated.internal`, as AWS's endpoints have."""
    try:
        ca_key = serialization.load_pem_private_key(files.read_secret(state / "kms" / "ca.key"), password=None)
    except (ValueError, TypeError) as error:
        raise HostError("emulator.state_damaged", str(state / "kms" / "ca.key")) from error
    ca = _ca(state)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey) or ca.public_key() != ca_key.public_key():
        raise HostError("emulator.state_damaged", f"{state / 'kms'}: the CA's key is not that of its certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name(HOST_NAME), ca.subject, key, datetime.now(UTC), SERVER_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=False, crl_sign=False, **_USAGE), critical=True
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST_NAME)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The ssl module reads keys from files only.
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(_private(key) + certificate.public_bytes(_PEM))
        file.flush()
        context.load_cert_chain(file.name)
    return context


def _ca(state: Path) -> x509.Certificate:
    path = state / "kms" / "ca.pem"
    try:
        return x509.load_pem_x509_certificate(files.read_file(path))
    except ValueError as error:
        raise HostError("emulator.state_damaged", str(path)) from error


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    start = now.replace(microsecond=0) - timedelta(minutes=5)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
