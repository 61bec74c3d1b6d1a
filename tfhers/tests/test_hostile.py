"""Hostile bytes: nothing aborts, stalls or grows the process, and every refusal is an exception of ours."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import tfhers._tfhers as native
from insecure_keys import Keys

import tfhers

U32, U64 = struct.Struct("<I"), struct.Struct("<Q")


def crafted(*, dimension: int = 4, size: int = 256, words: int = 0, bodies: int = 32, blocks: int = 32) -> bytes:
    """A packed list written by hand, with the dimensions an attacker likes."""

    def text(data: bytes) -> bytes:
        return U64.pack(len(data)) + data

    def number(value: int) -> bytes:
        return U32.pack(0) + U64.pack(value)

    modulus = U32.pack(0) + U64.pack(0) * 2 + U64.pack(64)
    head = text(b"0.5") + U32.pack(0) + text(b"0.1") + text(b"high_level_api::CompressedCiphertextList")
    glwe = U32.pack(0) * 2 + U64.pack(words) + bytes(8 * words) + number(12)
    glwe += U64.pack((dimension * size + bodies) % 2**64) + number(dimension) + number(size) + number(bodies) + modulus
    meta = b"\1" + U32.pack(0) + modulus + number(4) + number(4) + U32.pack(0) * 4 + number(256)
    kinds = U64.pack(1) + U32.pack(1) + U32.pack(0) + U64.pack(blocks)
    tail = U32.pack(0) + U64.pack(0) + U64.pack(1) + U32.pack(0) + U64.pack(0)
    return head + U32.pack(3) + U32.pack(0) + U32.pack(2) + U64.pack(1) + glwe + meta + kinds + tail


def test_the_hand_written_list_is_the_real_form() -> None:
    """The writer of these tests agrees with the reader: an all-zero list of the right shape is accepted."""
    assert tfhers.packed_types(crafted(words=198)) == ["uint64"]


@pytest.mark.parametrize(
    "shape",
    [
        {"dimension": 0, "size": 1 << 40, "words": 6},
        {"dimension": 0, "size": 2**64 - 1, "words": 6},
        {"dimension": 2**64 - 1, "size": 2, "words": 6},
        {"dimension": 4, "size": 256, "words": 6},
        {"words": 198, "bodies": 0, "blocks": 0},
        {"words": 198, "bodies": 33},
        {"words": 198, "blocks": 2**64 - 1},
        {"words": 199},
    ],
)
def test_a_list_with_crafted_dimensions_is_refused(keys: Keys, shape: dict[str, int]) -> None:
    """The lists that pass TFHE-rs' reader and then abort the process or burn a minute end here."""
    data = crafted(**shape)
    with pytest.raises(tfhers.FormatError):
        tfhers.packed_types(data)
    with pytest.raises(tfhers.FormatError):
        keys.client.decrypt_packed(data)


def test_every_shortened_and_lengthened_list_is_refused(keys: Keys) -> None:
    """No prefix of a list is a list, and nothing may follow one."""
    data = keys.packed(("uint64", 7), ("bool", 1))
    for length in range(len(data)):
        with pytest.raises(tfhers.FormatError):
            tfhers.packed_types(data[:length])
    with pytest.raises(tfhers.FormatError, match="left over"):
        tfhers.packed_types(data + b"\0")
    with pytest.raises(tfhers.FormatError, match="more than"):
        tfhers.packed_types(data + bytes(1 << 20))


def test_every_changed_byte_outside_the_coefficients_is_refused_or_harmless(keys: Keys) -> None:
    """Only coefficients, tag and the split into types are free; all else is fixed to the byte."""
    data = keys.packed(("uint64", 7))
    words = data.index(U64.pack(198), 80) + 8
    coefficients = range(words, words + 8 * 198)
    tag = data.index(b"insecure test key")
    free = {*coefficients, *range(tag, tag + 17)}
    for at in set(range(len(data))) - free:
        changed = bytearray(data)
        changed[at] ^= 0x20
        with pytest.raises(tfhers.FormatError):
            tfhers.packed_types(bytes(changed))


@pytest.mark.parametrize("in_pool", [False, True])
def test_a_panic_is_an_exception_and_shows_nothing(capfd: pytest.CaptureFixture[str], in_pool: bool) -> None:
    """What Rust code panics with, in the calling thread or in a pool's, is neither raised nor printed."""
    with pytest.raises(tfhers.TfheError, match="panicked") as refusal:
        native._panic("a secret", in_pool)
    assert "secret" not in str(refusal.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.timeout(400)
def test_ten_thousand_mutated_inputs(keys: Keys, tmp_path: Path) -> None:
    """Flips, cuts, splices and edited lengths, in a process with little memory to spare: only our exceptions,
    no call longer than its bound, no growth."""
    flag, number = tfhers.expand(keys.public.encrypt([("bool", 1), ("uint8", 9)]), keys.server)
    samples = {
        "packed": keys.packed(("uint64", 7), ("bool", 1), ("uint256", 3)),
        "many": keys.packed(*[("uint256", value) for value in range(3)]),
        "public_key": keys.public_file.read_bytes(),
        "bool": flag.to_bytes(),
        "uint8": number.to_bytes(),
        "sealed": keys.client.seal(b"k" * 32, b""),
        "plain_list": keys.public.encrypt([("uint8", 7)]),
        "proven_list": keys.public.encrypt_with_proof([("uint8", 7)], keys.crs, b"m", load="proof"),
        "crs": keys.crs_file.read_bytes(),
        "server_key": keys.server_file.read_bytes(),
    }
    for name, data in samples.items():
        (tmp_path / name).write_bytes(data)
    program = Path(__file__).with_name("mutations.py")
    done = subprocess.run([sys.executable, str(program), str(tmp_path)], capture_output=True, text=True, timeout=380)
    assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr[-2000:]}"
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert sum(report["calls"].values()) >= 10_000
    assert report["foreign"] == []
    assert report["slow"] == []
    assert report["growth_mib"] < 64, report
