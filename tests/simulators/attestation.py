"""Hardware that makes attestation documents on demand, honest ones of today's shape and any others.

    platform = SimulatedPlatform(at=now)
    verify(platform.document(nonce=b"n"), root=platform.root(), policy=…, at=now)

An attack edits a draft before it is signed, or the bytes behind the signature:

    draft = platform.draft(nonce=b"n")
    draft.fields["digest"] = "SHA256"                 # signed as it is
    draft.path["zonal"].authority = False             # a path with a lie in it, signed throughout
    document = draft.sign()

A `SimulatedEnclave` or `SimulatedHost` is one boot on a platform: measurements, a channel certificate, and `attest`.

What it makes is bytes, written by encoders of its own that never object, so that agreement with the verifier means
something. Keys are made once per process: their making is not what is tested.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal

from cipherkeep_attestation.nitro.verify import Measurements, TrustRoot
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
ROLES = ("root", "regional", "zonal", "instance", "leaf")
Key = ec.EllipticCurvePrivateKey
Kind = Literal["enclave", "host"]


@cache
def key(name: str) -> Key:
    """The P-384 key of this name, for the life of the process."""
    return ec.generate_private_key(ec.SECP384R1())


def spki(private: Key) -> bytes:
    return private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def extend(old: bytes, data: bytes) -> bytes:
    return hashlib.sha384(old + data).digest()


# --- CBOR: written without a question ---


@dataclass(frozen=True)
class Raw:
    """Bytes that stand for themselves."""

    content: bytes


def head(major: int, argument: int) -> bytes:
    for info, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 24:
            return bytes([major << 5 | argument])
        if argument < 1 << 8 * width:
            return bytes([major << 5 | info]) + argument.to_bytes(width, "big")
    raise OverflowError


def cbor(value: Any, *, indefinite: bool = False) -> bytes:
    """`indefinite` is for the outermost map or array only, as today's hardware does it."""
    if isinstance(value, Raw):
        return value.content
    if value is None or isinstance(value, bool):
        return {None: b"\xf6", True: b"\xf5", False: b"\xf4"}[value]
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, (list, tuple)):
        body = b"".join(cbor(item) for item in value)
        return b"\x9f" + body + b"\xff" if indefinite else head(4, len(value)) + body
    body = b"".join(cbor(name) + cbor(item) for name, item in value.items())
    return b"\xbf" + body + b"\xff" if indefinite else head(5, len(value)) + body


# --- X.509: likewise ---


def der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    width = (len(body).bit_length() + 7) // 8
    return bytes([tag, 0x80 | width]) + len(body).to_bytes(width, "big") + body


def integer(value: int) -> bytes:
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def named(common: str) -> bytes:
    return der(0x30, der(0x31, der(0x30, bytes.fromhex("0603550403"), der(0x0C, common.encode()))))


def moment(at: datetime) -> bytes:
    late = at.year >= 2050
    return der(0x18 if late else 0x17, at.strftime("%Y%m%d%H%M%SZ" if late else "%y%m%d%H%M%SZ").encode())


def extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    return der(0x30, der(0x06, bytes.fromhex(oid)), b"\x01\x01\xff" if critical else b"", der(0x04, value))


def usage_bits(bits: tuple[int, ...]) -> bytes:
    value = 0
    for bit in bits:
        value |= 0x8000 >> bit
    two = value.to_bytes(2, "big")
    used = max(bits) + 1
    return der(0x03, bytes([-used % 8]), two[: (used + 7) // 8])


ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
BASIC_CONSTRAINTS, KEY_USAGE, SUBJECT_KEY_ID, AUTHORITY_KEY_ID = "551d13", "551d0f", "551d0e", "551d23"


@dataclass
class CertificateDraft:
    """A certificate about to be signed. `edit` gets the finished signed part, before it is signed."""

    subject: str
    issuer: str
    key: Any  # the private key it is for
    signer: Key
    not_before: datetime
    not_after: datetime
    authority: bool | None = True
    path_length: int | None = None
    usage: tuple[int, ...] | None = (0, 5, 6)
    usage_critical: bool = True
    subject_key_id: bytes | None = None
    authority_key_id: bytes | None = None
    serial: int = 0x1234
    version: bytes = bytes.fromhex("a003020102")
    algorithm: bytes = ECDSA_SHA384
    outer_algorithm: bytes | None = None
    spki: bytes | None = None
    validity: bytes | None = None
    extra: tuple[bytes, ...] = ()
    edit: Callable[[bytes], bytes] = lambda tbs: tbs

    def constraints(self) -> list[bytes]:
        out = []
        if self.authority is not None:
            length = b"" if self.path_length is None else integer(self.path_length)
            value = der(0x30, b"\x01\x01\xff" if self.authority else b"", length)
            out.append(extension(BASIC_CONSTRAINTS, value, critical=True))
        if self.authority_key_id is not None:
            out.append(extension(AUTHORITY_KEY_ID, der(0x30, der(0x80, self.authority_key_id))))
        if self.subject_key_id is not None:
            out.append(extension(SUBJECT_KEY_ID, der(0x04, self.subject_key_id)))
        if self.usage is not None:
            out.append(extension(KEY_USAGE, usage_bits(self.usage), critical=self.usage_critical))
        return out

    def sign(self) -> bytes:
        extensions = [*self.constraints(), *self.extra]
        tbs = der(
            0x30,
            self.version,
            integer(self.serial),
            self.algorithm,
            named(self.issuer),
            self.validity or der(0x30, moment(self.not_before), moment(self.not_after)),
            named(self.subject),
            self.spki or spki(self.key),
            der(0xA3, der(0x30, *extensions)) if extensions else b"",
        )
        tbs = self.edit(tbs)
        signature = self.signer.sign(tbs, ec.ECDSA(hashes.SHA384()))
        return der(0x30, tbs, self.outer_algorithm or self.algorithm, der(0x03, b"\0", signature))


# --- documents ---


@dataclass
class Draft:
    """A document about to be signed: payload fields, path by role, envelope."""

    fields: dict[Any, Any]
    path: dict[str, CertificateDraft]
    signer: Key
    protected: bytes = bytes.fromhex("a1013822")
    unprotected: dict[Any, Any] = field(default_factory=dict)
    tag: bytes = b""
    indefinite: bool = True
    bundle: tuple[str, ...] = ROLES[:-1]
    payload: Callable[[bytes], bytes] = lambda payload: payload
    signature: Callable[[bytes], bytes] = lambda signature: signature
    twin: bool = False  # the other half of an ECDSA signature
    made: dict[str, bytes] = field(default_factory=dict)  # certificates that are there already, by role

    def sign(self) -> bytes:
        made = {role: draft.sign() for role, draft in self.path.items()} | self.made
        fields = dict(self.fields)
        if "certificate" in fields and fields["certificate"] is ...:
            fields["certificate"] = made["leaf"]
        if "cabundle" in fields and fields["cabundle"] is ...:
            fields["cabundle"] = [made[role] for role in self.bundle]
        payload = self.payload(cbor(fields, indefinite=self.indefinite))
        signed = cbor(["Signature1", self.protected, b"", payload])
        r, s = decode_dss_signature(self.signer.sign(signed, ec.ECDSA(hashes.SHA384())))
        if self.twin:
            s = ORDER - s
        signature = self.signature(r.to_bytes(48, "big") + s.to_bytes(48, "big"))
        return self.tag + cbor([self.protected, self.unprotected, payload, signature])


class SimulatedPlatform:
    """One root and the path below it, as on AWS: regional 20 days, zonal 6, instance 1, leaf 3 hours."""

    def __init__(self, *, at: datetime, name: str = "aws") -> None:
        self.name = name
        self.at = at.replace(microsecond=0)
        self._root = self.path()["root"].sign()

    def root(self) -> TrustRoot:
        return TrustRoot(self._root, f"simulated {self.name}")

    def key(self, role: str) -> Key:
        return key(f"{self.name} {role}")

    def path(self) -> dict[str, CertificateDraft]:
        """The path with the shapes of real certificates: ids on the upper ones, none below, leaf usage not critical."""
        day, start = timedelta(days=1), self.at - timedelta(minutes=30)
        lives = (7000 * day, 20 * day, 6 * day, day, timedelta(hours=3, seconds=3))
        drafts = {}
        for index, (role, life) in enumerate(zip(ROLES, lives, strict=True)):
            above = ROLES[max(0, index - 1)]
            drafts[role] = CertificateDraft(
                subject=f"{role}.{self.name}",
                issuer=f"{above}.{self.name}",
                key=self.key(role),
                signer=self.key(above),
                not_before=start if role != "root" else datetime(2019, 10, 28, tzinfo=UTC),
                not_after=start + life if role != "root" else datetime(2049, 10, 28, tzinfo=UTC),
                path_length={"regional": 2, "zonal": 1, "instance": 0}.get(role),
                subject_key_id=None if role == "leaf" else hashlib.sha1(role.encode()).digest(),
                authority_key_id=hashlib.sha1(above.encode()).digest() if role in ("regional", "zonal") else None,
                serial=int.from_bytes(hashlib.sha256(role.encode()).digest()[:20], "big") | 1 << 159,
            )
        drafts["root"].signer = self._root_signer()
        leaf = drafts["leaf"]
        leaf.authority, leaf.usage, leaf.usage_critical = False, (0, 1), False
        return drafts

    def _root_signer(self) -> Any:
        """ECDSA signatures differ each time, and a root is known by its bytes: sign it once."""
        private, made = self.key("root"), _root_signatures

        class Once:
            def sign(self, tbs: bytes, algorithm: Any) -> bytes:
                return made.setdefault(tbs, private.sign(tbs, algorithm))

        return Once()

    def draft(
        self,
        *,
        kind: Kind = "enclave",
        at: datetime | None = None,
        pcrs: Mapping[int, bytes] | None = None,
        nonce: bytes | None = None,
        public_key: bytes | None = None,
        user_data: bytes | None = None,
    ) -> Draft:
        """An honest document, not yet signed. `...` stands for the certificates, made when it is."""
        made = at or self.at
        fields = {
            "module_id": "i-0123456789abcdef0-"
            + ("enc0123456789abcdef" if kind == "enclave" else "tpm0123456789abcdef"),
            "digest": "SHA384",
            "timestamp": round(made.timestamp() * 1000),
            "pcrs" if kind == "enclave" else "nitrotpm_pcrs": dict(PCRS if pcrs is None else pcrs),
            "certificate": ...,
            "cabundle": ...,
            "public_key": public_key,
            "user_data": user_data,
            "nonce": nonce,
        }
        return Draft(fields=fields, path=self.path(), signer=self.key("leaf"))

    def document(self, **claims: Any) -> bytes:
        return self.draft(**claims).sign()


_root_signatures: dict[bytes, bytes] = {}

PCRS: Mapping[int, bytes] = {
    **{index: bytes([index + 1]) * 48 for index in range(5)},
    **{index: bytes(48) for index in range(5, 16)},
}
IMAGE = Measurements({index: PCRS[index] for index in (0, 1, 2)})


# --- whole parties ---


class SimulatedEnclave:
    """One boot of an enclave: its PCRs, its channel certificate, its NSM."""

    kind: Kind = "enclave"

    def __init__(self, platform: SimulatedPlatform, *, name: str, configuration: bytes = bytes(48)) -> None:
        self.platform = platform
        self.name = name
        self.pcrs = {**PCRS, 16: extend(bytes(48), configuration)}
        self.channel = CertificateDraft(
            subject=f"{name} {os.urandom(4).hex()}",
            issuer="itself",
            key=key(f"channel {name}"),
            signer=key(f"channel {name}"),
            not_before=platform.at - timedelta(hours=1),
            not_after=platform.at + timedelta(days=2),
            authority=False,
            usage=(0,),
        )
        self.certificate = self.channel.sign()
        self.edit: Callable[[Draft], object] = lambda draft: None

    @property
    def spki(self) -> bytes:
        return spki(key(f"channel {self.name}"))

    def attest(self, *, nonce: bytes, public_key: bytes, user_data: bytes) -> bytes:
        """A document over these three, after `edit` has had its way with the draft."""
        draft = self.platform.draft(
            kind=self.kind, pcrs=self.pcrs, nonce=nonce, public_key=public_key, user_data=user_data
        )
        self.edit(draft)
        return draft.sign()


class SimulatedHost(SimulatedEnclave):
    """One boot of an instance with a NitroTPM."""

    kind: Kind = "host"
