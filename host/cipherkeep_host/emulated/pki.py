"""The only place for the emulated Nitro PKI: certificates of the shapes that AWS issues, under a root of our own.

    root (30 years) → regional (20 days) → zonal (6 days) → instance (1 day) → leaf (3 hours)

All keys are P-384, all signatures ECDSA with SHA-384. As on hardware, documents are signed under one leaf until
8,523 seconds after its notBefore, so a fresh document may have less than 40 minutes left; instance and leaf have no
authority key identifier and the leaf's keyUsage is not critical (facts of authentic documents, 2021-2026).

Only the root's key is kept (STATE/pki/root.key); what stands below it lives in the memory of one signer.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cipherkeep_attestation.nitro.verify import TrustRoot
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cipherkeep_host.emulated import state as files
from cipherkeep_host.errors import HostError

ROOT_LIFE = timedelta(days=365 * 30)
REGIONAL_LIFE = timedelta(days=20, hours=1)
ZONAL_LIFE = timedelta(days=5, hours=16)
INSTANCE_LIFE = timedelta(days=1)
LEAF_LIFE = timedelta(hours=3, seconds=3)
LEAF_USE = timedelta(seconds=8523)  # the latest document seen after its leaf's notBefore
BACKDATE = timedelta(seconds=2)  # clocks in one machine disagree by less
REGION = "us-east-1"
DOMAIN = "emulated.nitro-enclaves"
ROOT_NAME = "emulated"

_SIGNS = dict.fromkeys(
    ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"),
    False,
)
_CA_USAGE = x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **_SIGNS)
_INSTANCE_USAGE = x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=False, **_SIGNS)
_LEAF_USAGE = x509.KeyUsage(
    digital_signature=True, key_cert_sign=False, crl_sign=False, **{**_SIGNS, "content_commitment": True}
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one document is signed with: the leaf's key, its certificate, and the bundle, root first."""

    key: ec.EllipticCurvePrivateKey
    certificate: bytes
    cabundle: tuple[bytes, ...]

    def __repr__(self) -> str:
        return "Credentials(…)"


@dataclass(frozen=True, slots=True)
class _Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def create(state: Path, *, at: datetime | None = None) -> None:
    """Make a root and keep it in STATE/pki. `HostError("emulator.state_exists")` if there is one already."""
    now = at or datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP384R1())
    name = _name(DOMAIN)
    certificate = _issue(None, key, name, _CA_USAGE, now - BACKDATE, ROOT_LIFE, path_length=None, authority_key=False)
    secret = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files.create_folder(
        state / "pki",
        {
            "root.key": (secret, files.SECRET),
            "root.der": (certificate.public_bytes(serialization.Encoding.DER), files.PUBLIC),
        },
    )


def emulated_root(state: Path) -> TrustRoot:
    """The root that a verifier must name to accept this installation's documents."""
    return TrustRoot(certificate_der=files.read_file(state / "pki" / "root.der"), name=ROOT_NAME)


class Pki:
    """Issues the credentials of one module (an enclave or a host's TPM), and renews them as hardware does."""

    def __init__(
        self, state: Path, *, module_id: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._root = _load_root(state)
        self._module_id = module_id
        self._clock = clock
        self._chain: tuple[_Authority, ...] = ()
        self._leaf: Credentials | None = None
        self._leaf_from = datetime.min.replace(tzinfo=UTC)

    def credentials(self) -> Credentials:
        """The leaf in use now; a new one when the old one served 8,523 seconds or the clock was set back."""
        now = self._clock()
        if self._leaf is None or not self._leaf_from <= now <= self._leaf_from + LEAF_USE:
            self._leaf = self._renew(now)
        return self._leaf

    def _renew(self, now: datetime) -> Credentials:
        if not all(_covers(link.certificate, now, now + LEAF_LIFE) for link in self._chain[1:]) or not self._chain:
            self._chain = self._new_chain(now)
        instance = self._chain[-1]
        start = (now - BACKDATE).replace(microsecond=0)
        key = ec.generate_private_key(ec.SECP384R1())
        leaf = _issue(
            instance,
            key,
            _name(f"{self._module_id}.{REGION}.emulated"),
            _LEAF_USAGE,
            start,
            LEAF_LIFE,
            path_length=-1,
            authority_key=False,
        )
        self._leaf_from = start
        der = serialization.Encoding.DER
        return Credentials(
            key, leaf.public_bytes(der), tuple(link.certificate.public_bytes(der) for link in self._chain)
        )

    def _new_chain(self, now: datetime) -> tuple[_Authority, ...]:
        start = now - BACKDATE
        instance_id = self._module_id.rpartition("-")[0]
        regional = f"{secrets.token_hex(8)}.{REGION}.{DOMAIN}"
        zonal = f"{secrets.token_hex(8)}.zonal.{REGION}.{DOMAIN}"
        chain = [self._root]
        for name, usage, life, path_length, authority_key in (
            (regional, _CA_USAGE, REGIONAL_LIFE, 2, True),
            (zonal, _CA_USAGE, ZONAL_LIFE, 1, True),
            (f"{instance_id}.{REGION}.{DOMAIN}", _INSTANCE_USAGE, INSTANCE_LIFE, 0, False),
        ):
            key = ec.generate_private_key(ec.SECP384R1())
            certificate = _issue(
                chain[-1], key, _name(name), usage, start, life, path_length=path_length, authority_key=authority_key
            )
            chain.append(_Authority(key, certificate))
        return tuple(chain)


def _load_root(state: Path) -> _Authority:
    folder = state / "pki"
    try:
        key = serialization.load_der_private_key(files.read_secret(folder / "root.key"), password=None)
        certificate = x509.load_der_x509_certificate(files.read_file(folder / "root.der"))
        matches = certificate.public_key() == key.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise HostError("emulator.state_damaged", str(folder)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not matches:
        raise HostError("emulator.state_damaged", f"{folder}: the key is not that of the certificate")
    return _Authority(key, certificate)


def _covers(certificate: x509.Certificate, start: datetime, end: datetime) -> bool:
    return certificate.not_valid_before_utc <= start and end <= certificate.not_valid_after_utc


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Cipherkeep"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "Emulator"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _issue(
    issuer: _Authority | None,
    key: ec.EllipticCurvePrivateKey,
    name: x509.Name,
    usage: x509.KeyUsage,
    start: datetime,
    life: timedelta,
    *,
    path_length: int | None,
    authority_key: bool,
) -> x509.Certificate:
    """One certificate; `path_length` -1 means an end entity, None an authority without a limit."""
    leaf = path_length == -1
    start = start.replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + life)
        .add_extension(x509.BasicConstraints(ca=not leaf, path_length=None if leaf else path_length), critical=True)
        .add_extension(usage, critical=not leaf)
    )
    if not leaf:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    if authority_key and issuer is not None:
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )
    return builder.sign(issuer.key if issuer else key, hashes.SHA384())
