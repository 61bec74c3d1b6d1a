"""`document verify --batch`: one verdict per line, in order, whatever the lines hold."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from cipherkeep_attestation.errors import RULES

from tests.attestation.cli.running import AT, INDEX, NONCE, VECTORS, Files, audit
from tests.simulators.attestation import PCRS

IMAGE = {str(index): PCRS[index].hex() for index in (0, 1, 2)}
POLICY = {"measurements": [IMAGE], "allow_debug": False, "nonce": NONCE.hex(), "max_age_seconds": 300}
ANY = {"insecure_any_measurement": True, "allow_debug": True, "max_age_seconds": 60}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def line(files: Files, name: object = "a", **changes: Any) -> dict[str, Any]:
    common = {"id": name, "document": str(files.document), "root": str(files.root), "at": AT, "policy": POLICY}
    return {**common, **changes}


def judged(files: Files, *entries: object) -> list[dict[str, Any]]:
    """Verdicts on lines: objects as JSON, bytes as they are."""
    raw = [entry if isinstance(entry, bytes) else json.dumps(entry).encode() for entry in entries]
    done = audit("document", "verify", "--batch", files.write("batch.jsonl", b"\n".join(raw) + b"\n"))
    verdicts = [json.loads(text) for text in done.lines()]
    assert all(verdict.keys() == {"id", "accepted", "code", "message"} for verdict in verdicts)
    assert done.code == (0 if all(verdict["accepted"] for verdict in verdicts) else 1)
    return verdicts


def test_a_batch_has_one_verdict_per_line_in_order(files: Files) -> None:
    """Good and bad lines alternate; each keeps its place and its id, and the bad ones name their rule."""
    host = files.write("host.bin", files.platform.document(kind="host", nonce=NONCE))
    verdicts = judged(
        files,
        line(files, "good"),
        line(files, 2, at="2026-07-01T15:00:00Z"),
        b"{",
        line(files, "other", policy={**POLICY, "measurements": [{**IMAGE, "1": "09" * 48}]}),
        b"",
        line(files, "either", policy={**POLICY, "measurements": [{**IMAGE, "1": "09" * 48}, IMAGE]}),
        line(files, "nonce", policy={**POLICY, "nonce": "00"}),
        line(files, "host", document=str(host)),
        line(files, "root", root="aws"),
        line(files, "last"),
    )
    assert [(verdict["id"], verdict["code"]) for verdict in verdicts] == [
        ("good", None),
        (2, "path.expired"),
        (None, "batch.json"),
        ("other", "document.pcr_mismatch"),
        (None, "batch.json"),
        ("either", None),
        ("nonce", "document.nonce"),
        ("host", "document.is_host_document"),
        ("root", "path.root"),
        ("last", None),
    ]


@pytest.mark.parametrize("entry", INDEX, ids=lambda entry: entry["file"][:8] + entry["sha256"][:6])
def test_authentic_documents_are_accepted_at_their_time_only(files: Files, entry: dict[str, Any]) -> None:
    """Under AWS's root, at the time they were made, in debug mode only where that is allowed."""
    given = line(files, document=str(VECTORS / entry["file"]), root="aws", at=entry["timestamp"], policy=ANY)
    strict = {**ANY, "allow_debug": False}
    found = judged(files, given, {**given, "policy": strict}, {**given, "at": AT}, {**given, "root": str(files.root)})
    assert [verdict["code"] for verdict in found] == [
        None,
        "document.debug" if entry["debug"] else None,
        "path.expired" if entry["timestamp"][:10] < "2026-06-30" else found[2]["code"],
        "path.root",
    ]
    assert found[2]["accepted"] is False


def test_a_second_before_its_certificate_begins_a_document_is_refused(files: Files) -> None:
    """Lines name no drift, so that there is none: a document's second is the first at which it holds."""
    draft = files.platform.draft(nonce=NONCE)
    draft.path["leaf"].not_before = files.platform.at
    draft.fields["timestamp"] += 999
    late = line(files, document=str(files.write("late.bin", draft.sign())))
    found = judged(files, late, {**late, "at": "2026-07-01T11:59:59Z"}, {**late, "at": "9999-12-31T23:59:59Z"})
    assert [verdict["code"] for verdict in found] == [None, "path.not_yet_valid", "path.expired"]


WRONG_LINES: list[tuple[str, dict[str, Any]]] = [
    ("batch.fields", {"document": "/nowhere/at/all"}),
    ("batch.fields", {"document": "/dev/zero"}),
    ("batch.fields", {"document": "-"}),
    ("batch.fields", {"root": "-"}),
    ("batch.fields", {"document": 7}),
    ("batch.fields", {"document": "nul\0name"}),
    ("batch.fields", {"root": "AWS"}),
    ("batch.fields", {"root": None}),
    ("batch.fields", {"at": "now"}),
    ("batch.fields", {"at": "2026-07-01T12:00:00"}),
    ("batch.fields", {"at": 1_782_907_200}),
    ("batch.fields", {"id": None}),
    ("batch.fields", {"id": True}),
    ("batch.fields", {"id": "x" * 257}),
    ("batch.fields", {"extra": 1}),
    ("batch.fields", {"policy": None}),
    ("batch.fields", {"policy": {}}),
    ("batch.fields", {"policy": {"insecure_any_measurement": False}}),
    ("batch.fields", {"policy": {**POLICY, "insecure_any_measurement": True}}),
    ("batch.fields", {"policy": {"insecure_any_measurement": 1}}),
    ("batch.fields", {"policy": {**POLICY, "measurements": []}}),
    ("batch.fields", {"policy": {**POLICY, "measurements": [{}]}}),
    ("batch.fields", {"policy": {**POLICY, "measurements": IMAGE}}),
    ("batch.fields", {"policy": {**POLICY, "measurements": [{"8": "00" * 48}]}}),
    ("batch.fields", {"policy": {**POLICY, "measurements": [{**IMAGE, "32": "00" * 48}]}}),
    ("batch.fields", {"policy": {**POLICY, "measurements": [{**IMAGE, "00": "00" * 48}]}}),
    ("batch.fields", {"policy": {**POLICY, "measurements": [{**IMAGE, "3": "00" * 32}]}}),
    ("batch.fields", {"policy": {**POLICY, "measurements": [{**IMAGE, "3": 0}]}}),
    ("batch.fields", {"policy": {**POLICY, "allow_debug": "yes"}}),
    ("batch.fields", {"policy": {**POLICY, "nonce": ""}}),
    ("batch.fields", {"policy": {**POLICY, "nonce": 5}}),
    ("batch.fields", {"policy": {**POLICY, "max_age_seconds": -1}}),
    ("path.expired", {"at": "9999-12-31T23:59:59Z"}),
    ("path.not_yet_valid", {"at": "0001-01-01T00:00:00Z"}),
    ("batch.fields", {"at": "2026-07-01T12:00:00+00:60"}),
    ("batch.fields", {"policy": {**POLICY, "measurements": [{"1": IMAGE["1"]}]}}),
    ("batch.fields", {"policy": {**POLICY, "max_age_seconds": True}}),
    ("batch.fields", {"policy": {**POLICY, "alow_debug": False}}),
]


@pytest.mark.parametrize(("code", "changes"), WRONG_LINES, ids=[str(changes)[:60] for _, changes in WRONG_LINES])
def test_a_wrong_line_is_refused_and_the_next_one_judged(files: Files, code: str, changes: dict[str, Any]) -> None:
    """A demand that is misspelt or malformed is never a demand that is left out."""
    first, second = judged(files, line(files, **changes), line(files, "next"))
    assert (first["accepted"], first["code"]) == (False, code)
    assert second["accepted"] is True


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b"1",
        b"null",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b'{"id": "a", "id": "b"}',
        b'{"id": NaN}',
        b'{"id": 1.5}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"id": ' + b"9" * 5000 + b"}",
        b'{"id": "a"} {"id": "b"}',
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_what_is_not_one_json_object_is_refused(files: Files, raw: bytes) -> None:
    """Duplicate names, floats, two values, and nesting without end included."""
    first, second = judged(files, raw, line(files, "next"))
    assert (first["code"], first["id"], second["accepted"]) == ("batch.json", None, True)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b'{"id": "a", "at": 1.5}', "a"),
        (b'{"id": 7, "at": "x", "at": "y"}', 7),
        (b'{"at": {"id": "inner", "id": "again"}, "id": "outer", "x": NaN}', "outer"),
        (b'{"id": "a", "n": {"id": "b"}, "n": 0}', "a"),
        (b'{"id": "a", "n": [[]], "n": 1e9, "id": "a"}', None),
        (b'{"id": ["a"], "n": 1.5}', None),
        (b'{"id": true, "n": 1.5}', None),
        (b'[{"id": "a", "n": 1.5}]', None),
    ],
)
def test_a_verdict_keeps_the_id_that_can_be_read(files: Files, raw: bytes, name: object) -> None:
    """A number or a repeated name elsewhere refuses the line and not its id; two ids are none."""
    first, second = judged(files, raw, line(files, "next"))
    assert (first["code"], first["id"], second["accepted"]) == ("batch.json", name, True)


def test_an_age_is_any_number_of_seconds(files: Files) -> None:
    """Of 0 a document must have been made in the very millisecond; a huge one demands nothing."""
    later = "2026-07-01T12:00:00.002Z"
    cases = [(0, AT, None), (0, later, "document.too_old"), (10**30, later, None), (1, later, None)]
    lines = [line(files, at=at, policy={**POLICY, "max_age_seconds": age}) for age, at, _ in cases]
    assert [verdict["code"] for verdict in judged(files, *lines)] == [code for _, _, code in cases]


def test_a_line_without_end_is_skipped_in_pieces(files: Files) -> None:
    """A line of many MiB has its verdict, and the line after it is judged."""
    first, second = judged(files, b'{"id": "' + b"x" * (8 << 20), line(files, "next"))
    assert (first["code"], second["accepted"]) == ("batch.size", True)


def test_a_line_in_which_only_pcr0_is_named_says_so(files: Files) -> None:
    """It is compared as it was asked, and the verdict says what was not."""
    (one,) = judged(files, line(files, policy={**POLICY, "measurements": [{"0": IMAGE["0"]}]}))
    assert one["accepted"] is True
    assert "PCR1" in one["message"]


def test_what_is_not_demanded_is_not_compared(files: Files) -> None:
    """Without nonce and age the path's validity and the measurements decide."""
    given = {"measurements": [IMAGE]}
    at = ("2026-07-01T14:29:00Z", "2026-07-01T14:31:00Z")
    found = judged(files, *(line(files, at=moment, policy=given) for moment in at))
    assert [verdict["code"] for verdict in found] == [None, "path.expired"]


def test_a_batch_that_cannot_be_read_is_no_batch(files: Files) -> None:
    """Exit code 2 and nothing printed; an empty one has no verdicts and nothing refused."""
    assert audit("document", "verify", "--batch", files.folder / "missing").code == 2
    done = audit("document", "verify", "--batch", files.write("empty", b""))
    assert (done.code, done.out) == (0, "")


def test_a_thousand_documents_take_seconds(files: Files) -> None:
    """Hundreds per second: each line its own document and nonce, most of them mutated."""
    chance = random.Random("a thousand lines")
    honest = [files.platform.document(nonce=chance.randbytes(32)) for _ in range(20)]
    entries = []
    for turn in range(1000):
        data = bytearray(honest[turn // 50])
        if turn % 4:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path = files.write(f"{turn}.bin", bytes(data))
        entries.append(line(files, turn, document=str(path), policy={"measurements": [IMAGE]}))
    began = time.process_time()
    verdicts = judged(files, *entries)
    taken = time.process_time() - began
    assert [verdict["id"] for verdict in verdicts] == list(range(1000))
    assert all(verdict["accepted"] for verdict in verdicts[::4])
    assert {verdict["code"] for verdict in verdicts} <= {None, *RULES}
    assert not {verdict["code"] for verdict in verdicts} & {"batch.defect", "batch.fields"}
    assert taken < 5
