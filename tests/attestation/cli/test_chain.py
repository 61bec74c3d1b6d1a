"""`cipherkeep-audit chain verify`: whole walks, and every forgery of headers, commits and JSON through the batch."""

from __future__ import annotations

import copy
import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cipherkeep_attestation.chain.header import LightBlock
from cipherkeep_attestation.chain.light import LightClient
from cipherkeep_attestation.chain.rpc_json import MAX_JSON
from cipherkeep_attestation.cli import chain as command
from cipherkeep_attestation.cli.main import main
from cipherkeep_attestation.cli.output import run_batch
from cipherkeep_attestation.errors import RULES, EvidenceError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.attestation.chain.test_light import FORGERIES
from tests.simulators import rpc_json
from tests.simulators.chain import ABSENT, COMMIT, NIL, Draft, Signer, SimulatedChain, sha256

# What JSON can say otherwise than protobuf, or not at all, is refused before a block is made of it.
IN_JSON = {
    "a negative height": "json.range",
    "a round beyond 31 bits": "json.range",
    "power beyond 64 bits": "json.range",
    "power that wraps to a negative": "json.range",
    "the year 10000": "json.time",
    "too many nanoseconds": "json.time",
}


@pytest.fixture
def chain() -> SimulatedChain:
    """Four validators of equal power, three blocks."""
    made = SimulatedChain(4)
    made.produce()
    made.produce()
    return made


def judged(tmp_path: Path, *lines: str | dict[str, Any]) -> list[dict[str, Any]]:
    """The verdicts of a batch of these lines."""
    path = tmp_path / "batch.jsonl"
    path.write_text("".join((line if isinstance(line, str) else rpc_json.dumps(line)) + "\n" for line in lines))
    output = io.StringIO()
    code = run_batch(str(path), command.judge_line, line_limit=command.LINE_LIMIT, output=output)
    verdicts = [json.loads(line) for line in output.getvalue().splitlines()]
    assert len(verdicts) == len(lines)
    assert code == (0 if all(verdict["accepted"] for verdict in verdicts) else 1)
    for verdict in verdicts:
        assert verdict.keys() == {"id", "accepted", "code", "message"}
        assert verdict["accepted"] == (verdict["code"] is None)
        assert verdict["code"] is None or verdict["code"] in RULES
    return verdicts


def code_of(line: dict[str, Any]) -> str | None:
    """The code that refuses a line of a batch; None when it is accepted."""
    try:
        command.judge_line({name: value for name, value in line.items() if name != "id"})
    except EvidenceError as refusal:
        return refusal.code
    return None


def honest(chain: SimulatedChain, trusted: int = 2, untrusted: int = 3) -> dict[str, Any]:
    return rpc_json.line(chain.drafts[trusted - 1], chain.drafts[untrusted - 1], now=chain.now)


# --- batches: what holds ---


@pytest.mark.parametrize("validators", [1, 2, 4, 7, 100])
def test_honest_steps_are_accepted(tmp_path: Path, validators: int) -> None:
    """Adjacent and skipping, whatever the number of validators; the sentence names height and hash."""
    chain = SimulatedChain(validators)
    for _ in range(9):
        chain.produce()
    verdicts = judged(tmp_path, honest(chain, 1, 2), honest(chain, 1, 10), honest(chain, 9, 10))
    assert [verdict["accepted"] for verdict in verdicts] == [True] * 3
    assert chain.header_hash(10).hex() in verdicts[1]["message"]


def test_sets_may_be_arrays_or_a_nodes_answers(chain: SimulatedChain) -> None:
    """The result of /validators, and a set with what no hash covers beside it, mean the same as the bare array."""
    line = honest(chain)
    rows = line["trusted"]["next_validators"]
    total = str(sum(int(row["voting_power"]) for row in rows))
    for form in (
        {"validators": rows},
        {"block_height": "3", "validators": rows, "count": "4", "total": "4"},
        {"validators": rows, "proposer": rows[0], "total_voting_power": total},
    ):
        assert code_of({**line, "trusted": {**line["trusted"], "next_validators": form}}) is None
        block = {**line["untrusted"], "validators": form}
        assert code_of({**line, "untrusted": block}) is None


def test_priorities_are_read_and_change_nothing(chain: SimulatedChain) -> None:
    """No hash covers a proposer's priority: any value within 64 bits gives the same verdict, others are refused."""
    for priority, expected in (("0", None), ("-9223372036854775807", None), ("9223372036854775808", "json.range")):
        line = honest(chain)
        line["untrusted"]["validators"][0]["proposer_priority"] = priority
        assert code_of(line) == expected
    del line["untrusted"]["validators"][0]["proposer_priority"]
    assert code_of(line) is None


def test_an_absent_app_version_is_zero() -> None:
    """The node leaves a zero out."""
    chain = SimulatedChain(1)
    forged = chain.forge_draft(header={"app_version": 0})
    line = rpc_json.line(chain.drafts[0], forged, now=chain.now)
    del line["untrusted"]["signed_header"]["header"]["version"]["app"]
    assert code_of(line) is None


# --- batches: what does not ---


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_block_is_refused(chain: SimulatedChain, name: str) -> None:
    """Each way to forge the next block has its own code, as it has for the light client."""
    forgery, code = dict(FORGERIES[name][0]), FORGERIES[name][1]
    if forgery.get("header", {}).get("time") == "head":
        forgery["header"] = {"time": chain.drafts[-1].header["time"]}
    line = rpc_json.line(chain.drafts[-1], chain.forge_draft(**forgery), now=chain.now + timedelta(seconds=1))
    assert code_of(line) == IN_JSON.get(name, code)


POWERS = {
    "p - 2^64": (str(10 - 2**64), "json.range"),
    "p + 2^64": (str(10 + 2**64), "json.range"),
    "negative": ("-10", "json.range"),
    "zero": ("0", "lightclient.voting_power_range"),
    "beyond int64": (str(2**63), "json.range"),
    "beyond a set's maximum": (str(2**60), "lightclient.voting_power_range"),
    "hundreds of digits": ("9" * 400, "json.range"),
    "a fraction": ("10.0", "json.number"),
    "an exponent": ("1e1", "json.number"),
    "a leading zero": ("010", "json.range"),
    "a plus": ("+10", "json.number"),
    "white space": (" 10", "json.number"),
    "an underscore": ("1_0", "json.number"),
    "other digits": ("١٠", "json.number"),
    "hexadecimal": ("0xa", "json.number"),
    "nothing": ("", "json.number"),
    "a number": (10, "json.type"),
    "null": (None, "json.type"),
    "true": (True, "json.type"),
}


@pytest.mark.parametrize("name", POWERS)
@pytest.mark.parametrize("place", ["trusted", "untrusted"])
def test_voting_power_is_digits_within_its_range(chain: SimulatedChain, name: str, place: str) -> None:
    """A power of p - 2^64 has the bytes of p in protobuf; nothing but plain digits in range gets that far."""
    power, code = POWERS[name]
    line = honest(chain)
    rows = line["trusted"]["next_validators"] if place == "trusted" else line["untrusted"]["validators"]
    rows[0]["voting_power"] = power
    assert code_of(line) == code


def test_zero_signatures_and_a_wrapped_power_pass_nowhere(chain: SimulatedChain) -> None:
    """The forgery that needs no signature: one negative power, so that no vote at all is more than enough."""
    forged = chain.forge_draft(votes=[ABSENT] * 4)
    line = rpc_json.line(chain.drafts[-1], forged, now=chain.now + timedelta(seconds=1))
    line["untrusted"]["validators"][0]["voting_power"] = str(10 - 2**64)
    assert code_of(line) == "json.range"
    line["untrusted"]["validators"][0]["voting_power"] = "10"
    assert code_of(line) == "lightclient.quorum"


RAW = {
    "a name twice": lambda text: text.replace('"round": 0', '"round": 1, "round": 0', 1),
    "a header's height twice": lambda text: text.replace('"height": "3"', '"height": "9", "height": "3"', 1),
    "a fraction": lambda text: text.replace('"round": 0', '"round": 0.0'),
    "an exponent": lambda text: text.replace('"round": 0', '"round": 0e0'),
    "not a number": lambda text: text.replace('"round": 0', '"round": NaN'),
    "endless": lambda text: text.replace('"round": 0', '"round": Infinity'),
    "a leading zero": lambda text: text.replace('"round": 0', '"round": 00'),
    "a huge number": lambda text: text.replace('"round": 0', '"round": ' + "9" * 5000),
    "cut off": lambda text: text[:-2],
    "more behind it": lambda text: text + "{}",
    "no object": lambda text: f"[{text}]",
    "nested without end": lambda _: "[" * 100_000,
    "nothing": lambda _: "",
}
# One object all the same: its verdict keeps the id.
READABLE = ("a name twice", "a header's height twice", "a fraction", "an exponent", "not a number", "endless")


@pytest.mark.parametrize("name", RAW)
def test_json_that_can_be_read_in_two_ways_is_not_read(tmp_path: Path, chain: SimulatedChain, name: str) -> None:
    """Repeated names, fractions and exponents are refused, and the line after is judged all the same."""
    edit: Callable[[str], str] = RAW[name]
    first, second = judged(tmp_path, edit(rpc_json.dumps(honest(chain))), honest(chain))
    assert first["code"] == "batch.json" and first["id"] == ("step" if name in READABLE else None)
    assert second["accepted"]


FIELDS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "an unknown name": (lambda h: h.update(extra=1), "json.unknown_name"),
    "a missing name": (lambda h: h.pop("app_hash"), "json.missing_name"),
    "a number as text": (lambda h: h["last_block_id"]["parts"].update(total="1"), "json.type"),
    "a text as number": (lambda h: h.update(height=3), "json.type"),
    "a boolean as number": (lambda h: h["last_block_id"]["parts"].update(total=True), "json.type"),
    "parts beyond 32 bits": (lambda h: h["last_block_id"]["parts"].update(total=2**32), "json.range"),
    "negative parts": (lambda h: h["last_block_id"]["parts"].update(total=-1), "json.range"),
    "half a byte": (lambda h: h.update(app_hash="ABC"), "json.hex"),
    "other letters": (lambda h: h.update(app_hash="ZZ" * 32), "json.hex"),
    "white space in it": (lambda h: h.update(app_hash="AA " * 32), "json.hex"),
    "capital and small letters": (lambda h: h.update(app_hash="aA" * 32), "json.hex"),
    "a hash of null": (lambda h: h.update(app_hash=None), "json.type"),
    "a time with another zone": (lambda h: h.update(time="2026-01-01T00:00:00+01:00"), "json.time"),
    "a time without a zone": (lambda h: h.update(time="2026-01-01T00:00:00"), "json.time"),
    "ten decimals": (lambda h: h.update(time="2026-01-01T00:00:00.0000000001Z"), "json.time"),
    "the 30th of February": (lambda h: h.update(time="2026-02-30T00:00:00Z"), "json.time"),
    "year 0": (lambda h: h.update(time="0000-01-01T00:00:00Z"), "json.time"),
    "height 2^63": (lambda h: h.update(height=str(2**63)), "json.range"),
    "a block version beyond 64 bits": (lambda h: h["version"].update(block=str(2**64 + 11)), "json.range"),
    "an app version beyond 64 bits": (lambda h: h["version"].update(app=str(2**64 + 1)), "json.range"),
    "an array as header": (lambda h: h.update(version=[]), "json.type"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_header_has_the_nodes_json_and_no_other(chain: SimulatedChain, name: str) -> None:
    """Types, ranges and spelling of every field are the node's own."""
    edit, code = FIELDS[name]
    for place in ("trusted", "untrusted"):
        line = honest(chain)
        edit(line[place]["signed_header"]["header"])
        assert code_of(line) == code


def test_base64_has_one_form(chain: SimulatedChain) -> None:
    """Loose bits, missing padding and white space are refused."""
    for edit in (
        lambda t: t.rstrip("="),
        lambda t: t + "\n",
        lambda t: t[:-3] + chr(ord(t[-3]) + 1) + "==",
        lambda t: 7,
    ):
        line = honest(chain)
        slot = line["untrusted"]["signed_header"]["commit"]["signatures"][0]
        slot["signature"] = edit(slot["signature"])
        assert code_of(line) in ("json.base64", "json.type")


def test_keys_are_ed25519_and_appear_once(chain: SimulatedChain) -> None:
    """Another type of key, one key in two slots, one address for two keys, a set that is not whole."""
    line = honest(chain)
    line["untrusted"]["validators"][0]["pub_key"]["type"] = "tendermint/PubKeySecp256k1"
    assert code_of(line) == "lightclient.key_type"
    line = honest(chain)
    line["untrusted"]["validators"][1] = line["untrusted"]["validators"][0]
    assert code_of(line) == "lightclient.duplicate_validator"
    line = honest(chain)
    line["untrusted"]["validators"][1]["address"] = line["untrusted"]["validators"][0]["address"]
    assert code_of(line) == "lightclient.validator_address"
    line = honest(chain)
    line["untrusted"]["validators"].reverse()
    assert code_of(line) == "lightclient.validator_order"
    line = honest(chain)
    line["untrusted"]["validators"] = {"validators": line["untrusted"]["validators"], "total": "5"}
    assert code_of(line) == "json.range"
    line["untrusted"]["validators"] = {"validators": line["untrusted"]["validators"]["validators"], "count": "3"}
    assert code_of(line) == "json.range"


def test_what_stands_beside_a_set_must_fit(chain: SimulatedChain) -> None:
    """A proposer from elsewhere and a wrong sum are refused, though nothing is computed with them."""
    line = honest(chain)
    rows = line["untrusted"]["validators"]
    other = rpc_json.validators([Signer.named("other")])[0]
    line["untrusted"]["validators"] = {"validators": rows, "proposer": other}
    assert code_of(line) == "lightclient.proposer"
    line["untrusted"]["validators"] = {"validators": rows, "total_voting_power": "41"}
    assert code_of(line) == "lightclient.total_power"


# --- batches: trust and time ---


def test_skipping_needs_more_than_two_thirds_of_the_known_set() -> None:
    """A third, which other clients take, would let a colluding third jump to a set of its own making."""
    chain = SimulatedChain(4)
    for _ in range(4):
        chain.produce()
    strangers = [Signer.named(f"stranger-{n}", 1000) for n in range(3)]
    at = {"height": 9, "proposer_address": strangers[0].address}
    traitors = sorted([*strangers, *chain.validators[:2]], key=lambda v: (-v.power, v.address))
    forged = chain.forge_draft(validators=traitors, header=at)
    line = rpc_json.line(chain.drafts[1], forged, now=chain.now + timedelta(seconds=1), following=chain.validators)
    assert code_of(line) == "lightclient.skip_quorum"
    three = sorted([*strangers, *chain.validators[:3]], key=lambda v: (-v.power, v.address))
    forged = chain.forge_draft(validators=three, header=at)
    line = rpc_json.line(chain.drafts[1], forged, now=chain.now + timedelta(seconds=1), following=chain.validators)
    assert code_of(line) is None


@pytest.mark.parametrize("votes", [[COMMIT, COMMIT, ABSENT], [COMMIT, COMMIT, NIL]])
def test_exactly_two_thirds_are_not_enough(votes: list[int]) -> None:
    """Two of three vote; more than two thirds is what counts, adjacent and skipping."""
    chain = SimulatedChain(3)
    for _ in range(3):
        chain.produce()
    for height in (2, 4):
        line = rpc_json.line(chain.drafts[0], chain.forge_draft(height=height, votes=votes), now=chain.now)
        assert code_of(line) == "lightclient.quorum"


def test_the_next_set_is_the_one_that_was_announced(chain: SimulatedChain) -> None:
    """A set beside the trusted header that its hash does not name is refused; a power changed by one is another set."""
    line = rpc_json.line(chain.drafts[1], chain.drafts[2], now=chain.now, following=[Signer.named("other")])
    assert code_of(line) == "lightclient.next_validators_hash"
    line = honest(chain)
    line["trusted"]["next_validators"][0]["voting_power"] = "11"
    assert code_of(line) == "lightclient.next_validators_hash"


def test_the_trusted_header_is_one_thing(chain: SimulatedChain) -> None:
    """A commit for another header, or another height, beside the trusted header is refused."""
    line = honest(chain)
    line["trusted"]["signed_header"]["header"]["app_hash"] = sha256(b"other").hex().upper()
    assert code_of(line) == "lightclient.commit_header"
    line = honest(chain)
    line["trusted"]["signed_header"]["commit"]["height"] = "7"
    assert code_of(line) == "lightclient.commit_height"


def test_the_parent_is_compared_when_adjacent(chain: SimulatedChain) -> None:
    """A header that names another parent than the trusted header does not follow from it, whoever signed."""
    other = {"hash": sha256(b"other"), "parts": 1, "parts_hash": sha256(b"parts")}
    line = rpc_json.line(chain.drafts[1], chain.forge_draft(height=3, header={"last_block_id": other}), now=chain.now)
    assert code_of(line) == "lightclient.parent"


def test_heights_only_rise(chain: SimulatedChain) -> None:
    """The same height and a lower one are no step."""
    assert code_of(honest(chain, 2, 2)) == "lightclient.height_below"
    assert code_of(honest(chain, 3, 1)) == "lightclient.height_below"


def test_trust_expires_to_the_nanosecond(chain: SimulatedChain) -> None:
    """The trusting period ends when it is over: one nanosecond decides."""
    seconds, nanos = chain.drafts[0].header["time"]
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds + 100, microseconds=nanos // 1000)
    line = {**honest(chain, 1, 2), "trusting_period_seconds": 100}
    assert code_of({**line, "now": at.isoformat()}) == "lightclient.trust_expired"
    assert code_of({**line, "now": (at - timedelta(microseconds=1)).isoformat()}) is None


def test_a_header_may_be_ahead_by_the_drift_and_no_more(chain: SimulatedChain) -> None:
    """A clock that lags by the drift is forgiven, by one microsecond more it is not."""
    line = {**honest(chain), "max_clock_drift_seconds": 5}
    late = chain.now - timedelta(seconds=5)
    assert code_of({**line, "now": late.isoformat()}) is None
    assert code_of({**line, "now": (late - timedelta(microseconds=1)).isoformat()}) == "lightclient.time_future"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trusting_period_seconds", 0),
        ("trusting_period_seconds", -1),
        ("trusting_period_seconds", "100"),
        ("trusting_period_seconds", 10**30),
        ("max_clock_drift_seconds", -1),
        ("max_clock_drift_seconds", None),
        ("now", "yesterday"),
        ("now", "2026-01-01T00:00:00"),
        ("now", 7),
        ("trusted", []),
        ("untrusted", None),
        ("extra", 1),
    ],
)
def test_a_line_has_its_fields(tmp_path: Path, chain: SimulatedChain, name: str, value: object) -> None:
    """Exactly the names of the format, each of its type and range."""
    (verdict,) = judged(tmp_path, {**honest(chain), name: value})
    assert verdict["id"] == "step"
    assert verdict["code"] in ("json.range", "json.type", "json.unknown_name", "batch.fields")


def test_years_at_the_end_of_time_do_not_overflow(tmp_path: Path, chain: SimulatedChain) -> None:
    """The last second and the first one, and the longest period, are judged like any other."""
    line = {**honest(chain), "now": "9999-12-31T23:59:59Z", "max_clock_drift_seconds": 1 << 40}
    early = {**line, "now": "0001-01-01T00:00:00Z", "max_clock_drift_seconds": 1}
    (expired, fine, future) = judged(tmp_path, line, {**line, "trusting_period_seconds": 1 << 40}, early)
    assert (expired["code"], future["code"]) == ("lightclient.trust_expired", "lightclient.time_future")
    assert fine["accepted"]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_mutated_line_stops_a_batch_or_passes(data: st.DataObject) -> None:
    """One value anywhere in an honest line is exchanged: a verdict comes, and an acceptance names the honest header."""
    chain = MUTATED
    line = honest(chain)
    places = list(_places(line))
    path = data.draw(st.sampled_from(places))
    replacement = data.draw(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20), st.just([]), st.just({}))
    )
    inside: Any = line
    for name in path[:-1]:
        inside = inside[name]
    inside[path[-1]] = replacement
    try:
        sentence = command.judge_line({name: value for name, value in line.items() if name != "id"})
    except Exception as refusal:  # noqa: BLE001
        assert type(refusal).__name__ in ("Malformed", "Untrusted", "Stale", "Refused", "UsageError"), refusal
    else:
        assert chain.header_hash(3).hex() in sentence


MUTATED = SimulatedChain(2)
MUTATED.produce()
MUTATED.produce()


def _places(value: Any, path: tuple[Any, ...] = ()) -> Any:
    if isinstance(value, dict):
        for name in value:
            yield (*path, name)
            yield from _places(value[name], (*path, name))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield (*path, index)
            yield from _places(value[index], (*path, index))


def test_both_verifiers_agree(chain: SimulatedChain) -> None:
    """What a batch accepts, the enclave's light client accepts from the same trusted block, and the other way round."""
    for name, (forgery, _) in FORGERIES.items():
        if forgery.get("header", {}).get("time") == "head" or name in IN_JSON:
            continue
        draft: Draft = chain.forge_draft(**copy.copy(forgery))
        client = LightClient(
            chain.root(3), trusting_period=timedelta(days=14), clock_drift=timedelta(seconds=10), skipping=True
        )
        client.anchor(chain.light_block(3), now=chain.now)
        with pytest.raises(EvidenceError) as refusal:
            client.step(LightBlock.decode(draft.encode()), now=chain.now + timedelta(seconds=1))
        line = rpc_json.line(chain.drafts[-1], draft, now=chain.now + timedelta(seconds=1))
        assert code_of(line) == refusal.value.code


# --- walks ---


def trust_file(folder: Path, chain: SimulatedChain, **other: Any) -> str:
    path = folder / "trust.toml"
    rows = {"chain_id": chain.chain_id, "height": 1, "header_hash": chain.header_hash(1).hex(), **other}
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in rows.items()))
    return str(path)


def files(folder: Path, drafts: list[Draft]) -> list[str]:
    made = []
    for draft in drafts:
        for name, value in (
            ("commit", rpc_json.commit_answer(draft)),
            ("validators", rpc_json.validators_answer(draft)),
        ):
            path = folder / f"{name}-{draft.header['height']}.json"
            path.write_text(json.dumps(value))
            made.append(str(path))
    return made


def walked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["chain", "verify", "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


def test_a_walk_says_where_trust_ends(
    tmp_path: Path, chain: SimulatedChain, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files in any order are walked upwards; the end of trust is named with time and app hash."""
    trust, at = trust_file(tmp_path, chain), ["--at", chain.now.isoformat()]
    code, verdict = walked(capsys, "--trust", trust, *at, *reversed(files(tmp_path, chain.drafts)))
    assert (code, verdict["accepted"], verdict["trust_ends"]["height"]) == (0, True, 3)
    assert verdict["trust_ends"]["app_hash"] == chain.app_hash().hex()
    assert main(["chain", "verify", "--trust", trust, *at, *files(tmp_path, chain.drafts)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"accepted: chain: 3 headers, trust ends at height 3", text)
    assert "\x1b" not in text


def test_heights_are_left_out_only_when_allowed(
    tmp_path: Path, chain: SimulatedChain, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --skipping each block must be the next; trust then ends at the last that was."""
    trust, at = trust_file(tmp_path, chain), ["--at", chain.now.isoformat()]
    some = files(tmp_path, [chain.drafts[0], chain.drafts[2]])
    code, verdict = walked(capsys, "--trust", trust, *at, *some)
    assert (code, verdict["code"], verdict["trust_ends"]["height"]) == (1, "lightclient.not_sequential", 1)
    code, verdict = walked(capsys, "--trust", trust, *at, "--skipping", *some)
    assert (code, verdict["trust_ends"]["height"]) == (0, 3)


def test_a_walk_begins_at_the_root(tmp_path: Path, chain: SimulatedChain, capsys: pytest.CaptureFixture[str]) -> None:
    """Blocks that do not begin with the trusted header, or come from another chain, end trust nowhere."""
    at = ["--at", chain.now.isoformat()]
    code, verdict = walked(capsys, "--trust", trust_file(tmp_path, chain), *at, *files(tmp_path, chain.drafts[1:]))
    assert (code, verdict["code"], verdict["trust_ends"]) == (1, "lightclient.root", None)
    other = trust_file(tmp_path, SimulatedChain(1, "another-chain"))
    code, verdict = walked(capsys, "--trust", other, *at, *files(tmp_path, chain.drafts))
    assert (code, verdict["code"]) == (1, "lightclient.chain_id")


def test_sets_may_come_in_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pages are joined in their order; a page that is missing, or comes twice, is noticed."""
    chain = SimulatedChain(5)
    answer = rpc_json.validators_answer(chain.drafts[0])
    rows = answer["result"]["validators"]
    paths = files(tmp_path, chain.drafts)[:1]
    for index, part in enumerate((rows[:3], rows[3:])):
        path = tmp_path / f"page-{index}.json"
        result = {"block_height": "1", "validators": part, "count": str(len(part)), "total": "5"}
        path.write_text(json.dumps({**answer, "result": result}))
        paths.append(str(path))
    trust, at = trust_file(tmp_path, chain), ["--at", chain.now.isoformat()]
    assert walked(capsys, "--trust", trust, *at, *paths)[0] == 0
    for wrong in (paths[:2], [*paths, paths[2]], paths[1:], [*paths, paths[0]]):
        code, verdict = walked(capsys, "--trust", trust, *at, *wrong)
        assert (code, verdict["code"]) == (1, "json.block_files")


def test_a_file_must_be_the_nodes_answer(
    tmp_path: Path, chain: SimulatedChain, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that stands twice in a file is refused, as is anything that is no answer to /commit or /validators."""
    trust, at = trust_file(tmp_path, chain), ["--at", chain.now.isoformat()]
    bad = tmp_path / "bad.json"
    cases = {
        '{"a": 1, "a": 1}': "json.syntax",
        "7": "json.type",
        '{"jsonrpc": "2.0", "error": {}}': "json.missing_name",
        '{"block": {}}': "json.missing_name",
        '{"validators": []}': "json.block_files",
    }
    for content, expected in cases.items():
        bad.write_text(content)
        code, verdict = walked(capsys, "--trust", trust, *at, str(bad))
        assert (code, verdict["code"]) == (1, expected)
    bad.write_text(" " * (MAX_JSON + 1))
    code, verdict = walked(capsys, "--trust", trust, *at, str(bad))
    assert (code, verdict["code"]) == (1, "lightclient.size")


def test_what_is_the_callers_mistake_is_said_as_that(
    tmp_path: Path, chain: SimulatedChain, capsys: pytest.CaptureFixture[str]
) -> None:
    """No trust, no blocks, a trust file with a misspelt name, options that do not go together: exit code 2."""
    blocks, trust = files(tmp_path, chain.drafts), trust_file(tmp_path, chain)
    at = ["--at", chain.now.isoformat()]
    assert main(["chain", "verify", *blocks, *at]) == 2
    assert main(["chain", "verify", "--trust", trust, *blocks]) == 2
    assert "--at now" in capsys.readouterr().err
    assert main(["chain", "verify", "--trust", trust, *blocks, "--at", "now"]) in (0, 1)
    capsys.readouterr()
    assert main(["chain", "verify", "--trust", trust, *at]) == 2
    assert main(["chain", "verify", "--batch", "-", "--trust", trust]) == 2
    assert main(["chain", "verify", "--trust", trust, "--at", "noon", *blocks]) == 2
    assert main(["chain", "verify", "--trust", str(tmp_path / "none.toml"), *blocks, *at]) == 2
    for other in ({"trusting_period": 5}, {"height": "1"}, {"header_hash": "00"}, {"trusting_period_seconds": 0}):
        assert main(["chain", "verify", "--trust", trust_file(tmp_path, chain, **other), *blocks, *at]) == 2
    assert "trust" in capsys.readouterr().err


def test_trust_files_may_be_json(tmp_path: Path, chain: SimulatedChain, capsys: pytest.CaptureFixture[str]) -> None:
    """The same names in JSON, no name twice."""
    path = tmp_path / "trust.json"
    rows = {"chain_id": chain.chain_id, "height": 1, "header_hash": chain.header_hash(1).hex()}
    path.write_text(json.dumps(rows))
    at = ["--at", chain.now.isoformat()]
    assert walked(capsys, "--trust", str(path), *at, *files(tmp_path, chain.drafts))[0] == 0
    path.write_text(json.dumps(rows)[:-1] + ', "height": 1}')
    assert main(["chain", "verify", "--trust", str(path), *at, *files(tmp_path, chain.drafts)]) == 2
