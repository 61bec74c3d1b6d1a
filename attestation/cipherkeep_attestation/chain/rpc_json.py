"""The only place that reads the JSON of a CometBFT node's RPC, light blocks above all, as that one writer writes it.

Integers of 64 bits are decimal texts and those of 32 bits numbers, hashes and addresses hexadecimal, keys and
signatures base64, times RFC 3339 in UTC with up to nine decimals. An unknown or missing name, a fraction, an exponent,
a sign, a leading zero: each is refused, and every number's range is checked before anything is computed with it. What
no hash covers (`proposer_priority`, `proposer`, `total_voting_power`) may stand there, must be well-formed, and is used
for nothing. Whoever turned the text into these values has refused names that stand twice.

Source: CometBFT v0.38, rpc/openapi and libs/json.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cipherkeep_attestation.chain.header import (
    BLOCK_VERSION,
    LIMITS,
    MAX_INT64,
    BlockId,
    Commit,
    CommitSignature,
    Flag,
    Header,
    LightBlock,
    Timestamp,
    Validator,
    ValidatorSet,
)
from cipherkeep_attestation.errors import Malformed

MAX_JSON = 1 << 20  # bytes of one answer of a node; a commit of 1000 validators takes 300 KB

_TIME = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?Z")
_DIGITS = re.compile(r"0|[1-9][0-9]{0,19}")
_SIGNED = re.compile(r"0|-?[1-9][0-9]{0,18}")
_HASHES = (
    "last_commit_hash",
    "data_hash",
    "validators_hash",
    "next_validators_hash",
    "consensus_hash",
    "app_hash",
    "last_results_hash",
    "evidence_hash",
    "proposer_address",
)


def mapping(value: Any, what: str) -> dict[str, Any]:
    """An object, whatever its names."""
    if not isinstance(value, dict):
        raise Malformed("json.type", f"{what}: not an object")
    return value


def member(value: Any, *path: str) -> Any:
    """What stands under these names, each inside the one before; what stands beside them is not looked at."""
    for name in path:
        value = mapping(value, f"what holds {name}")
        if name not in value:
            raise Malformed("json.missing_name", ".".join(path))
        value = value[name]
    return value


def names(value: Any, required: Sequence[str], optional: Sequence[str] = (), *, what: str) -> dict[str, Any]:
    """An object with all names of `required`, any of `optional`, and no other. `what` it is, for the refusal."""
    found = mapping(value, what)
    missing = [name for name in required if name not in found]
    if missing:
        raise Malformed("json.missing_name", f"{what}: {missing[0]}")
    unknown = sorted(found.keys() - set(required) - set(optional))
    if unknown:
        raise Malformed("json.unknown_name", f"{what}: {unknown[0]}"[:120])
    return found


def text(value: Any, what: str) -> str:
    """A text."""
    if not isinstance(value, str):
        raise Malformed("json.type", f"{what}: not a text")
    return value


def array(value: Any, what: str, most: int) -> list[Any]:
    """An array of at most `most` items."""
    if not isinstance(value, list):
        raise Malformed("json.type", f"{what}: not an array")
    if len(value) > most:
        raise Malformed("lightclient.size", f"{what}: {len(value)} items, at most {most}")
    return value


def number(value: Any, what: str, *, most: int, least: int = 0) -> int:
    """An integer that is written as a number."""
    if type(value) is not int:
        raise Malformed("json.type", f"{what}: not an integer")
    if not least <= value <= most:
        raise Malformed("json.range", f"{what}: {value}")
    return value


def decimal(value: Any, what: str, *, most: int = MAX_INT64) -> int:
    """An unsigned integer that is written as a text of decimal digits."""
    if not isinstance(value, str):
        raise Malformed("json.type", f"{what}: a 64-bit integer is a text")
    if not _DIGITS.fullmatch(value):
        # A voting power of p - 2^64 encodes as p does: nothing but digits within 64 bits gets any further.
        raise Malformed("json.range" if re.fullmatch(r"-?[0-9]+", value) else "json.number", f"{what}: {value[:40]}")
    found = int(value)
    if found > most:
        raise Malformed("json.range", f"{what}: {value}")
    return found


def hexadecimal(value: Any, what: str) -> bytes:
    """Hexadecimal digits in pairs, all capital as the node writes them, or all small."""
    found = text(value, what)
    try:
        data = bytes.fromhex(found)
    except ValueError:
        raise Malformed("json.hex", what) from None
    if found not in (data.hex(), data.hex().upper()):
        raise Malformed("json.hex", what)
    return data


def base64_bytes(value: Any, what: str) -> bytes:
    """Base64 with padding, in its one form."""
    found = text(value, what)
    try:
        data = base64.b64decode(found, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("json.base64", what) from None
    if base64.b64encode(data).decode() != found:
        raise Malformed("json.base64", what)
    return data


def optional_bytes(value: Any, what: str) -> bytes:
    """Base64, or null, which the node writes for no bytes."""
    return b"" if value is None else base64_bytes(value, what)


def timestamp(value: Any, what: str) -> Timestamp:
    """A time in UTC, with up to nine decimals."""
    found = _TIME.fullmatch(text(value, what))
    if found is None:
        raise Malformed("json.time", what)
    *date, fraction = found.groups()
    try:
        at = datetime(*(int(part) for part in date), tzinfo=UTC)  # type: ignore[misc, arg-type]
    except ValueError:
        raise Malformed("json.time", what) from None
    return Timestamp(Timestamp.of(at).seconds, int((fraction or "0").ljust(9, "0")))


# --- blocks ---


def block_id(value: Any, what: str) -> BlockId:
    """A block's id; all of it empty before the first block."""
    found = names(value, ("hash", "parts"), what=what)
    parts = names(found["parts"], ("total", "hash"), what=f"{what}.parts")
    return BlockId(
        hexadecimal(found["hash"], f"{what}.hash"),
        number(parts["total"], f"{what}.parts.total", most=(1 << 32) - 1),
        hexadecimal(parts["hash"], f"{what}.parts.hash"),
    )


def header(value: Any) -> Header:
    """A header."""
    required = ("version", "chain_id", "height", "time", "last_block_id", *_HASHES)
    found = names(value, required, what="header")
    version = names(found["version"], ("block",), ("app",), what="header.version")
    block = decimal(version["block"], "header.version.block", most=(1 << 64) - 1)
    if block != BLOCK_VERSION:
        raise Malformed("lightclient.block_version", f"version {block}")
    return Header(
        decimal(version.get("app", "0"), "header.version.app", most=(1 << 64) - 1),
        text(found["chain_id"], "header.chain_id"),
        decimal(found["height"], "header.height"),
        timestamp(found["time"], "header.time"),
        block_id(found["last_block_id"], "header.last_block_id"),
        *(hexadecimal(found[name], f"header.{name}") for name in _HASHES),
    )


def _slot(value: Any) -> CommitSignature:
    found = names(value, ("block_id_flag", "validator_address", "timestamp", "signature"), what="signature")
    flag = number(found["block_id_flag"], "block_id_flag", least=-(1 << 31), most=(1 << 31) - 1)
    if flag not in (1, 2, 3):
        raise Malformed("lightclient.flag", f"flag {flag}")
    return CommitSignature(
        Flag(flag),
        hexadecimal(found["validator_address"], "validator_address"),
        timestamp(found["timestamp"], "signature.timestamp"),
        optional_bytes(found["signature"], "signature"),
    )


def commit(value: Any) -> Commit:
    """A commit."""
    found = names(value, ("height", "round", "block_id", "signatures"), what="commit")
    rounds = number(found["round"], "commit.round", least=-(1 << 31), most=(1 << 31) - 1)
    slots = array(found["signatures"], "commit.signatures", LIMITS.validators)
    return Commit(
        decimal(found["height"], "commit.height"),
        rounds,
        block_id(found["block_id"], "commit.block_id"),
        tuple(_slot(slot) for slot in slots),
    )


def signed_header(value: Any) -> tuple[Header, Commit]:
    """`{"header", "commit"}`."""
    found = names(value, ("header", "commit"), what="signed_header")
    return header(found["header"]), commit(found["commit"])


def commit_answer(value: Any) -> tuple[Header, Commit]:
    """The result of `commit`."""
    return signed_header(names(value, ("signed_header",), ("canonical",), what="commit")["signed_header"])


def validator(value: Any) -> Validator:
    """A validator; its address must be its key's, and its priority is read and forgotten."""
    found = names(value, ("address", "pub_key", "voting_power"), ("proposer_priority",), what="validator")
    key = names(found["pub_key"], ("type", "value"), what="pub_key")
    if key["type"] != "tendermint/PubKeyEd25519":
        raise Malformed("lightclient.key_type", str(key["type"])[:60])
    priority = found.get("proposer_priority", "0")
    if not isinstance(priority, str) or not _SIGNED.fullmatch(priority) or abs(int(priority)) > MAX_INT64:
        raise Malformed("json.range", "proposer_priority")
    power = decimal(found["voting_power"], "voting_power")
    made = Validator(base64_bytes(key["value"], "pub_key.value"), power)
    if hexadecimal(found["address"], "validator.address") != made.address:
        raise Malformed("lightclient.validator_address")
    return made


@dataclass(frozen=True, slots=True)
class ValidatorsPage:
    """One answer to `validators`: the page's validators, and how many the whole set has."""

    height: int | None
    validators: tuple[Validator, ...]
    total: int


def validators_page(value: Any) -> ValidatorsPage:
    """The result of `validators`."""
    found = names(value, ("validators",), ("block_height", "count", "total"), what="validators")
    rows = array(found["validators"], "validators", LIMITS.validators)
    made = tuple(validator(row) for row in rows)
    if decimal(found.get("count", str(len(made))), "validators.count") != len(made):
        raise Malformed("json.range", "validators.count")
    height = decimal(found["block_height"], "validators.block_height") if "block_height" in found else None
    return ValidatorsPage(height, made, decimal(found.get("total", str(len(made))), "validators.total"))


def validator_set(value: Any) -> ValidatorSet:
    """A whole set: an array of validators, or an object that has one under `validators`.

    The object may be the result of `validators` on one page, or carry the node's own `proposer` and
    `total_voting_power`, which no hash covers: they are read, must fit, and are forgotten.
    """
    if isinstance(value, list):
        value = {"validators": value}
    optional = ("block_height", "count", "total", "proposer", "total_voting_power")
    found = names(value, ("validators",), optional, what="validators")
    kept = {name: item for name, item in found.items() if name not in ("proposer", "total_voting_power")}
    page = validators_page(kept)
    if page.total != len(page.validators):
        raise Malformed("json.range", f"{len(page.validators)} of {page.total} validators: ask for all of them")
    whole = ValidatorSet(page.validators)
    if found.get("proposer") is not None and validator(found["proposer"]) not in whole.validators:
        raise Malformed("lightclient.proposer", "not one of the set")
    if "total_voting_power" in found and decimal(found["total_voting_power"], "total_voting_power") != whole.power:
        raise Malformed("lightclient.total_power", "not the sum")
    return whole


def light_block(value: Any) -> LightBlock:
    """`{"signed_header", "validators"}`."""
    found = names(value, ("signed_header", "validators"), what="light block")
    head, vouched = signed_header(found["signed_header"])
    return LightBlock(head, vouched, validator_set(found["validators"]))
