"""`cipherkeep-audit chain`: walks light blocks from a trust root, and says where trust ends."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from cipherkeep_attestation import strict_json
from cipherkeep_attestation.chain import rpc_json
from cipherkeep_attestation.chain.header import Commit, Header, LightBlock, Validator, ValidatorSet
from cipherkeep_attestation.chain.light import LightClient
from cipherkeep_attestation.chain.step import check_named, judge_step
from cipherkeep_attestation.cli.inputs import UsageError, moment, read_head
from cipherkeep_attestation.cli.output import Section, Verdict, run_batch, show
from cipherkeep_attestation.cli.parsers import verify_command
from cipherkeep_attestation.cli.trusted import add_time, add_trust, open_trust, time_of
from cipherkeep_attestation.errors import EvidenceError, Malformed
from cipherkeep_attestation.trace import State

MOST_SECONDS = 1 << 40  # of a batch's trusting period: 34 thousand years
LINE_LIMIT = 4 << 20  # bytes; two blocks of 1000 validators take a quarter of it

_DESCRIPTION = """\
Walk light blocks upwards from the header that the trust file names. BLOCKS are files with what a node answers to
/commit?height=H and /validators?height=H&per_page=100, in any order; the JSON-RPC envelope may be around it.
Each block must be the one right above the last; --skipping lets heights be left out where more than two thirds of the
known validators' power signed. With --batch, each line of a file is one step:
{"id", "trusted": {"signed_header", "next_validators"}, "untrusted": {"signed_header", "validators"}, "now",
"trusting_period_seconds", "max_clock_drift_seconds"}."""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `chain verify`."""
    verify = verify_command(
        subparsers,
        "chain",
        about="light blocks of the chain",
        judges="walk light blocks from a trust root",
        description=_DESCRIPTION,
        example="--trust trust.toml --at now commit-*.json validators-*.json",
    )
    verify.add_argument("blocks", metavar="BLOCKS", nargs="*", help="files with a node's answers")
    verify.add_argument("--skipping", action="store_true", help="let heights be left out, at more than two thirds")
    verify.add_argument("--batch", metavar="FILE", help="judge one step for each JSON line; - for standard input")
    add_time(verify)
    add_trust(verify)
    verify.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Judge a batch, or walk blocks."""
    if arguments.batch is not None:
        if arguments.blocks or arguments.trust is not None or arguments.at is not None or arguments.skipping:
            raise UsageError("--batch brings its own trust and time, and goes with no other option")
        return run_batch(arguments.batch, judge_line, line_limit=LINE_LIMIT)
    if not arguments.blocks:
        raise UsageError("name the files with the blocks, or --batch FILE")
    return show(walk(arguments), as_json=arguments.json)


# --- one walk ---


def walk(arguments: argparse.Namespace) -> Verdict:
    """Walk the blocks of the files; the verdict says where trust ends."""
    trust, now = open_trust(arguments.trust), time_of(arguments)
    client = LightClient(
        trust.root,
        trusting_period=trust.trusting_period,
        clock_drift=trust.clock_drift,
        skipping=arguments.skipping,
    )
    rows: list[tuple[str, str]] = []
    refusal: EvidenceError | None = None
    try:
        for block in read_blocks(arguments.blocks):
            header = client.step(block, now=now) if rows else client.anchor(block, now=now)
            rows.append((str(header.height), f"{client.head_hash.hex()}  {_time(header)}"))
    except EvidenceError as error:
        refusal = error
    ends = "nowhere: not even the trust root was shown"
    details: dict[str, Any] = {"judged_at": now.isoformat(), "trust_ends": None}
    if rows:
        ends = f"height {client.head.height}, {_time(client.head)}"
        details["trust_ends"] = {
            "height": client.head.height,
            "hash": client.head_hash.hex(),
            "time": _time(client.head),
            "app_hash": client.head.app_hash.hex(),
        }
    sections = [Section("headers that hold", tuple(rows), State.PASSED)] if rows else []
    app_hash = (("app hash", client.head.app_hash.hex()),) if rows else ()
    sections.append(Section("where trust ends", (("at", ends), *app_hash, ("judged at", now.isoformat()))))
    return Verdict(
        subject="chain",
        refusal=refusal,
        conclusion=f"{len(rows)} headers, trust ends at {ends}",
        sections=tuple(sections),
        details=details,
    )


def _time(header: Header) -> str:
    return f"{header.time.datetime:%Y-%m-%dT%H:%M:%S}.{header.time.nanos:09d}Z"


def read_blocks(paths: Iterable[str]) -> list[LightBlock]:
    """The light blocks in these files, by rising height. A set may be spread over several pages, in their order."""
    signed: dict[int, tuple[Header, Commit]] = {}
    pages: dict[int, list[rpc_json.ValidatorsPage]] = {}
    whole: list[LightBlock] = []
    for path in paths:
        value = _result(_json(path))
        if isinstance(value, dict) and "signed_header" in value and "validators" in value:
            whole.append(rpc_json.light_block(value))
        elif isinstance(value, dict) and "signed_header" in value:
            header, commit = rpc_json.commit_answer(value)
            if header.height in signed:
                raise Malformed("json.block_files", f"height {header.height} has two headers")
            signed[header.height] = header, commit
        else:
            page = rpc_json.validators_page(value)
            if page.height is None:
                raise Malformed("json.block_files", f"{path}: no block_height")
            pages.setdefault(page.height, []).append(page)
    if signed.keys() != pages.keys():
        odd = sorted(signed.keys() ^ pages.keys())
        raise Malformed("json.block_files", f"height {odd[0]} lacks its header or its validators")
    whole += [LightBlock(*signed[height], _joined(height, pages[height])) for height in signed]
    heights = [block.header.height for block in whole]
    if len(set(heights)) != len(heights):
        raise Malformed("json.block_files", "a height has two blocks")
    return sorted(whole, key=lambda block: block.header.height)


def _joined(height: int, pages: list[rpc_json.ValidatorsPage]) -> ValidatorSet:
    rows: tuple[Validator, ...] = tuple(row for page in pages for row in page.validators)
    if any(page.total != len(rows) for page in pages):
        raise Malformed("json.block_files", f"height {height}: {len(rows)} of {pages[0].total} validators")
    return ValidatorSet(rows)


def _json(path: str) -> Any:
    data = read_head(path, rpc_json.MAX_JSON + 1)
    if len(data) > rpc_json.MAX_JSON:
        raise Malformed("lightclient.size", f"{path}: more than {rpc_json.MAX_JSON} bytes"[:200])
    try:
        return strict_json.loads(data)
    except strict_json.NotJsonError as error:
        raise Malformed("json.syntax", f"{path}: {error}"[:200]) from None


def _result(value: Any) -> Any:
    """What is inside the JSON-RPC envelope, if there is one."""
    if isinstance(value, dict) and "jsonrpc" in value:
        return rpc_json.names(value, ("jsonrpc", "result"), ("id",), what="JSON-RPC")["result"]
    return value


# --- batches ---


def judge_line(line: dict[str, Any]) -> str:
    """Judge one line of a batch; the sentence of an acceptance. Raises an `EvidenceError`."""
    required = ("trusted", "untrusted", "now", "trusting_period_seconds", "max_clock_drift_seconds")
    found = rpc_json.names(line, required, what="line")
    now = moment(rpc_json.text(found["now"], "now"), "now")
    period = _seconds(found, "trusting_period_seconds", 1)
    drift = _seconds(found, "max_clock_drift_seconds", 0)
    trusted = rpc_json.names(found["trusted"], ("signed_header", "next_validators"), what="trusted")
    header, commit = rpc_json.signed_header(trusted["signed_header"])
    check_named(header, commit)
    following = rpc_json.validator_set(trusted["next_validators"])
    block = rpc_json.light_block(rpc_json.names(found["untrusted"], ("signed_header", "validators"), what="untrusted"))
    digest = judge_step(header, following, block, now=now, trusting_period=period, clock_drift=drift)
    return f"height {block.header.height}, header {digest.hex()}"


def _seconds(found: dict[str, Any], name: str, least: int) -> timedelta:
    return timedelta(seconds=rpc_json.number(found[name], name, least=least, most=MOST_SECONDS))
