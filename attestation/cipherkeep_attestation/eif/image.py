"""The only place that reads enclave image files (EIF version 4): strictly, once, from front to back, in little memory.

An image comes from whoever wants to be trusted, so nothing of it is believed: offsets and sizes must tile the file
exactly, sections must stand in the order in which they are measured, and only small ones are held in memory.

    with open(path, "rb") as stream:
        image = read_image(stream, size=os.fstat(stream.fileno()).st_size)

The layout is big-endian throughout: a header of 548 bytes, then sections, each with a header of 12 bytes.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import Protocol

from cipherkeep_attestation.eif.pcr import ZERO_PCR, extend
from cipherkeep_attestation.eif.signature import LIMIT as SIGNATURE_LIMIT
from cipherkeep_attestation.eif.signature import Signature, judge_signature
from cipherkeep_attestation.errors import Malformed
from cipherkeep_attestation.trace import Trace

GIB = 1 << 30
LIMIT = 64 * GIB  # bytes of an image; an enclave needs four times as much memory
CMDLINE_LIMIT = 4096  # bytes
CMDLINE_READ = 2047  # bytes of it that Linux keeps (COMMAND_LINE_SIZE is 2048 on x86 and arm64, with a zero at the end)
METADATA_LIMIT = 256 * 1024  # bytes
VERSION = 4
MOST_SECTIONS = 32
TAIL = 512  # last bytes of the kernel that are kept, to see text there
_CHUNK = 1 << 20

_HEADER = struct.Struct(">4sHHQQHH32Q32QII")
_SECTION = struct.Struct(">HHQ")
_ARM64 = 1

RULES: Mapping[str, str] = MappingProxyType(
    {
        "eif.size": "a file of 548 bytes at least and 64 GiB at most",
        "eif.magic": "begins with .eif",
        "eif.version": "version 4",
        "eif.flags": "no flags but that of the architecture",
        "eif.section_count": "3 to 32 sections",
        "eif.reserved": "what is reserved or unused is zero",
        "eif.overlap": "no section begins inside another, or before it",
        "eif.gap": "no bytes between sections",
        "eif.beyond_file": "no section ends after the file",
        "eif.trailing": "nothing follows the last section",
        "eif.section_header": "each section's own header agrees with the table",
        "eif.section_type": "no unknown section",
        "eif.order": "kernel, command line, ramdisks in this order, a signature last",
        "eif.duplicate": "one kernel, one command line, at most one metadata and one signature",
        "eif.missing": "a kernel, a command line and a ramdisk are there",
        "eif.empty": "kernel and ramdisks are not empty",
        "eif.section_size": "command line, metadata and signature are small",
        "eif.truncated": "every section can be read to its end",
        "eif.crc": "the checksum in the header is that of the file",
        "eif.signature_form": "the signature section: one certificate and one COSE_Sign1",
        "eif.signature_certificate": "the signing certificate: one, in PEM, strict DER inside",
        "eif.signature_key": "the signing certificate's key is that of the algorithm",
        "eif.signature_pcr": "the signature is over the PCR0 that was measured",
        "eif.signature": "the signature is by the certificate's key",
    }
)
# Rules that have passed once the header is read, and once every section is.
_TABLE, _SECTIONS = tuple(RULES)[:10], tuple(RULES)[10:18]
_SIGNATURE = tuple(RULES)[19:]


class Stream(Protocol):
    """Where an image comes from: read once, in order."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


class SectionType(IntEnum):
    """What a section holds."""

    KERNEL = 1
    CMDLINE = 2
    RAMDISK = 3
    SIGNATURE = 4
    METADATA = 5


@dataclass(frozen=True, slots=True)
class Section:
    """One section: where its content begins, how long it is, and the SHA-256 of it."""

    type: SectionType
    offset: int
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Image:
    """A well-formed image and its measurements (48 bytes each; PCR8 is zeros for an unsigned one)."""

    architecture: str
    default_memory: int  # bytes
    default_cpus: int
    sections: tuple[Section, ...]
    pcrs: Mapping[int, bytes]
    cmdline: bytes
    kernel_tail: bytes = field(repr=False)
    metadata: bytes | None = field(repr=False)  # not measured
    signature: Signature | None


@dataclass(frozen=True, slots=True)
class _Header:
    fields: bytes  # what the checksum covers
    crc: int
    arm64: bool
    memory: int
    cpus: int
    places: tuple[tuple[int, int], ...]  # offset of each section's header, size of its content


def read_image(stream: Stream, *, size: int, trace: Trace | None = None) -> Image:
    """Read and measure an image of `size` bytes from its beginning.

    Raises `Malformed("eif.…")`; for the signature also `Refused` and `Untrusted`. Order: header and table, then
    section by section, then the checksum, then the signature. Memory stays under 4 MiB whatever the image's size.
    """
    trace = trace or Trace()
    header = _header(stream, size)
    trace.passes(*_TABLE)
    reader = _Reader(stream, zlib.crc32(header.fields))
    for offset, length in header.places:
        reader.section(offset, length)
    reader.complete()
    trace.passes(*_SECTIONS)
    if reader.crc != header.crc:
        raise Malformed("eif.crc", f"{header.crc:08x} in the header, {reader.crc:08x} of the file")
    trace.passes("eif.crc")
    pcrs = reader.pcrs()
    signature = None
    if reader.signature is not None:
        signature = judge_signature(reader.signature, pcr0=pcrs[0])
        trace.passes(*_SIGNATURE)
    else:
        for code in _SIGNATURE:
            trace.waives(code, "the image is not signed")
    pcrs[8] = ZERO_PCR if signature is None else signature.pcr8
    return Image(
        architecture="arm64" if header.arm64 else "x86_64",
        default_memory=header.memory,
        default_cpus=header.cpus,
        sections=tuple(reader.sections),
        pcrs=MappingProxyType(pcrs),
        cmdline=reader.cmdline,
        kernel_tail=reader.kernel_tail,
        metadata=reader.metadata,
        signature=signature,
    )


def _header(stream: Stream, size: int) -> _Header:
    if not _HEADER.size <= size <= LIMIT:
        raise Malformed("eif.size", f"{size} bytes")
    data = b"".join(_chunks(stream, _HEADER.size))
    magic, version, flags, memory, cpus, reserved, count, *rest = _HEADER.unpack(data)
    offsets, sizes, (unused, crc) = rest[:MOST_SECTIONS], rest[MOST_SECTIONS:-2], rest[-2:]
    if magic != b".eif":
        raise Malformed("eif.magic", magic.hex())
    if version != VERSION:
        raise Malformed("eif.version", str(version))
    if flags & ~_ARM64:
        raise Malformed("eif.flags", f"{flags:#06x}")
    if not 3 <= count <= MOST_SECTIONS:
        raise Malformed("eif.section_count", str(count))
    if reserved or unused or any(offsets[count:]) or any(sizes[count:]):
        raise Malformed("eif.reserved")
    end = _HEADER.size
    for index in range(count):
        if offsets[index] < end:
            raise Malformed("eif.overlap", f"section {index} at {offsets[index]}, the one before ends at {end}")
        if offsets[index] > end:
            raise Malformed("eif.gap", f"{offsets[index] - end} bytes before section {index}")
        end += _SECTION.size + sizes[index]
        if end > size:
            raise Malformed("eif.beyond_file", f"section {index} ends at {end} of {size}")
    if end != size:
        raise Malformed("eif.trailing", f"{size - end} bytes")
    places = tuple(zip(offsets[:count], sizes[:count], strict=True))
    return _Header(data[:-4], crc, bool(flags & _ARM64), memory, cpus, places)


def _chunks(stream: Stream, length: int) -> Iterator[bytes]:
    """Exactly `length` bytes, in pieces of at most a MiB."""
    while length:
        piece = stream.read(min(length, _CHUNK))
        if not piece:
            raise Malformed("eif.truncated", f"{length} bytes short")
        length -= len(piece)
        yield piece


class _Reader:
    """Sections in their order, hashed as they pass by."""

    __slots__ = (
        "all",
        "boot",
        "cmdline",
        "crc",
        "further",
        "kernel_tail",
        "metadata",
        "sections",
        "signature",
        "stream",
    )

    def __init__(self, stream: Stream, crc: int) -> None:
        self.stream = stream
        self.crc = crc
        self.sections: list[Section] = []
        self.all = hashlib.sha384()  # PCR0
        self.boot: bytes | None = None  # PCR1: what `all` was after the first ramdisk
        self.further = hashlib.sha384()  # PCR2
        self.cmdline = b""
        self.kernel_tail = b""
        self.metadata: bytes | None = None
        self.signature: bytes | None = None

    def count(self, kind: SectionType) -> int:
        return sum(section.type is kind for section in self.sections)

    def section(self, offset: int, length: int) -> None:
        """Read one section, and judge whether it may stand here."""
        raw = b"".join(_chunks(self.stream, _SECTION.size))
        number, flags, size = _SECTION.unpack(raw)
        if size != length or flags:
            raise Malformed("eif.section_header", f"at {offset}: size {size}, flags {flags:#06x}")
        if number not in SectionType.__members__.values():
            raise Malformed("eif.section_type", f"{number} at {offset}")
        kind = SectionType(number)
        self._place(kind, offset)
        if kind in (SectionType.KERNEL, SectionType.RAMDISK) and not length:
            raise Malformed("eif.empty", kind.name.lower())
        most = _SMALL.get(kind)
        if most is not None and length > most:
            raise Malformed("eif.section_size", f"{kind.name.lower()}: {length} bytes, at most {most}")
        self.crc = zlib.crc32(raw, self.crc)
        digest = hashlib.sha256()
        kept = b""
        first = not self.count(SectionType.RAMDISK)
        for piece in _chunks(self.stream, length):
            self.crc = zlib.crc32(piece, self.crc)
            digest.update(piece)
            if kind in _MEASURED:
                self.all.update(piece)
            if kind is SectionType.RAMDISK and not first:
                self.further.update(piece)
            kept = (kept + piece)[-(TAIL if most is None else most) :]
        if kind is SectionType.RAMDISK and first:
            self.boot = self.all.digest()
        self._keep(kind, kept)
        self.sections.append(Section(kind, offset + _SECTION.size, length, digest.digest()))

    def _place(self, kind: SectionType, offset: int) -> None:
        """Measured parts are joined in the file's order, so that order must be the one of the algorithm."""
        if kind is not SectionType.RAMDISK and self.count(kind):
            raise Malformed("eif.duplicate", f"{kind.name.lower()} at {offset}")
        before = {
            SectionType.KERNEL: not self.sections,
            SectionType.CMDLINE: self.count(SectionType.KERNEL) == 1 and not self.count(SectionType.RAMDISK),
            SectionType.RAMDISK: self.count(SectionType.CMDLINE) == 1,
            SectionType.METADATA: self.count(SectionType.CMDLINE) == 1,
            SectionType.SIGNATURE: self.count(SectionType.RAMDISK) >= 1,
        }
        if not before[kind] or self.count(SectionType.SIGNATURE):
            raise Malformed("eif.order", f"{kind.name.lower()} at {offset}")

    def _keep(self, kind: SectionType, kept: bytes) -> None:
        if kind is SectionType.KERNEL:
            self.kernel_tail = kept
        elif kind is SectionType.CMDLINE:
            self.cmdline = kept
        elif kind is SectionType.METADATA:
            self.metadata = kept
        elif kind is SectionType.SIGNATURE:
            self.signature = kept

    def complete(self) -> None:
        """Whether everything that is measured was there."""
        for kind in _MEASURED:
            if not self.count(kind):
                raise Malformed("eif.missing", kind.name.lower())

    def pcrs(self) -> dict[int, bytes]:
        """PCR0, PCR1 and PCR2."""
        boot = self.boot
        assert boot is not None, "complete() has seen a ramdisk"
        return {
            index: extend(ZERO_PCR, digest)
            for index, digest in enumerate((self.all.digest(), boot, self.further.digest()))
        }


_MEASURED = (SectionType.KERNEL, SectionType.CMDLINE, SectionType.RAMDISK)
_SMALL = {
    SectionType.CMDLINE: CMDLINE_LIMIT,
    SectionType.METADATA: METADATA_LIMIT,
    SectionType.SIGNATURE: SIGNATURE_LIMIT,
}
