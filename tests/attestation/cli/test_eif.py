"""`eif measure` and `eif compare`: tables of what an image is, and a verdict that sees through equal measurements."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.attestation.cli.running import audit
from tests.simulators.eif import CMDLINE, KERNEL, METADATA, RAMDISK, ImageDraft, der, extended, parts, signer

KEY = ec.generate_private_key(ec.SECP384R1())
CERTIFICATE = signer(KEY)


def written(folder: Path, name: str, draft: ImageDraft) -> Path:
    path = folder / name
    path.write_bytes(draft.build())
    return path


def test_measure_prints_the_pcrs_and_every_section(tmp_path: Path) -> None:
    """PCR0, 1, 2 and 8, a row per section, who signed, and that the metadata is a claim."""
    draft = ImageDraft()
    draft.sign(KEY, CERTIFICATE)
    path = written(tmp_path, "image.eif", draft)
    done = audit("eif", "measure", path)
    assert done.code == 0
    expected = {**draft.pcrs(), 8: extended(hashlib.sha384(der(CERTIFICATE)).digest())}
    for index, value in expected.items():
        assert any(line.startswith(f"  PCR{index}  {value.hex()}") for line in done.lines())
    rows = [line.split()[0] for line in done.lines() if " sha256 " in line and " at " in line]
    assert rows == ["kernel", "cmdline", "metadata", "ramdisk", "ramdisk", "signature"]
    assert any(line.startswith("metadata (not measured") for line in done.lines())
    said = audit("eif", "measure", path, "--json").json()
    assert said["pcrs"] == {f"PCR{index}": value.hex() for index, value in expected.items()}
    assert said["signature"]["certificate_sha256"] == hashlib.sha256(der(CERTIFICATE)).hexdigest()
    assert said["metadata"]["ImageName"] == "demo"


def test_measure_warns_of_what_no_pcr_covers(tmp_path: Path) -> None:
    """The beginning of the command line can be taken away; text at the kernel's end may be what was."""
    honest = audit("eif", "measure", written(tmp_path, "a.eif", ImageDraft()))
    assert any("lockdown=confidentiality" in line for line in honest.lines() if line.startswith("warning"))
    assert not any("ends with text" in line for line in honest.lines())
    assert any("not signed" in line for line in honest.lines())
    sections = parts()
    sections[0] = (KERNEL, sections[0][1] + b"lockdown=confidentiality ")
    moved = audit("eif", "measure", written(tmp_path, "b.eif", ImageDraft(sections=sections)))
    assert any("the kernel ends with text" in line for line in moved.lines())
    sections = [*parts()[:2], *parts()[3:], (RAMDISK, b"third")]
    sections[1] = (CMDLINE, b"quiet\n")
    third = audit("eif", "measure", written(tmp_path, "c.eif", ImageDraft(sections=sections))).out
    for said in ("third begins", "no metadata", "not printable"):
        assert said in third


@pytest.mark.parametrize(("length", "warned"), [(2047, False), (2048, True), (4096, True)])
def test_measure_warns_of_a_command_line_that_linux_cuts(tmp_path: Path, length: int, warned: bool) -> None:
    """What stands behind its 2,047th byte is measured and never read."""
    draft = ImageDraft()
    draft.sections[1] = (CMDLINE, b"a" * length)
    done = audit("eif", "measure", written(tmp_path, "long.eif", draft))
    assert any("Linux reads 2047" in line for line in done.lines() if line.startswith("warning")) is warned


def test_a_hostile_image_is_refused_with_a_reason(tmp_path: Path) -> None:
    """One rule failed, none after it was judged, no measurement is shown."""
    done = audit("eif", "measure", written(tmp_path, "a.eif", ImageDraft(sizes={0: 2**63})))
    assert (done.code, "refused: image: eif.beyond_file" in done.lines()) == (1, True)
    assert not any(line.startswith(("  PCR", "measurements")) for line in done.lines())
    assert [line.split()[0] for line in done.lines() if "eif.crc" in line] == ["not"]
    for name in ("missing", "pipe", "."):
        if name == "pipe":
            os.mkfifo(tmp_path / name)
        assert audit("eif", "measure", tmp_path / name).code == 2


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a": 1, "a": 2}', b"\xff", b"[" * 50_000])
def test_metadata_is_one_json_object(tmp_path: Path, content: bytes) -> None:
    """Nothing measures it, and whoever displays it must not be misled by it."""
    sections = parts()
    sections[2] = (METADATA, content)
    done = audit("eif", "measure", written(tmp_path, "a.eif", ImageDraft(sections=sections)))
    assert (done.code, "eif.metadata" in done.out) == (1, True)


def test_metadata_cannot_write_on_the_terminal(tmp_path: Path) -> None:
    """Control characters of a claim, or of a command line, are printed escaped; numbers of any kind are let be."""
    sections = parts()
    sections[1] = (CMDLINE, b"\x1b[2Jquiet")
    sections[2] = (METADATA, b'{"ImageName": "\\u001b[31m", "CustomMetadata": {"version": 1.5}}')
    done = audit("eif", "measure", written(tmp_path, "a.eif", ImageDraft(sections=sections)))
    assert done.code == 0
    assert "\x1b" not in done.out


def test_compare_accepts_what_is_measured_alike(tmp_path: Path) -> None:
    """Signature and metadata may differ: an auditor's own build is unsigned and made at another time."""
    signed = ImageDraft()
    signed.sign(KEY, CERTIFICATE)
    sections = parts()
    sections[2] = (METADATA, b'{"ImageName": "mine"}')
    one = written(tmp_path, "one.eif", signed)
    two = written(tmp_path, "two.eif", ImageDraft(sections=sections))
    done = audit("eif", "compare", one, two)
    assert done.code == 0
    warned = [line for line in done.lines() if line.startswith("warning")]
    assert len(warned) == 2
    assert "A is signed, B is unsigned" in warned[0]
    assert audit("eif", "compare", one, one).code == 0


def test_compare_refuses_other_measurements_and_says_where(tmp_path: Path) -> None:
    """The row of the part that differs says so."""
    sections = parts()
    sections[4] = (RAMDISK, b"other root")
    one = written(tmp_path, "one.eif", ImageDraft())
    two = written(tmp_path, "two.eif", ImageDraft(sections=sections))
    said = audit("eif", "compare", one, two, "--json").json()
    assert (said["code"], said["message"][-12:]) == ("eif.differs", "(PCR0, PCR2)")
    done = audit("eif", "compare", one, two)
    assert done.code == 1
    assert [line.split()[2] for line in done.lines() if line.startswith("  section")] == ["equal"] * 4 + ["different"]


@pytest.mark.parametrize("cut", [1, 17, 40])
def test_compare_sees_through_equal_measurements(tmp_path: Path, cut: int) -> None:
    """A command line that lost its beginning to the kernel has the same PCRs, and is another image."""
    sections = parts()
    kernel, cmdline = sections[0][1], sections[1][1]
    sections[0], sections[1] = (KERNEL, kernel + cmdline[:cut]), (CMDLINE, cmdline[cut:])
    one = written(tmp_path, "one.eif", ImageDraft())
    two = written(tmp_path, "two.eif", ImageDraft(sections=sections))
    done = audit("eif", "compare", one, two)
    assert (done.code, "refused: images: eif.ambiguous" in done.lines()) == (1, True)
    assert [line.split()[1] for line in done.lines() if line.startswith("  PCR")] == ["equal"] * 4


def test_compare_names_the_image_that_is_none(tmp_path: Path) -> None:
    """Either side; the exit code is that of a refusal."""
    good = written(tmp_path, "good.eif", ImageDraft())
    bad = written(tmp_path, "bad.eif", ImageDraft(crc=0))
    for pair in ((good, bad), (bad, good)):
        done = audit("eif", "compare", *pair)
        assert (done.code, "bad.eif" in done.out, "eif.crc" in done.out) == (1, True, True)
