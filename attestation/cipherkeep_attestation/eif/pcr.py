"""The only place that computes PCRs: the algorithm of enclave images, applied to what an emulated enclave is made of.

A PCR is 48 bytes. The platform extends it as SHA384(old ‖ data); an image's PCRs 0 to 2 are one extension of zeros by
the SHA-384 of the image's parts (AWS Nitro Enclaves, "Cryptographic attestation", PCR0 to PCR2). An emulated enclave
has no image: a fixed label stands for its kernel, its first ramdisk and command line are empty, and the
second ramdisk is the deterministic encoding of the manifest of every file it is made of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TypeAlias

from cipherkeep_attestation import cbor

PCR_BYTES = 48
ZERO_PCR = bytes(PCR_BYTES)
EMULATED_KERNEL = b"cipherkeep emulated kernel v1"
MANIFEST_LABEL = "cipherkeep file manifest v1"
CONFIGURATION_PCR = 16  # the first that the enclave itself may extend; the platform locks those below

FileManifest: TypeAlias = tuple[tuple[str, bytes], ...]


def extend(old: bytes, data: bytes) -> bytes:
    """The value of a PCR (48 bytes) after `data` is extended into it."""
    if len(old) != PCR_BYTES:
        raise ValueError("a PCR has 48 bytes")
    return hashlib.sha384(old + data).digest()


def configuration_pcr(digest: bytes) -> bytes:
    """PCR16 of an enclave that runs under the configuration with this SHA-384 digest (48 bytes)."""
    if len(digest) != PCR_BYTES:
        raise ValueError("a configuration digest has 48 bytes")
    return extend(ZERO_PCR, digest)


def measure(*, kernel: bytes, cmdline: bytes, ramdisks: tuple[bytes, ...]) -> dict[int, bytes]:
    """PCR0, PCR1 and PCR2 of these parts. They are joined without lengths, so only all three together mean anything."""
    if not ramdisks:
        raise ValueError("an image has at least one ramdisk")
    boot = kernel + cmdline
    return {
        0: measured(boot + b"".join(ramdisks)),
        1: measured(boot + ramdisks[0]),
        2: measured(b"".join(ramdisks[1:])),
    }


def measured(content: bytes) -> bytes:
    """A PCR (48 bytes) into which the SHA-384 of this content was extended once: parts of an image, or its signer."""
    return extend(ZERO_PCR, hashlib.sha384(content).digest())


def file_manifest(files: Iterable[tuple[str, bytes]]) -> FileManifest:
    """Pairs of relative path and SHA-384 of the content (48 bytes), sorted by the path's UTF-8 bytes.

    Raises ValueError for a path that is absolute, empty, has empty, `.` or `..` parts, backslashes or control
    characters, stands twice, or is also a folder of another; and for a digest of another length. Modes and times
    are not measured.
    """
    manifest = sorted(files, key=lambda entry: entry[0].encode())
    seen: set[str] = set()
    for path, digest in manifest:
        parts = path.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\\" in path or not path.isprintable():
            raise ValueError(f"not a plain relative path: {path!r}")
        if path in seen:
            raise ValueError(f"twice in the manifest: {path!r}")
        if len(digest) != PCR_BYTES:
            raise ValueError(f"the SHA-384 of {path!r} must have 48 bytes")
        seen.add(path)
    for path in seen:
        parent = path.rpartition("/")[0]
        while parent:
            if parent in seen:
                raise ValueError(f"a file and a folder: {parent!r}")
            parent = parent.rpartition("/")[0]
    return tuple(manifest)


def manifest_measurements(files: Iterable[tuple[str, bytes]]) -> dict[int, bytes]:
    """PCR0, PCR1 and PCR2 of an emulated enclave made of these files; input as for `file_manifest`."""
    listed = [[path, digest] for path, digest in file_manifest(files)]
    ramdisk = cbor.encode({"label": MANIFEST_LABEL, "files": listed})
    return measure(kernel=EMULATED_KERNEL, cmdline=b"", ramdisks=(b"", ramdisk))
