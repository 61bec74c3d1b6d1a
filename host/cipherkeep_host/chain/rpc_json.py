"""The only place that reads the node's JSON: into the light blocks that the verifier knows, and nothing looser.

The node's JSON is one writer's: integers of 64 bits are texts, hashes are capital hex, keys and signatures base64,
times RFC 3339 with up to nine decimals. Whatever differs is `HostError("node.answer")`. What no hash covers (proposer
priorities) is dropped here.

Source: CometBFT v0.38, rpc/openapi, and what the node sends.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from cipherkeep_attestation import strict_json
from cipherkeep_attestation.chain.header import (
    BLOCK_VERSION,
    ZERO_TIME,
    BlockId,
    Commit,
    CommitSignature,
    Flag,
    Header,
    Timestamp,
    Validator,
)
from cipherkeep_attestation.errors import EvidenceError

from cipherkeep_host.errors import HostError

_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?Z")
_T = TypeVar("_T")
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
_INTEGER = re.compile(r"0|-?[1-9]\d{0,18}")


def loads(data: bytes) -> Any:
    """JSON without repeated names, NaN or infinities, and nested within reason."""
    try:
        return strict_json.loads(data, floats=True)
    except ValueError:
        raise HostError("node.answer", "not JSON") from None


def member(value: Any, *path: str) -> Any:
    """What stands under these names."""
    for name in path:
        if not isinstance(value, dict) or name not in value:
            raise HostError("node.answer", f"{'.'.join(path)} is missing")
        value = value[name]
    return value


def text(value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise HostError("node.answer", "not a text")
    return value


def array(value: Any) -> list[Any]:
    """An array; null stands for an empty one."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise HostError("node.answer", "not an array")
    return value


def integer(value: Any) -> int:
    """An integer, written as a text or a number, in 64 bits."""
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
        raise HostError("node.answer", "not an integer")
    return value


def hexadecimal(value: Any) -> bytes:
    """Capital hex, as the node writes hashes and addresses."""
    try:
        found = bytes.fromhex(text(value))
    except ValueError:
        raise HostError("node.answer", "not hex") from None
    if found.hex().upper() != value:
        raise HostError("node.answer", "not capital hex")
    return found


def base64_bytes(value: Any) -> bytes:
    """Base64 with padding; null stands for nothing."""
    try:
        return b"" if value is None else base64.b64decode(text(value), validate=True)
    except (binascii.Error, ValueError):
        raise HostError("node.answer", "not base64") from None


def timestamp(value: Any) -> Timestamp:
    """A time in UTC."""
    found = _TIME.fullmatch(text(value))
    if found is None:
        raise HostError("node.answer", "not a time")
    *date, fraction = found.groups()
    try:
        at = datetime.strptime("-".join(date), "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC)
    except ValueError:
        raise HostError("node.answer", "not a time") from None
    return Timestamp(Timestamp.of(at).seconds, int((fraction or "0").ljust(9, "0")))


def _judged(read: Callable[[], _T]) -> _T:
    try:
        return read()
    except EvidenceError as error:
        raise HostError("node.answer", str(error)) from None


def block_id(value: Any) -> BlockId:
    """`block_id` and `last_block_id`; both parts empty before the first block."""
    return BlockId(
        hexadecimal(member(value, "hash")),
        integer(member(value, "parts", "total")),
        hexadecimal(member(value, "parts", "hash")),
    )


def header(value: Any) -> Header:
    """A header."""
    if integer(member(value, "version", "block")) != BLOCK_VERSION:
        raise HostError("node.answer", "another version of the block protocol")
    app = member(value, "version").get("app", "0")
    return Header(
        integer(app),
        text(member(value, "chain_id")),
        integer(member(value, "height")),
        timestamp(member(value, "time")),
        block_id(member(value, "last_block_id")),
        *(hexadecimal(member(value, name)) for name in _HASHES),
    )


def _slot(value: Any) -> CommitSignature:
    flag = integer(member(value, "block_id_flag"))
    if flag not in (1, 2, 3):
        raise HostError("node.answer", f"a vote with flag {flag}")
    at = timestamp(member(value, "timestamp"))
    return CommitSignature(
        Flag(flag),
        hexadecimal(member(value, "validator_address")),
        ZERO_TIME if flag == Flag.ABSENT else at,
        base64_bytes(member(value, "signature")),
    )


def commit(value: Any) -> Commit:
    """A commit."""
    return Commit(
        integer(member(value, "height")),
        integer(member(value, "round")),
        block_id(member(value, "block_id")),
        tuple(_slot(slot) for slot in array(member(value, "signatures"))),
    )


def validator(value: Any) -> Validator:
    """A validator without its priority."""
    if member(value, "pub_key", "type") != "tendermint/PubKeyEd25519":
        raise HostError("node.answer", "a validator's key is not Ed25519")
    found = Validator(base64_bytes(member(value, "pub_key", "value")), integer(member(value, "voting_power")))
    if hexadecimal(member(value, "address")) != found.address:
        raise HostError("node.answer", "a validator's address is not its key's")
    return found


def signed_header(value: Any) -> tuple[Header, Commit]:
    """The result of `commit`."""
    return _judged(
        lambda: (header(member(value, "signed_header", "header")), commit(member(value, "signed_header", "commit")))
    )


def validators(value: Any) -> list[Validator]:
    """One page of the result of `validators`."""
    return _judged(lambda: [validator(item) for item in array(member(value, "validators"))])
