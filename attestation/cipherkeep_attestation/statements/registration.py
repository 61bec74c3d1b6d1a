"""The only place for a party's registration: its keys, the image and configuration that hold them, and the proof.

The enclave's attestation document carries the evidence key as public key, the hash of a recent block as nonce, and the
digest of everything else as user data; the whole is signed by the evidence key. So whoever reads the registration knows
which measured code holds the keys, and that it held them recently.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import coincurve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cipherkeep_attestation import cbor, cose
from cipherkeep_attestation.eif import configuration_pcr
from cipherkeep_attestation.errors import Malformed, Refused, Untrusted
from cipherkeep_attestation.nitro import verify as nitro
from cipherkeep_attestation.statements import eip712
from cipherkeep_attestation.statements.answer import read_manifest_pin
from cipherkeep_attestation.statements.configuration import Configuration
from cipherkeep_attestation.statements.governance import Releases

LABEL = "cipherkeep/registration/v1"
MAX_REGISTRATION = 1 << 17  # bytes
MAX_DOCUMENT = 1 << 14
BLOCKS = 100  # the nonce is the hash of a block at most this old
CLOCK_DIFFERENCE = timedelta(minutes=5)  # between the document's time and the block's


def signer_of(signing_key: bytes) -> bytes:
    """The Ethereum address of a compressed secp256k1 key. `Malformed("registration.signing_key")` if it is none."""
    try:
        key = coincurve.PublicKey(signing_key)
    except ValueError:
        raise Malformed("registration.signing_key") from None
    return eip712.address_of(key.format(compressed=False))


@dataclass(frozen=True, slots=True)
class Claims:
    """What a party says of itself; all but the document."""

    instance: str
    party: str
    evidence_key: bytes
    signing_key: bytes  # secp256k1, compressed
    configuration: bytes  # the configuration itself, so that anyone can read what PCR16 stands for
    block_height: int
    manifest: tuple[int, bytes]

    def encode(self) -> bytes:
        """Deterministic CBOR."""
        return cbor.encode(
            {
                "block_height": self.block_height,
                "configuration": self.configuration,
                "evidence_key": self.evidence_key,
                "instance": self.instance,
                "label": LABEL,
                "manifest": list(self.manifest),
                "party": self.party,
                "signing_key": self.signing_key,
            }
        )

    def user_data(self) -> bytes:
        """What the document carries: a label and the SHA-384 of the claims."""
        return cbor.encode({"claims": hashlib.sha384(self.encode()).digest(), "label": LABEL})

    def signer(self) -> bytes:
        """The Ethereum address of the signing key."""
        return signer_of(self.signing_key)

    @classmethod
    def decode(cls, data: bytes) -> Claims:
        """Read what `encode` writes."""
        found = cbor.fields(
            cbor.decode(data),
            block_height=cbor.uint(least=1),
            configuration=cbor.raw(1, 1 << 16),
            evidence_key=cbor.raw(32),
            instance=cbor.text(64),
            label=cbor.exactly(LABEL),
            manifest=cbor.anything,
            party=cbor.text(64),
            signing_key=cbor.raw(33),
        )
        del found["label"]
        found["manifest"] = read_manifest_pin(found["manifest"])
        return cls(**found)


@dataclass(frozen=True, slots=True)
class Registration:
    """Claims, the document that backs them, and (once verified) what the document says."""

    claims: Claims
    document: bytes

    def sign(self, key: Ed25519PrivateKey) -> bytes:
        """The registration's bytes (COSE_Sign1 of the evidence key)."""
        return cose.sign1(cbor.encode({"claims": self.claims.encode(), "document": self.document}), key=key)


def read(data: bytes) -> Registration:
    """Read a registration and check that its own evidence key signed it. Nothing is judged about the document."""
    found = cbor.fields(
        cbor.decode(cose.unverified_payload(data, limit=MAX_REGISTRATION)),
        claims=cbor.raw(1, MAX_REGISTRATION),
        document=cbor.raw(1, MAX_DOCUMENT),
    )
    claims = Claims.decode(found["claims"])
    cose.open1(data, public_key=claims.evidence_key, limit=MAX_REGISTRATION)
    return Registration(claims, found["document"])


def verify(
    data: bytes,
    *,
    instance: str,
    genesis: bytes,
    releases: Releases | None,
    roots: tuple[bytes, ...],
    block_hash: bytes,
    block_time: datetime,
) -> tuple[Registration, nitro.Attestation]:
    """Judge a registration at a block's time; `EvidenceError` unless every rule holds.

    `block_hash` is the hash of the block that the claims name (the caller knows it is recent enough); `genesis` the
    SHA-256 of the instance's genesis parameters; `roots` the DER certificates whose documents count.
    """
    registration = read(data)
    claims = registration.claims
    claims.signer()
    if claims.instance != instance:
        raise Refused("registration.instance", claims.instance)
    configuration = Configuration.decode(claims.configuration)
    if (
        configuration.instance != instance
        or configuration.genesis.digest() != genesis
        or configuration.party != claims.party
    ):
        raise Refused("registration.configuration")
    if releases is None:
        raise Refused("registration.no_releases")
    pcr16 = configuration_pcr(configuration.digest())
    policy = nitro.Policy(
        measurements=tuple(
            nitro.Measurements({0: item.pcr0, 1: item.pcr1, 2: item.pcr2, 16: pcr16}) for item in releases.releases
        ),
        nonce=block_hash,
        public_key=claims.evidence_key,
        max_age=CLOCK_DIFFERENCE,
        clock_drift=CLOCK_DIFFERENCE,
    )
    attestation = _under_any_root(registration.document, roots, policy, block_time)
    if attestation.user_data != claims.user_data():
        raise Untrusted("registration.user_data")
    return registration, attestation


def _under_any_root(document: bytes, roots: tuple[bytes, ...], policy: nitro.Policy, at: datetime) -> nitro.Attestation:
    last: Untrusted | None = None
    for certificate in roots:
        root = nitro.TrustRoot(certificate, "genesis")
        try:
            return nitro.verify(document, root=root, policy=policy, at=at)
        except Untrusted as refusal:
            last = refusal
    raise last or Untrusted("registration.no_roots")


def measurements_digest(pcrs: dict[int, bytes]) -> bytes:
    """SHA-256 over dCBOR {0: PCR0, 1: PCR1, 2: PCR2}: how a party's record names its image."""
    return hashlib.sha256(cbor.encode({index: pcrs[index] for index in (0, 1, 2)})).digest()
