"""A writer of enclave images that writes whatever it is told: honest ones, and every lie that a header can tell.

    draft = ImageDraft()
    draft.sign(key, certificate)                     # over the PCR0 that the parts have
    draft.offsets[2] -= 4                            # a lie in the table
    image = draft.build()

Sizes, offsets and checksum are computed from the sections unless something else is said.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from tests.simulators.attestation import cbor

KERNEL, CMDLINE, RAMDISK, SIGNATURE, METADATA = 1, 2, 3, 4, 5
HEADER = 548
METADATA_JSON = json.dumps({"ImageName": "demo", "BuildMetadata": {"BuildTime": "2026-07-01T00:00:00Z"}}).encode()
ALGORITHMS = {
    256: ("a10126", hashes.SHA256(), 32),
    384: ("a1013822", hashes.SHA384(), 48),
    521: ("a1013823", hashes.SHA512(), 66),
}


def parts() -> list[tuple[int, bytes]]:
    """Sections in AWS's order."""
    return [
        (KERNEL, b"\x7fkernel\0" * 100),
        (CMDLINE, b"reboot=k panic=30 lockdown=confidentiality console=ttyS0"),
        (METADATA, METADATA_JSON),
        (RAMDISK, b"\x1f\x8binit" * 50),
        (RAMDISK, b"\x1f\x8broot" * 70),
    ]


@dataclass
class ImageDraft:
    """An image about to be written."""

    sections: list[tuple[int, bytes]] = field(default_factory=parts)
    magic: bytes = b".eif"
    version: int = 4
    flags: int = 0
    reserved: int = 0
    unused: int = 0
    count: int | None = None
    offsets: dict[int, int] = field(default_factory=dict)  # lies, by number of the section
    sizes: dict[int, int] = field(default_factory=dict)
    section_flags: dict[int, int] = field(default_factory=dict)
    section_sizes: dict[int, int] = field(default_factory=dict)
    crc: int | None = None
    tail: bytes = b""

    def of(self, kind: int) -> list[bytes]:
        return [content for number, content in self.sections if number == kind]

    def pcrs(self) -> dict[int, bytes]:
        """PCR0, 1 and 2 from the vendor's text, with nothing of ours."""
        boot = b"".join([*self.of(KERNEL), *self.of(CMDLINE)])
        disks = self.of(RAMDISK)
        joined = {0: boot + b"".join(disks), 1: boot + disks[0], 2: b"".join(disks[1:])}
        return {index: extended(hashlib.sha384(content).digest()) for index, content in joined.items()}

    def sign(self, key: Any, certificate: bytes, *, pcr0: bytes | None = None, **lies: Any) -> None:
        section = signature_section(key, certificate, pcr0=pcr0 or self.pcrs()[0], **lies)
        self.sections.append((SIGNATURE, section))

    def build(self) -> bytes:
        body = b""
        offsets, sizes = [0] * 32, [0] * 32
        for index, (number, content) in enumerate(self.sections):
            offset, size = HEADER + len(body), len(content)
            if index < 32:
                offsets[index] = self.offsets.get(index, offset)
                sizes[index] = self.sizes.get(index, size)
            head = struct.pack(">HHQ", number, self.section_flags.get(index, 0), self.section_sizes.get(index, size))
            body += head + content
        for lies, table in ((self.offsets, offsets), (self.sizes, sizes)):
            for index, value in lies.items():
                table[index] = value
        count = len(self.sections) if self.count is None else self.count
        head = struct.pack(">4sHHQQHH", self.magic, self.version, self.flags, 1 << 30, 2, self.reserved, count)
        head += struct.pack(">32Q32QI", *offsets, *sizes, self.unused)
        crc = zlib.crc32(head + body) if self.crc is None else self.crc
        return head + struct.pack(">I", crc) + body + self.tail


def extended(data: bytes) -> bytes:
    return hashlib.sha384(bytes(48) + data).digest()


def signer(key: Any) -> bytes:
    """A self-signed certificate for a key, in PEM."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "release signer")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
    return (
        builder.not_valid_after(datetime(2027, 1, 1, tzinfo=UTC)).sign(key, hashes.SHA384()).public_bytes(Encoding.PEM)
    )


def der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def signature_section(
    key: ec.EllipticCurvePrivateKey,
    certificate: bytes,
    *,
    pcr0: bytes,
    index: int = 0,
    protected: bytes | None = None,
    payload: bytes | None = None,
    signed_by: Any = None,
    cut: int = 0,
    copies: int = 1,
) -> bytes:
    """What AWS's tools write: both values as arrays of integers."""
    header, digest, width = ALGORITHMS[key.curve.key_size]
    raw = bytes.fromhex(header) if protected is None else protected
    content = cbor({"register_index": index, "register_value": list(pcr0)}) if payload is None else payload
    signed = cbor(["Signature1", raw, b"", content])
    r, s = decode_dss_signature((signed_by or key).sign(signed, ec.ECDSA(digest)))
    signature = r.to_bytes(width, "big") + s.to_bytes(width, "big")
    message = cbor([raw, {}, content, signature[: len(signature) - cut]])
    entry = {"signing_certificate": list(certificate), "signature": list(message)}
    return cbor([entry] * copies)
