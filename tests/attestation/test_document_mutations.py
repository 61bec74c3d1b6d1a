"""A thousand mutated documents: never a crash, never a hang, never accepted when what was signed has changed."""

from __future__ import annotations

import json
import random
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cipherkeep_attestation.errors import RULES, EvidenceError
from cipherkeep_attestation.nitro.document import decode
from cipherkeep_attestation.nitro.verify import NO_NONCE, InsecureAnyMeasurement, Policy, aws_root, verify
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulators.attestation import IMAGE, SimulatedPlatform

VECTORS = Path(__file__).resolve().parent.parent / "vectors" / "nitro"
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
PLATFORM = SimulatedPlatform(at=NOW)
DOCUMENT = PLATFORM.document()


def mutate(original: bytes, chance: random.Random) -> bytes:
    data = bytearray(original)
    for _ in range(chance.randint(1, 3)):
        if not data:
            break
        at = chance.randrange(len(data))
        kind = chance.randrange(6)
        if kind == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[at] = chance.randrange(256)
        elif kind == 2:
            del data[at : at + chance.randint(1, 64)]
        elif kind == 3:
            data[at:at] = chance.randbytes(chance.randint(1, 64))
        elif kind == 4:
            other = chance.randrange(len(data))
            data[at:at] = data[other : other + chance.randint(1, 64)]
        else:
            data = data[: max(1, at)]
    return bytes(data)


def mutations(count: int) -> Iterator[tuple[bytes, bytes, datetime]]:
    index = json.loads((VECTORS / "index.json").read_text())
    chance = random.Random("a thousand mutated documents")
    originals = [
        ((VECTORS / entry["file"]).read_bytes(), datetime.fromisoformat(entry["timestamp"])) for entry in index
    ]
    for turn in range(count):
        original, at = originals[turn % len(originals)]
        yield original, mutate(original, chance), at


def test_a_thousand_mutated_documents_end_in_a_verdict() -> None:
    """Each is refused with a code of the table within half a second and 50 MiB, unless its meaning is untouched."""
    policy = Policy(
        measurements=InsecureAnyMeasurement(),
        nonce=NO_NONCE,
        public_key=None,
        max_age=timedelta(hours=1),
        insecure_allow_debug=True,
    )
    codes: dict[str, int] = {}
    slowest = 0.0
    tracemalloc.start()
    try:
        for original, mutated, at in mutations(1000):
            began = time.process_time()
            try:
                verify(mutated, root=aws_root(), policy=policy, at=at)
            except EvidenceError as refusal:
                codes[refusal.code] = codes.get(refusal.code, 0) + 1
            else:
                assert decode(mutated, expected=None).signed == decode(original, expected=None).signed
            slowest = max(slowest, time.process_time() - began)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert codes.keys() <= RULES.keys()
    assert len(codes) >= 15, codes
    assert sum(codes.values()) >= 990
    assert slowest < 0.5
    assert peak < 50 << 20


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_mutated_simulated_document_never_keeps_its_verdict(data: st.DataObject) -> None:
    """Any single byte that changes, other than in the signature's own form, is refused."""
    policy = Policy(measurements=(IMAGE,), nonce=NO_NONCE, public_key=None, max_age=timedelta(minutes=5))
    original = DOCUMENT
    at, value = data.draw(st.integers(0, len(original) - 1)), data.draw(st.integers(0, 255))
    mutated = original[:at] + bytes([value]) + original[at + 1 :]
    try:
        verify(mutated, root=PLATFORM.root(), policy=policy, at=NOW)
    except EvidenceError as refusal:
        assert refusal.code in RULES
    else:
        assert mutated == original


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_are_no_document(data: bytes) -> None:
    """Whatever it is, it is refused with a code."""
    try:
        decode(data, expected=None)
    except EvidenceError as refusal:
        assert refusal.code in RULES
    else:
        raise AssertionError("accepted")
