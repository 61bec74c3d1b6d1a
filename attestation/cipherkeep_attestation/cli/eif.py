"""The only place for `eif measure` and `eif compare`: what an image file is, and whether two are the same."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
from typing import Any

from cipherkeep_attestation import strict_json
from cipherkeep_attestation.cli.inputs import UsageError, open_file, reason
from cipherkeep_attestation.cli.output import Section, Verdict, show
from cipherkeep_attestation.eif import ZERO_PCR
from cipherkeep_attestation.eif.image import CMDLINE_READ, RULES, Image, SectionType, read_image
from cipherkeep_attestation.errors import EvidenceError, Malformed, Refused
from cipherkeep_attestation.trace import Check, State, Trace

# Options that harden a kernel, and are worth nothing where a host can take them away.
_HARDENING = re.compile(
    r"(?:lockdown|init_on_alloc|init_on_free|slab_nomerge|page_alloc\.shuffle|mitigations|nomodules?|module\.sig_enforce|"
    r"randomize_kstack_offset|vsyscall|debugfs|oops|panic|rdinit|init|random\.trust_cpu|pti|spectre_v2|nosmt)(?:=.*)?"
)
_TEXT_TAIL = re.compile(rb"[\x20-\x7e]{16,}\Z")
_PCR_NAMES = {0: "image", 1: "kernel, command line, first ramdisk", 2: "further ramdisks", 8: "signer"}


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `eif measure` and `eif compare`."""
    group = subparsers.add_parser("eif", help="measure and compare enclave images")
    commands = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    measure = commands.add_parser(
        "measure", help="PCR0, 1, 2 and 8 of an image", description="Reads an enclave image and computes its PCRs."
    )
    measure.add_argument("file", metavar="FILE")
    measure.add_argument("--json", action="store_true", help="print as JSON")
    measure.set_defaults(run=_measure)
    compare = commands.add_parser(
        "compare",
        help="whether two images are the same",
        description="Accepted when PCR0, PCR1 and PCR2 are equal and made of the same parts. Signature and metadata "
        "may differ: they are no part of the measurement.",
    )
    compare.add_argument("file", metavar="A")
    compare.add_argument("other", metavar="B")
    compare.add_argument("--json", action="store_true", help="print as JSON")
    compare.set_defaults(run=_compare)


def load(path: str, trace: Trace | None = None) -> Image:
    """Read an image file. UsageError when it cannot be read, `EvidenceError` when it is not well-formed."""
    with open_file(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        try:
            image = read_image(stream, size=size, trace=trace)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {reason(error)}") from None
    metadata(image)
    return image


def metadata(image: Image) -> dict[str, Any]:
    """The metadata of an image, which nothing measures. `Malformed("eif.metadata")` if it is not a JSON object."""
    if image.metadata is None:
        return {}
    try:
        value = strict_json.loads(image.metadata, floats=True)
    except strict_json.NotJsonError as error:
        raise Malformed("eif.metadata", str(error)) from None
    if type(value) is not dict:
        raise Malformed("eif.metadata", "not an object")
    return value


# --- measure ---


def _measure(arguments: argparse.Namespace) -> int:
    trace = Trace()
    try:
        image = load(arguments.file, trace)
    except EvidenceError as refusal:
        checks = trace.checks(RULES, failed=refusal.code, detail=refusal.detail)
        return show(Verdict(subject="image", checks=checks, refusal=refusal), as_json=arguments.json)
    return show(
        Verdict(
            subject="image",
            checks=trace.checks(RULES),
            conclusion="its measurements are above; whether they are the right ones, a policy says",
            sections=(_pcrs(image), _sections(image), *_parts(image)),
            warnings=tuple(warnings(image)),
            details=_value(image),
        ),
        as_json=arguments.json,
    )


def _pcrs(image: Image) -> Section:
    rows = [(f"PCR{index}", f"{value.hex()}  {_PCR_NAMES[index]}") for index, value in image.pcrs.items()]
    return Section("measurements", tuple(rows))


def _sections(image: Image) -> Section:
    rows = [
        (
            section.type.name.lower(),
            f"at {section.offset:>11}  {section.size:>11} bytes  sha256 {section.sha256.hex()}"
            + ("" if section.type in _MEASURED else "  not measured"),
        )
        for section in image.sections
    ]
    return Section("sections", tuple(rows))


_MEASURED = (SectionType.KERNEL, SectionType.CMDLINE, SectionType.RAMDISK)


def _parts(image: Image) -> list[Section]:
    found = [
        Section(
            "image",
            (
                ("architecture", image.architecture),
                ("default memory", f"{image.default_memory} bytes"),
                ("default cpus", str(image.default_cpus)),
                ("command line", image.cmdline.decode("ascii", "backslashreplace")),
            ),
        )
    ]
    if image.signature is not None:
        signature = image.signature
        validity = f"{signature.not_before:%Y-%m-%d %H:%M:%S}Z to {signature.not_after:%Y-%m-%d %H:%M:%S}Z"
        digest = hashlib.sha256(signature.certificate_der).hexdigest()
        rows = (("algorithm", signature.algorithm), ("certificate", f"sha256 {digest}"), ("valid", validity))
        found.append(Section("signature", rows))
    said = metadata(image)
    if said:
        claims = tuple((name[:40], str(value)[:200]) for name, value in list(said.items())[:20])
        found.append(Section("metadata (not measured: claims of whoever built the image)", claims))
    return found


def warnings(image: Image) -> list[str]:
    """What the measurements leave open: parts are joined without lengths, so that a boundary can be moved."""
    found = []
    text = image.cmdline.decode("ascii", "backslashreplace")
    if image.cmdline:
        hardening = [word for word in text.split() if _HARDENING.fullmatch(word)]
        named = f" ({', '.join(hardening)[:200]})" if hardening else ""
        found.append(
            "nothing measures where the kernel ends: a host can run this image without the beginning of its command "
            f"line{named}, with equal PCRs; init must compare /proc/cmdline with what it expects"
        )
    if _TEXT_TAIL.search(image.kernel_tail):
        tail = image.kernel_tail[-64:].decode("ascii", "backslashreplace")
        found.append(f"the kernel ends with text, which may have been the beginning of a command line: {tail}")
    if not re.fullmatch(rb"[\x20-\x7e]*", image.cmdline):
        found.append("the command line holds bytes that are not printable ASCII")
    if len(image.cmdline) > CMDLINE_READ:
        found.append(
            f"the command line has {len(image.cmdline)} bytes, of which Linux reads {CMDLINE_READ}: "
            "the rest is measured and without effect"
        )
    if sum(section.type is SectionType.RAMDISK for section in image.sections) > 2:
        found.append("nothing measures where the second ramdisk ends and the third begins")
    if image.signature is None:
        found.append("the image is not signed: PCR8 is zeros")
    if image.metadata is None:
        found.append("the image has no metadata, which AWS's tools demand")
    return found


def _value(image: Image) -> dict[str, Any]:
    signature = image.signature
    return {
        "pcrs": {f"PCR{index}": value.hex() for index, value in image.pcrs.items()},
        "architecture": image.architecture,
        "cmdline": image.cmdline.decode("ascii", "backslashreplace"),
        "sections": [
            {
                "type": section.type.name.lower(),
                "offset": section.offset,
                "size": section.size,
                "sha256": section.sha256.hex(),
                "measured": section.type in _MEASURED,
            }
            for section in image.sections
        ],
        "signature": None
        if signature is None
        else {
            "algorithm": signature.algorithm,
            "certificate_sha256": hashlib.sha256(signature.certificate_der).hexdigest(),
            "not_before": signature.not_before.isoformat(),
            "not_after": signature.not_after.isoformat(),
        },
        "metadata": metadata(image),
    }


# --- compare ---


def _compare(arguments: argparse.Namespace) -> int:
    images = []
    for path in (arguments.file, arguments.other):
        try:
            images.append(load(path))
        except EvidenceError as refusal:
            failed = Check(refusal.code, f"{path}: {RULES.get(refusal.code, '')}", State.FAILED, refusal.detail)
            return show(Verdict(subject="images", checks=(failed,), refusal=refusal), as_json=arguments.json)
    one, two = images
    return show(
        Verdict(
            subject="images",
            refusal=difference(one, two),
            conclusion="PCR0, PCR1 and PCR2 are equal, and so are the parts that they measure",
            sections=(_compared_pcrs(one, two), _compared_sections(one, two)),
            warnings=tuple(_notes(one, two)),
            details={"a": _value(one), "b": _value(two)},
        ),
        as_json=arguments.json,
    )


def difference(one: Image, two: Image) -> EvidenceError | None:
    """Why two images are not the same: other measurements, or equal ones of other parts."""
    wrong = [f"PCR{index}" for index in (0, 1, 2) if one.pcrs[index] != two.pcrs[index]]
    if wrong:
        return Refused("eif.differs", ", ".join(wrong))
    if _measured(one) != _measured(two):
        return Refused("eif.ambiguous", "kernel, command line and ramdisks are cut at other places")
    return None


def _measured(image: Image) -> list[tuple[SectionType, bytes]]:
    return [(section.type, section.sha256) for section in image.sections if section.type in _MEASURED]


def _compared_pcrs(one: Image, two: Image) -> Section:
    rows = []
    for index in (0, 1, 2, 8):
        a, b = one.pcrs[index], two.pcrs[index]
        rows.append((f"PCR{index}", f"equal      {a.hex()}" if a == b else f"different  {a.hex()} / {b.hex()}"))
    return Section("measurements", tuple(rows))


def _compared_sections(one: Image, two: Image) -> Section:
    rows = []
    for index in range(max(len(one.sections), len(two.sections))):
        a = one.sections[index] if index < len(one.sections) else None
        b = two.sections[index] if index < len(two.sections) else None
        if a is None or b is None:
            rows.append((f"section {index}", f"only in {'B' if a is None else 'A'}  {_named(a or b)}"))
        elif (a.type, a.sha256) == (b.type, b.sha256):
            rows.append((f"section {index}", f"equal      {_named(a)}"))
        else:
            rows.append((f"section {index}", f"different  {_named(a)} / {_named(b)}"))
    return Section("sections", tuple(rows))


def _named(section: Any) -> str:
    return f"{section.type.name.lower()}, {section.size} bytes"


def _notes(one: Image, two: Image) -> list[str]:
    found = []
    if one.pcrs[8] != two.pcrs[8]:
        signed = ["unsigned" if image.pcrs[8] == ZERO_PCR else "signed" for image in (one, two)]
        found.append(f"PCR8 differs: A is {signed[0]}, B is {signed[1]}")
    if one.metadata != two.metadata:
        found.append("the metadata differs, which nothing measures")
    if one.architecture != two.architecture:
        found.append("the architecture in the header differs, which nothing measures")
    return found
