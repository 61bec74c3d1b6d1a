"""The only place that reads what the command is given: files, times, hexadecimal text, JSON; strict and bounded."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from datetime import UTC, datetime
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any, NoReturn

from cipherkeep_attestation.strict_json import check_depth

MIB = 1 << 20
_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


class UsageError(Exception):
    """The command was asked in a way that it cannot follow: exit code 2, and a sentence."""


class NotJsonError(ValueError):
    """A text is not the one JSON value that was expected."""


def open_file(path: str | Path) -> FileIO:
    """A regular file, unbuffered. UsageError for a device, pipe or folder (which may never end), and a missing file."""
    try:
        # Non-blocking: opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {_reason(error)}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"cannot read {path}: not a regular file")
    return FileIO(descriptor, "r")


def read_head(path: str | Path, most: int) -> bytes:
    """The first `most` bytes of a regular file, or of the standard input for `-`: whoever judges them has a limit."""
    if str(path) == "-":
        return sys.stdin.buffer.read(most)
    with BufferedReader(open_file(path)) as stream:
        try:
            return stream.read(most)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {_reason(error)}") from None


def read_file(path: str | Path, limit: int = 16 * MIB) -> bytes:
    """The content of a regular file of at most `limit` bytes; of the standard input for `-`. UsageError otherwise."""
    content = read_head(path, limit + 1)
    if len(content) > limit:
        raise UsageError(f"cannot read {path}: larger than {limit} bytes")
    return content


def _reason(error: Exception) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)


def hex_bytes(text: str, what: str, *, length: int | None = None, most: int = 1 << 20) -> bytes:
    """Bytes of an even number of hexadecimal digits, nothing else. UsageError naming `what` otherwise."""
    if not re.fullmatch(r"(?:[0-9a-fA-F]{2})*+", text):  # possessive: otherwise every pair of digits is remembered
        raise UsageError(f"{what}: not hexadecimal")
    found = bytes.fromhex(text)
    if length is not None and len(found) != length:
        raise UsageError(f"{what}: {len(found)} bytes instead of {length}")
    if len(found) > most:
        raise UsageError(f"{what}: more than {most} bytes")
    return found


def moment(text: str, what: str = "--at") -> datetime:
    """A time in the form of RFC 3339, zone included, cut to microseconds. UsageError otherwise."""
    match = _RFC_3339.fullmatch(text)
    if match is not None:
        date, time, fraction, zone = match.groups()
        try:
            found = datetime.fromisoformat(f"{date}T{time}{zone.upper().replace('Z', '+00:00')}")
            return found.astimezone(UTC).replace(microsecond=int((fraction or "0").ljust(9, "0")[:6]))
        except (ValueError, OverflowError):
            pass
    raise UsageError(f"{what}: not a time like 2026-07-01T12:00:00Z: {text[:40]}")


def strict_json(text: str | bytes, *, floats: bool = False) -> Any:
    """One JSON value: no duplicate names, no NaN, UTF-8; no floats unless they are asked for.

    `NotJsonError` with a reason otherwise.
    """
    data = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
    try:
        check_depth(data)
    except ValueError:
        raise NotJsonError("nested too deeply") from None
    try:
        return json.loads(
            data.decode(),
            object_pairs_hook=_object,
            parse_float=float if floats else _no_float,
            parse_constant=_no_float,
        )
    except NotJsonError:
        raise
    except UnicodeDecodeError:
        raise NotJsonError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise NotJsonError(f"{error.msg} at character {error.pos}") from None
    except ValueError:
        raise NotJsonError("a number with too many digits") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise NotJsonError(f"the name {name[:40]!r} twice")
            seen.add(name)
    return found


def _no_float(text: str) -> NoReturn:
    raise NotJsonError(f"a number that is not an integer: {text[:40]}")
