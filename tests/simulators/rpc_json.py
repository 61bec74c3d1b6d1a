"""A node's RPC as JSON, made from drafts of simulated blocks: honest or not, written without a question.

step = line(chain.drafts[0], chain.drafts[4], now=chain.now)          # one line of `chain verify --batch`
print(dumps(step))
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.simulators.chain import HEADER_HASHES, Draft, Signer, in_order


def time(at: tuple[int, int]) -> str:
    if at[0] > 253_402_300_799:
        return "10000-01-01T00:00:00Z"
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=at[0])
    fraction = f".{at[1]:09d}".rstrip("0" if at[1] < 10**9 else "") if at[1] else ""
    date = f"{moment.year:04d}-{moment.month:02d}-{moment.day:02d}"
    return f"{date}T{moment.hour:02d}:{moment.minute:02d}:{moment.second:02d}{fraction}Z"


def hexed(data: bytes) -> str:
    return data.hex().upper()


def block_id(identity: Mapping[str, Any]) -> dict[str, Any]:
    parts = {"total": identity["parts"], "hash": hexed(identity["parts_hash"])}
    return {"hash": hexed(identity["hash"]), "parts": parts}


def header(draft: Draft) -> dict[str, Any]:
    h = draft.header
    return {
        "version": {"block": str(h["block_version"]), "app": str(h["app_version"])},
        "chain_id": h["chain_id"],
        "height": str(h["height"]),
        "time": time(h["time"]),
        "last_block_id": block_id(h["last_block_id"]),
        **{name: hexed(h[name]) for name in HEADER_HASHES},
    }


def commit(draft: Draft) -> dict[str, Any]:
    slots = [
        {
            "block_id_flag": slot["flag"],
            "validator_address": hexed(slot["address"]),
            "timestamp": time(slot["time"]),
            "signature": None if not slot["signature"] else base64.b64encode(slot["signature"]).decode(),
        }
        for slot in draft.slots
    ]
    return {
        "height": str(draft.commit["height"]),
        "round": draft.commit["round"],
        "block_id": block_id(draft.commit["block_id"]),
        "signatures": slots,
    }


def signed_header(draft: Draft) -> dict[str, Any]:
    return {"header": header(draft), "commit": commit(draft)}


def validators(signers: Sequence[Signer]) -> list[dict[str, Any]]:
    return [
        {
            "address": hexed(signer.address),
            "pub_key": {"type": "tendermint/PubKeyEd25519", "value": base64.b64encode(signer.public).decode()},
            "voting_power": str(signer.power),
            "proposer_priority": str(-signer.power),
        }
        for signer in signers
    ]


def light_block(draft: Draft) -> dict[str, Any]:
    return {"signed_header": signed_header(draft), "validators": validators(draft.validators)}


def commit_answer(draft: Draft) -> dict[str, Any]:
    """What a node answers to /commit."""
    return {"jsonrpc": "2.0", "id": -1, "result": {"signed_header": signed_header(draft), "canonical": True}}


def validators_answer(draft: Draft, *, page: int = 1, per_page: int = 100) -> dict[str, Any]:
    """What a node answers to /validators."""
    rows = validators(draft.validators)
    shown = rows[(page - 1) * per_page : page * per_page]
    found = {"block_height": str(draft.header["height"]), "validators": shown}
    return {"jsonrpc": "2.0", "id": -1, "result": found | {"count": str(len(shown)), "total": str(len(rows))}}


def line(
    trusted: Draft,
    untrusted: Draft,
    *,
    now: datetime,
    following: Sequence[Signer] | None = None,
    period: int = 1_209_600,
    drift: int = 10,
    name: str | int = "step",
) -> dict[str, Any]:
    """One line of a batch. `following`: the set after the trusted block; that block's own by default."""
    return {
        "id": name,
        "trusted": {
            "signed_header": signed_header(trusted),
            "next_validators": validators(in_order(following or trusted.validators)),
        },
        "untrusted": light_block(untrusted),
        "now": now.isoformat().replace("+00:00", "Z"),
        "trusting_period_seconds": period,
        "max_clock_drift_seconds": drift,
    }


def dumps(value: object) -> str:
    return json.dumps(value)
