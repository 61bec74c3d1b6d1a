"""`cipherkeep-audit proof verify`: single proofs, batches, and every vector of the reference with its verdict."""

from __future__ import annotations

import base64
import io
import json
import os
import shlex
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from cipherkeep_attestation.chain import ics23
from cipherkeep_attestation.cli import proof as command
from cipherkeep_attestation.cli.main import main
from cipherkeep_attestation.cli.output import run_batch
from cipherkeep_attestation.errors import RULES

from tests.simulators.chain import SimulatedChain, Tree, message, number, sha256, sized, uvarint

FOLDER = Path(__file__).parents[2] / "vectors" / "ics23"
VECTORS = [("tendermint", path) for path in sorted(FOLDER.glob("*.json"))]
VECTORS += [("iavl", path) for path in sorted((FOLDER / "iavl").glob("*.json"))]
OTHER = {"tendermint": "iavl", "iavl": "tendermint"}


def line(spec: str, path: Path, **other: Any) -> dict[str, Any]:
    found = json.loads(path.read_text())
    row = {"id": path.stem, "spec": spec, "root": found["root"], "key": found["key"], "proof": found["proof"]}
    return {**row, "value": found["value"] or None, **other}


def judged(tmp_path: Path, *lines: Any) -> list[dict[str, Any]]:
    path, output = tmp_path / "batch.jsonl", io.StringIO()
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in lines))
    run_batch(str(path), command.judge_line, line_limit=command.LINE_LIMIT, output=output)
    verdicts = [json.loads(row) for row in output.getvalue().splitlines()]
    assert len(verdicts) == len(lines)
    assert all(verdict["code"] is None or verdict["code"] in RULES for verdict in verdicts)
    return verdicts


def test_the_references_proofs_are_accepted_under_their_own_specification_only(tmp_path: Path) -> None:
    """Twelve proofs of existence and absence; under the other specification none of them holds."""
    assert len(VECTORS) == 12
    verdicts = judged(tmp_path, *(line(spec, path) for spec, path in VECTORS))
    assert all(verdict["accepted"] for verdict in verdicts)
    assert [verdict["id"] for verdict in verdicts] == [path.stem for _, path in VECTORS]
    verdicts = judged(tmp_path, *(line(OTHER[spec], path) for spec, path in VECTORS))
    assert not any(verdict["accepted"] for verdict in verdicts)


def test_the_longest_proof_costs_little_memory(tmp_path: Path) -> None:
    """A line full of hexadecimal digits, and a file of them, are read in a few times their length."""
    text = "0a" * ics23.MAX_PROOF
    path = tmp_path / "proof.hex"
    path.write_text(text)
    row = {"id": 1, "spec": "tendermint", "root": "00" * 32, "key": "00", "value": "00", "proof": text}
    tracemalloc.start()
    (verdict,) = judged(tmp_path, row)
    code = main(["proof", "verify", str(path), "--app-hash", "00" * 32, "--key", "00", "--value", "00"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (verdict["accepted"], code) == (False, 1)
    assert peak < 20 << 20


@pytest.mark.parametrize("change", ["root", "key", "value", "claim", "proof"])
def test_a_proof_shows_one_thing_only(tmp_path: Path, change: str) -> None:
    """Another root, key or value, absence for presence and the other way round, a changed bit: each is refused."""
    rows = []
    for spec, path in VECTORS:
        row = line(spec, path)
        if change == "claim":
            row["value"] = "00" if row["value"] is None else None
        elif change == "value":
            row["value"] = (row["value"] or "") + "00"
        else:
            row[change] = row[change][:-1] + ("0" if row[change][-1] != "0" else "1")
        rows.append(row)
    assert not any(verdict["accepted"] for verdict in judged(tmp_path, *rows))


# --- the reference's unit data ---


def _op(found: dict[str, Any]) -> tuple[bytes, bytes]:
    """ics23.LeafOp or ics23.InnerOp from the reference's JSON, as protobuf."""
    prefix, suffix = (base64.b64decode(found.get(name, "")) for name in ("prefix", "suffix"))
    leaf = number(1, found.get("hash", 0)) + number(2, found.get("prehash_key", 0))
    leaf += number(3, found.get("prehash_value", 0)) + number(4, found.get("length", 0)) + sized(5, prefix)
    return leaf, number(1, found.get("hash", 0)) + sized(2, prefix) + sized(3, suffix)


def _reference(found: dict[str, Any]) -> tuple[bytes, bytes, bytes, bytes]:
    """Key, value, proof and the root to which its operations lead, whatever they are."""
    key, value = (base64.b64decode(found.get(name, "")) for name in ("key", "value"))
    body = sized(1, key) + sized(2, value)
    leaf = found.get("leaf")
    if leaf is not None:
        body += message(3, _op(leaf)[0])
    prefix = base64.b64decode((leaf or {}).get("prefix", ""))
    hashed = sha256(value) if (leaf or {}).get("prehash_value") else value
    node = sha256(prefix + uvarint(len(key)) + key + uvarint(len(hashed)) + hashed)
    for step in found.get("path", []):
        body += message(4, _op(step)[1])
        suffix = base64.b64decode(step.get("suffix", ""))
        node = sha256(base64.b64decode(step.get("prefix", "")) + node + suffix)
    return key, value, message(1, body), node


def test_the_references_checks_against_a_specification_have_its_verdict(tmp_path: Path) -> None:
    """What the reference accepts under the IAVL specification is accepted, what it refuses is refused."""
    data = json.loads((FOLDER / "reference" / "TestCheckAgainstSpecData.json").read_text())
    rows, expected = [], []
    for name, case in data.items():
        assert case["Spec"]["inner_spec"]["child_size"] == 33
        key, value, proof, root = _reference(case["Proof"])
        shown = {"root": root.hex(), "key": key.hex(), "value": value.hex(), "proof": proof.hex()}
        rows.append({"id": name, "spec": "iavl", **shown})
        expected.append(case["Err"] == "")
    verdicts = judged(tmp_path, *rows)
    assert {row["id"]: row["accepted"] for row in verdicts} == dict(zip(data, expected, strict=True))
    assert sum(expected) == 3


def test_malleable_leaves_prove_nothing_under_a_specification(tmp_path: Path) -> None:
    """The reference shows that its operations alone let bytes wander; under both specifications all of them fail."""
    data = json.loads((FOLDER / "reference" / "TestExistenceProofData.json").read_text())
    rows = []
    for name, case in data.items():
        key, value, proof, root = _reference(case["Proof"])
        shown = {"root": root.hex(), "key": key.hex(), "value": value.hex(), "proof": proof.hex()}
        rows += [{"id": f"{name} {spec}", "spec": spec, **shown} for spec in OTHER]
    assert not any(verdict["accepted"] for verdict in judged(tmp_path, *rows))


# --- forgeries through the batch ---


def test_bytes_moved_from_key_to_prefix_prove_no_absence(tmp_path: Path) -> None:
    """One leaf, split elsewhere, is a neighbour with another key: a forged absence that the specification lets pass."""
    at = (0x0105).to_bytes(8, "big")
    tree = Tree({**{n.to_bytes(8, "big"): b"v%d" % n for n in range(0, 40, 2)}, at: b"honest"})
    prefix = b"\x00\x08" + bytes(6)
    honest = tree.existence(at)
    path = honest[honest.index(b"\x22") :]
    leaf_op = number(1, 1) + number(3, 1) + number(4, 1) + sized(5, prefix)
    forged = sized(1, b"\x05") + sized(2, b"honest") + message(3, leaf_op) + path
    proof = message(2, sized(1, at) + message(2, forged))
    shown = {"root": tree.root().hex(), "key": at.hex(), "value": None, "proof": proof.hex()}
    (verdict,) = judged(tmp_path, {"id": 1, "spec": "tendermint", **shown})
    assert verdict["code"] == "proof.leaf_op"


def test_batches_of_proofs_are_not_read(tmp_path: Path) -> None:
    """Compressed or not, under both specifications."""
    spec, path = VECTORS[0]
    body = bytes.fromhex(json.loads(path.read_text())["proof"])[3:]
    rows = [
        line(name, path, proof=message(kind, message(1, message(1, body))).hex()) for kind in (3, 4) for name in OTHER
    ]
    assert [verdict["code"] for verdict in judged(tmp_path, *rows)] == ["proof.batch"] * 4
    assert spec == "tendermint"


@pytest.mark.parametrize(
    "other",
    [
        {"spec": "smt"},
        {"spec": None},
        {"root": "xyz"},
        {"root": None},
        {"key": 7},
        {"key": "0"},
        {"proof": ""},
        {"proof": "zz"},
        {"value": 7},
        {"value": ""},
        {"extra": 1},
        {"root": ""},
    ],
)
def test_a_line_has_its_fields(tmp_path: Path, other: dict[str, Any]) -> None:
    """Exactly the names of the format, hexadecimal where hexadecimal is due; the next line is judged all the same."""
    spec, path = VECTORS[0]
    bad, good = judged(tmp_path, line(spec, path) | other, line(spec, path))
    assert not bad["accepted"] and bad["id"] == path.stem
    assert good["accepted"]


def test_bad_lines_do_not_stop_a_batch(tmp_path: Path) -> None:
    """What is not JSON, names things twice, or is too long has its verdict in its place."""
    spec, path = VECTORS[0]
    good = line(spec, path)
    twice = json.dumps(good)[:-1] + ', "value": null}'
    long = json.dumps({**good, "proof": "00" * command.LINE_LIMIT})
    verdicts = judged(tmp_path, "", "{", twice, long, "7", good)
    assert [verdict["code"] for verdict in verdicts[:5]] == ["batch.json"] * 3 + ["batch.size", "batch.json"]
    assert verdicts[5]["accepted"]


# --- one proof ---


def test_a_proof_may_be_bytes_hexadecimal_or_base64(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same proof in three forms; exit codes 0, 1 and 2."""
    for spec, path in VECTORS:
        found = json.loads(path.read_text())
        data = bytes.fromhex(found["proof"])
        claim = ["--value", found["value"]] if found["value"] else ["--absent"]
        for content in (data, data.hex().encode() + b"\n", base64.b64encode(data)):
            file = tmp_path / "proof"
            file.write_bytes(content)
            given = ["proof", "verify", str(file), "--app-hash", found["root"], "--key", found["key"], "--spec", spec]
            assert main([*given, *claim]) == 0
            assert main([*given, "--value", "00"]) == 1
            assert main(given) == 2
    out = capsys.readouterr().out
    assert "accepted: proof: the key is absent" in out and "refused: proof" in out


def test_keys_may_be_text_or_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The two proofs of a value in the state of this chain: collection under the app hash, key under the collection."""
    chain = SimulatedChain(1, state={"one/requests": {7: b"record"}})
    chain.produce()
    proof = chain.prove("one", "requests", 7)
    (tmp_path / "store").write_bytes(proof.store)
    (tmp_path / "collection").write_bytes(proof.collection)
    root = proof.collection_root.hex()
    given = ["--app-hash", chain.app_hash().hex(), "--key", "text:one/requests", "--value", root, "--json"]
    assert main(["proof", "verify", str(tmp_path / "store"), *given]) == 0
    given = ["--app-hash", root, "--key", "uint64:7", "--value", b"record".hex(), "--json"]
    assert main(["proof", "verify", str(tmp_path / "collection"), *given]) == 0
    (tmp_path / "state").write_text(proof.encode().hex())
    both = ["--app-hash", chain.app_hash().hex(), "--collection", "one/requests", "--key"]
    assert main(["proof", "verify", str(tmp_path / "state"), *both, "uint64:7", "--value", b"record".hex()]) == 0
    assert main(["proof", "verify", str(tmp_path / "state"), *both, "uint64:7", "--value", b"other".hex()]) == 1
    assert main(["proof", "verify", str(tmp_path / "state"), *both, "uint64:7", "--absent"]) == 1
    assert main(["proof", "verify", str(tmp_path / "state"), *both, "07", "--absent"]) == 2
    (tmp_path / "gap").write_bytes(chain.prove_absent("one", "requests", 8).encode())
    assert main(["proof", "verify", str(tmp_path / "gap"), *both, "uint64:8", "--absent"]) == 0
    given[3] = "uint64:8"
    capsys.readouterr()
    assert main(["proof", "verify", str(tmp_path / "collection"), *given]) == 1
    assert json.loads(capsys.readouterr().out)["code"] == "proof.key"
    for key in ("uint64:-1", f"uint64:{1 << 64}", "uint64:x", "0x07", "a"):
        given[3] = key
        assert main(["proof", "verify", str(tmp_path / "collection"), *given]) == 2


def test_options_that_do_not_go_together_are_a_mistake_of_the_caller(tmp_path: Path) -> None:
    """A batch with a proof beside it, two kinds of trees, a root of another length, a file that cannot be read."""
    (tmp_path / "proof").write_text("not a proof!")
    file = str(tmp_path / "proof")
    for other in (["--key", "00"], ["--spec", "iavl"], ["--collection", ""], ["--value", ""], ["--absent"]):
        assert main(["proof", "verify", "--batch", file, *other]) == 2, other
    both = ["--collection", "one/requests", "--spec", "tendermint"]
    assert main(["proof", "verify", file, "--app-hash", "00" * 32, "--key", "uint64:1", "--absent", *both]) == 2
    assert main(["proof", "verify", file, "--app-hash", "00", "--key", "00", "--absent"]) == 2
    assert main(["proof", "verify", str(tmp_path), "--app-hash", "00" * 32, "--key", "00", "--absent"]) == 2


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"not a proof!", "proof.encoding"),
        (b"QUJD=", "proof.encoding"),
        (b"abc", "proof.encoding"),
        (b"\xff" * (ics23.MAX_PROOF + 1), "proof.size"),
        (b"00" * (ics23.MAX_PROOF + 1), "proof.size"),
        (b"0" * (5 * ics23.MAX_PROOF), "proof.size"),
    ],
)
def test_a_file_that_is_no_proof_is_refused_with_a_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, code: str
) -> None:
    """Bad evidence is a refusal, whether it is no proof at all or larger than any."""
    file = tmp_path / "proof"
    file.write_bytes(content)
    given = ["proof", "verify", str(file), "--app-hash", "00" * 32, "--key", "00", "--absent", "--json"]
    assert main(given) == 1
    assert json.loads(capsys.readouterr().out)["code"] == code


def test_a_batch_may_come_through_a_pipe(tmp_path: Path) -> None:
    """The standard input by either name, a pipe that the shell made, a named pipe; a device is none of them."""
    lines = tmp_path / "lines"
    lines.write_text("".join(json.dumps(line(spec, path)) + "\n" for spec, path in VECTORS))
    os.mkfifo(tmp_path / "named")
    audit = f"{shlex.quote(sys.executable)} -m cipherkeep_attestation.cli.main proof verify --batch"
    for script in (
        f"{audit} - < lines",
        f"cat lines | {audit} -",
        f"{audit} /dev/stdin < lines",
        f"cat lines | {audit} /dev/stdin",
        f"{audit} <(sleep 0.2; cat lines)",
        f"cat lines > named & {audit} named",
    ):
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, check=False, timeout=60)
        assert (done.returncode, done.stdout.count(b'"accepted": true')) == (0, len(VECTORS)), script
    assert main(["proof", "verify", "--batch", "/dev/zero"]) == 2
    assert main(["proof", "verify", "--batch", str(tmp_path)]) == 2
