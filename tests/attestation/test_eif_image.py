"""Image files: measured as the platform does it, in little memory; every lie of a hostile one refused by its rule."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cipherkeep_attestation import errors
from cipherkeep_attestation.eif import measure
from cipherkeep_attestation.eif.image import RULES, Image, read_image
from cipherkeep_attestation.eif.signature import judge_signature
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.trace import State, Trace
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulators.attestation import cbor
from tests.simulators.eif import (
    CMDLINE,
    HEADER,
    KERNEL,
    METADATA,
    RAMDISK,
    SIGNATURE,
    ImageDraft,
    der,
    extended,
    parts,
    signature_section,
    signer,
)

KEYS = {curve.name: ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())}
KEY = KEYS["secp384r1"]
STRANGER = ec.generate_private_key(ec.SECP384R1())
CERTIFICATE = signer(KEY)


def read(data: bytes, trace: Trace | None = None) -> Image:
    return read_image(io.BytesIO(data), size=len(data), trace=trace)


def code_of(data: bytes) -> str:
    with pytest.raises(EvidenceError) as refusal:
        read(data)
    return refusal.value.code


def signed(**lies: Any) -> ImageDraft:
    draft = ImageDraft()
    draft.sign(KEY, CERTIFICATE, **lies)
    return draft


def test_an_image_is_measured_as_the_platform_does_it() -> None:
    """PCR0 to 2 of a file are those of its parts; metadata and signature change nothing of them."""
    draft = signed()
    image = read(draft.build())
    disks = tuple(draft.of(RAMDISK))
    expected = measure(kernel=draft.of(KERNEL)[0], cmdline=draft.of(CMDLINE)[0], ramdisks=disks)
    assert {index: image.pcrs[index] for index in (0, 1, 2)} == expected == draft.pcrs()
    bare = ImageDraft()
    bare.sections = [entry for entry in parts() if entry[0] != METADATA]
    assert read(bare.build()).pcrs == {**expected, 8: bytes(48)}
    assert image.cmdline == draft.of(CMDLINE)[0]
    assert [section.type for section in image.sections] == [1, 2, 5, 3, 3, 4]
    assert image.sections[0].sha256 == hashlib.sha256(draft.of(KERNEL)[0]).digest()


@pytest.mark.parametrize(
    ("curve", "algorithm"), [("secp256r1", "ES256"), ("secp384r1", "ES384"), ("secp521r1", "ES512")]
)
def test_a_signed_image_has_a_pcr8(curve: str, algorithm: str) -> None:
    """PCR8 is one extension by the SHA-384 of the signing certificate, whatever the curve."""
    certificate = signer(KEYS[curve])
    draft = ImageDraft()
    draft.sign(KEYS[curve], certificate)
    image = read(draft.build())
    assert image.signature is not None
    assert image.signature.algorithm == algorithm
    assert image.pcrs[8] == extended(hashlib.sha384(der(certificate)).digest()) == image.signature.pcr8


def test_an_image_with_one_ramdisk_and_one_for_arm_are_images() -> None:
    """A second ramdisk is not needed; the architecture is a flag of the header."""
    draft = ImageDraft(sections=parts()[:4], flags=1)
    image = read(draft.build())
    assert (image.architecture, image.pcrs[2].hex()[:8]) == ("arm64", "21b9efbc")


def put(index: int, kind: int, content: bytes) -> Callable[[ImageDraft], None]:
    return lambda draft: draft.sections.insert(index, (kind, content))


def order(*numbers: int) -> Callable[[ImageDraft], None]:
    return lambda draft: setattr(draft, "sections", [draft.sections[number] for number in numbers])


def set_to(name: str, value: Any) -> Callable[[ImageDraft], None]:
    return lambda draft: setattr(draft, name, value)


def replaced(index: int, content: bytes) -> Callable[[ImageDraft], None]:
    def edit(draft: ImageDraft) -> None:
        draft.sections[index] = (draft.sections[index][0], content)

    return edit


def signed_before_a_ramdisk(draft: ImageDraft) -> None:
    draft.sign(KEY, CERTIFICATE)
    draft.sections.append((RAMDISK, b"x"))


SECOND = HEADER + 12 + len(parts()[0][1])  # where the header of the second section stands
ATTACKS: list[tuple[str, Callable[[ImageDraft], None]]] = [
    ("eif.magic", set_to("magic", b".elf")),
    ("eif.version", set_to("version", 3)),
    ("eif.version", set_to("version", 5)),
    ("eif.flags", set_to("flags", 2)),
    ("eif.section_count", set_to("count", 0)),
    ("eif.section_count", set_to("count", 2)),
    ("eif.section_count", set_to("count", 33)),
    ("eif.section_count", set_to("count", 0xFFFF)),
    ("eif.reserved", set_to("reserved", 1)),
    ("eif.reserved", set_to("unused", 1)),
    ("eif.reserved", set_to("offsets", {9: 1})),
    ("eif.reserved", set_to("sizes", {31: 1})),
    ("eif.reserved", set_to("count", 4)),
    ("eif.overlap", set_to("offsets", {1: SECOND - 1})),
    ("eif.overlap", set_to("offsets", {0: 0})),
    ("eif.overlap", set_to("offsets", {2: HEADER})),
    ("eif.gap", set_to("offsets", {1: SECOND + 1})),
    ("eif.gap", set_to("offsets", {0: HEADER + 8})),
    ("eif.gap", set_to("offsets", {1: 2**64 - 1})),
    ("eif.beyond_file", set_to("sizes", {4: 421})),
    ("eif.beyond_file", set_to("sizes", {0: 2**64 - 1})),
    ("eif.beyond_file", set_to("sizes", {0: 2**63})),
    ("eif.trailing", set_to("tail", b"\0")),
    ("eif.trailing", set_to("tail", b"x" * 4096)),
    ("eif.section_header", set_to("section_sizes", {0: 799})),
    ("eif.section_header", set_to("section_sizes", {3: 2**64 - 1})),
    ("eif.section_header", set_to("section_flags", {1: 1})),
    ("eif.section_type", put(5, 0, b"x")),
    ("eif.section_type", put(5, 6, b"x")),
    ("eif.section_type", put(5, 0xFFFF, b"x")),
    ("eif.order", order(1, 0, 2, 3, 4)),
    ("eif.order", order(0, 3, 1, 2, 4)),
    ("eif.order", order(2, 0, 1, 3, 4)),
    ("eif.order", order(0, 2, 1, 3, 4)),
    ("eif.order", order(3, 4, 2)),
    ("eif.order", put(3, SIGNATURE, b"x")),
    ("eif.order", signed_before_a_ramdisk),
    ("eif.duplicate", put(1, KERNEL, b"other")),
    ("eif.duplicate", put(2, CMDLINE, b"other")),
    ("eif.duplicate", put(5, CMDLINE, b"other")),
    ("eif.duplicate", put(5, METADATA, b"{}")),
    ("eif.missing", lambda draft: order(0, 1, 2)(draft)),
    ("eif.empty", replaced(0, b"")),
    ("eif.empty", replaced(3, b"")),
    ("eif.empty", replaced(4, b"")),
    ("eif.section_size", replaced(1, b"c" * 4097)),
    ("eif.section_size", replaced(2, b" " * (256 * 1024 + 1))),
    ("eif.section_size", put(5, SIGNATURE, bytes(64 * 1024 + 1))),
    ("eif.crc", set_to("crc", 0)),
    ("eif.crc", set_to("crc", 0xFFFFFFFF)),
    ("eif.signature_form", put(5, SIGNATURE, b"")),
    ("eif.signature_form", put(5, SIGNATURE, b"\x80")),
    ("eif.signature_form", put(5, SIGNATURE, b"\x9f" * 60_000)),
    ("eif.signature_form", put(5, SIGNATURE, b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff")),
    ("eif.signature_form", put(5, SIGNATURE, cbor([{"signing_certificate": b"pem", "signature": b"x"}]))),
    ("eif.signature_form", put(5, SIGNATURE, cbor([{"signing_certificate": [1]}]))),
    ("eif.signature_certificate", put(5, SIGNATURE, cbor([{"signing_certificate": [1, 2], "signature": [3]}]))),
    ("eif.signature_form", put(5, SIGNATURE, cbor([{"signing_certificate": [1, 256], "signature": [3]}]))),
]


@pytest.mark.parametrize(("code", "edit"), ATTACKS, ids=[f"{n}-{code}" for n, (code, _) in enumerate(ATTACKS)])
def test_a_hostile_image_is_refused_by_its_rule(code: str, edit: Callable[[ImageDraft], object]) -> None:
    """Each lie about the layout has its own code, with a correct checksum over all of it."""
    draft = ImageDraft()
    edit(draft)
    assert code_of(draft.build()) == code


PCR0 = ImageDraft().pcrs()[0]
SIGNING_ATTACKS: list[tuple[str, dict[str, Any]]] = [
    ("eif.signature", {"signed_by": STRANGER}),
    ("eif.signature_pcr", {"pcr0": bytes(48)}),
    ("eif.signature_form", {"pcr0": PCR0 + b"\0"}),
    ("eif.signature_form", {"index": 1}),
    ("eif.signature_form", {"index": True}),
    ("eif.signature_form", {"protected": bytes.fromhex("a10127")}),
    ("eif.signature_form", {"protected": b""}),
    ("eif.signature_key", {"protected": bytes.fromhex("a10126")}),
    ("eif.signature_form", {"cut": 1}),
    ("eif.signature_form", {"copies": 2}),
    ("eif.signature_form", {"copies": 0}),
    ("eif.signature_form", {"payload": b""}),
    ("eif.signature_form", {"payload": cbor({"register_index": 0})}),
    ("eif.signature_form", {"payload": cbor({"register_index": 0, "register_value": PCR0})}),
]


@pytest.mark.parametrize(
    ("code", "lies"), SIGNING_ATTACKS, ids=[f"{n}-{c}" for n, (c, _) in enumerate(SIGNING_ATTACKS)]
)
def test_a_lie_in_the_signature_is_refused_by_its_rule(code: str, lies: dict[str, Any]) -> None:
    """The signature must be over this PCR0, by the key of the certificate that PCR8 measures."""
    assert code_of(signed(**lies).build()) == code


def test_a_signature_moved_to_another_image_is_refused() -> None:
    """An honest signature of another image says nothing about this one."""
    other = signed()
    draft = ImageDraft()
    draft.sections[4] = (RAMDISK, b"malicious root")
    draft.sections.append(other.sections[-1])
    assert code_of(draft.build()) == "eif.signature_pcr"


@pytest.mark.parametrize(
    "pem",
    [
        CERTIFICATE + CERTIFICATE,
        b"comment\n" + CERTIFICATE,
        CERTIFICATE[:-30],
        CERTIFICATE.replace(b"M", b"!", 1),
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        CERTIFICATE.replace(b"-----\n", b"-----", 1),
        CERTIFICATE + b"comment\n",
        CERTIFICATE.replace(b"-----BEGIN", b"-----END", 1),
    ],
    ids=["two", "comment", "cut", "not-base64", "not-der", "empty", "one-line", "comment-after", "two-ends"],
)
def test_a_signing_certificate_is_one_certificate_in_pem(pem: bytes) -> None:
    """With two, one reader would measure the first and another the last."""
    draft = ImageDraft()
    draft.sections.append((SIGNATURE, signature_section(KEY, pem, pcr0=PCR0)))
    assert code_of(draft.build()) == "eif.signature_certificate"


@pytest.mark.parametrize("filler", [b"\n", b"A", b"-----BEGIN CERTIFICATE-----\n", b"\n-----END CERTIFICATE-----"])
def test_a_long_certificate_text_is_looked_at_once(filler: bytes) -> None:
    """Whatever fills a section, where the text begins or ends is sought in one pass."""
    pem = CERTIFICATE[:28] + (filler * 32_000)[:32_000]
    section = signature_section(KEY, pem, pcr0=PCR0)
    began = time.process_time()
    with pytest.raises(EvidenceError) as refusal:
        judge_signature(section, pcr0=PCR0)
    assert refusal.value.code == "eif.signature_certificate"
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("key", [rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()], ids=type)
def test_a_signing_key_is_on_a_curve_of_the_format(key: Any) -> None:
    """RSA and Ed25519 certificates do not fit any of the three algorithms."""

    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])

    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
    builder = builder.not_valid_after(datetime(2027, 1, 1, tzinfo=UTC))
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    pem = builder.sign(key, digest).public_bytes(Encoding.PEM)
    draft = ImageDraft()
    draft.sections.append((SIGNATURE, signature_section(KEY, pem, pcr0=PCR0)))
    assert code_of(draft.build()) == "eif.signature_key"


@pytest.mark.parametrize("length", [0, 1, 4, HEADER - 1])
def test_a_file_without_a_whole_header_is_refused(length: int) -> None:
    """Nothing is read of it."""
    assert code_of(signed().build()[:length]) == "eif.size"


def test_a_file_that_shrinks_while_it_is_read_is_refused() -> None:
    """The size that was promised must be there."""
    data = signed().build()
    with pytest.raises(EvidenceError) as refusal:
        read_image(io.BytesIO(data[:-1]), size=len(data))
    assert refusal.value.code == "eif.truncated"


def test_two_images_with_equal_pcrs_can_be_different() -> None:
    """The beginning of a command line moves onto the kernel's tail unseen by PCR0, 1 and 2; the parts tell."""
    honest, moved = ImageDraft(), ImageDraft()
    kernel, cmdline = honest.of(KERNEL)[0], honest.of(CMDLINE)[0]
    moved.sections[0], moved.sections[1] = (KERNEL, kernel + cmdline[:40]), (CMDLINE, cmdline[40:])
    one, two = read(honest.build()), read(moved.build())
    assert one.pcrs == two.pcrs
    assert one.cmdline != two.cmdline
    assert two.kernel_tail.endswith(cmdline[:40])


@settings(max_examples=100, deadline=None)
@given(
    st.binary(min_size=1, max_size=200),
    st.binary(max_size=100),
    st.lists(st.binary(min_size=1, max_size=99), min_size=1, max_size=5),
)
def test_any_parts_are_measured_alike_by_three_ways(kernel: bytes, cmdline: bytes, disks: list[bytes]) -> None:
    """The streaming reader, the algorithm on parts, and the simulator's own agree."""
    draft = ImageDraft(sections=[(KERNEL, kernel), (CMDLINE, cmdline), *((RAMDISK, disk) for disk in disks)])
    pcrs = read(draft.build()).pcrs
    assert {index: pcrs[index] for index in (0, 1, 2)} == draft.pcrs()
    assert draft.pcrs() == measure(kernel=kernel, cmdline=cmdline, ramdisks=tuple(disks))


def test_a_trace_names_each_rule_that_passed() -> None:
    """Of a signed image all; of an unsigned one all but those about the signature; of a refused one those before."""
    trace = Trace()
    read(signed().build(), trace)
    assert {check.state for check in trace.checks(RULES)} == {State.PASSED}
    trace = Trace()
    read(ImageDraft().build(), trace)
    waived = {check.code for check in trace.checks(RULES) if check.state is State.NOT_DEMANDED}
    assert waived == {code for code in RULES if code.startswith("eif.signature")}
    trace = Trace()
    with pytest.raises(EvidenceError):
        read(ImageDraft(crc=1).build(), trace)
    states = {check.code: check.state for check in trace.checks(RULES, failed="eif.crc")}
    assert (states["eif.trailing"], states["eif.truncated"], states["eif.crc"]) == (
        State.PASSED,
        State.PASSED,
        State.FAILED,
    )
    assert states["eif.signature"] is State.NOT_JUDGED
    assert RULES.keys() <= errors.RULES.keys()


def mutate(original: bytes, chance: random.Random) -> bytes:
    data = bytearray(original)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data)) if chance.random() < 0.5 else chance.randrange(min(len(data), HEADER + 12))
        kind = chance.randrange(5)
        if kind == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[at : at + 8] = chance.choice((b"\xff" * 8, bytes(8), chance.randbytes(8)))
        elif kind == 2:
            del data[at : at + chance.randint(1, 64)]
        elif kind == 3:
            data[at:at] = chance.randbytes(chance.randint(1, 64))
        else:
            data = data[: max(1, at)]
    return bytes(data)


def test_a_thousand_mutated_images_end_in_a_verdict() -> None:
    """Each is refused with a code of the table, quickly and within 50 MiB, whatever sizes its header claims."""
    chance = random.Random("a thousand mutated images")
    original = signed().build()
    codes: dict[str, int] = {}
    slowest = 0.0
    tracemalloc.start()
    try:
        for turn in range(1000):
            mutated = mutate(original, chance)
            if turn % 2 and len(mutated) > HEADER:  # an attacker corrects the checksum
                mutated = with_crc(mutated)
            began = time.process_time()
            try:
                read(mutated)
            except EvidenceError as refusal:
                codes[refusal.code] = codes.get(refusal.code, 0) + 1
            else:
                codes["accepted"] = codes.get("accepted", 0) + 1
            slowest = max(slowest, time.process_time() - began)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert codes.keys() - {"accepted"} <= errors.RULES.keys()
    assert len(codes) >= 10, codes
    assert slowest < 0.5
    assert peak < 50 << 20


def with_crc(data: bytes) -> bytes:

    crc = zlib.crc32(data[: HEADER - 4] + data[HEADER:])
    return data[: HEADER - 4] + crc.to_bytes(4, "big") + data[HEADER:]


def test_a_large_image_is_measured_in_little_memory(tmp_path: Path) -> None:
    """A sparse image of 256 MiB is measured by a process that may map no more than 200 MiB in all."""
    size = 256 << 20
    head = ImageDraft(sections=[(KERNEL, b"k"), (CMDLINE, b"c"), (RAMDISK, b"r")]).build()
    path = tmp_path / "large.eif"
    sparse(path, head, size)
    program = (
        "import os, resource, sys\n"
        "from cipherkeep_attestation.eif.image import read_image\n"
        "from cipherkeep_attestation.errors import EvidenceError\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({200 << 20}, {200 << 20}))\n"
        "with open(sys.argv[1], 'rb', buffering=0) as stream:\n"
        "    image = read_image(stream, size=os.fstat(stream.fileno()).st_size)\n"
        "print(image.pcrs[0].hex(), image.sections[2].size)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    pcr0, ramdisk = done.stdout.split()
    assert int(ramdisk) == size
    digest = hashlib.sha384(b"kc")
    for _ in range(size >> 20):
        digest.update(bytes(1 << 20))
    assert pcr0 == extended(digest.digest()).hex()


def sparse(path: Path, head: bytes, size: int) -> None:
    """An image whose ramdisk is a hole in the file, with a correct table and checksum."""

    body = head[HEADER:-13] + struct.pack(">HHQ", 3, 0, size)
    table = bytearray(head[:HEADER])
    place = 4 + 2 + 2 + 8 + 8 + 2 + 2 + 32 * 8 + 2 * 8
    table[place : place + 8] = size.to_bytes(8, "big")
    crc = zlib.crc32(bytes(table[:-4]) + body)
    chunk = bytes(1 << 20)
    for _ in range(size >> 20):
        crc = zlib.crc32(chunk, crc)
    table[-4:] = crc.to_bytes(4, "big")
    path.write_bytes(bytes(table) + body)
    with path.open("r+b") as stream:
        stream.truncate(HEADER + len(body) + size)
