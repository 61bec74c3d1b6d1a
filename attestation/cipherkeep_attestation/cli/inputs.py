"""The only place that reads what the command is given: files, times, hexadecimal text; strict and bounded."""

from __future__ import annotations

import base64
import os
import re
import stat
import sys
from datetime import UTC, datetime
from io import BufferedReader, FileIO
from pathlib import Path
from typing import BinaryIO

MIB = 1 << 20
_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?"
    r"([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)


class UsageError(Exception):
    """The command was asked in a way that it cannot follow: exit code 2, and a sentence."""


def open_file(path: str | Path) -> FileIO:
    """A regular file, unbuffered. UsageError for a device, pipe or folder (which may never end), and a missing file."""
    try:
        # Non-blocking: opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {reason(error)}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"cannot read {path}: not a regular file")
    return FileIO(descriptor, "r")


def open_lines(path: str) -> BinaryIO:
    """A file, pipe or named pipe that is read line by line, or the standard input for `-`. UsageError otherwise."""
    if path in ("-", "/dev/stdin"):
        return _standard_input()
    try:
        # As other tools do, wait for whoever writes to a named pipe; a device would never end.
        if Path(path).is_fifo():
            return Path(path).open("rb")
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {reason(error)}") from None
    return BufferedReader(open_file(path))


def read_head(path: str | Path, most: int) -> bytes:
    """The first `most` bytes of a regular file, or of the standard input for `-`: whoever judges them has a limit."""
    stream = _standard_input() if str(path) == "-" else BufferedReader(open_file(path))
    try:
        return stream.read(most)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {reason(error)}") from None
    finally:
        if str(path) != "-":
            stream.close()


def _standard_input() -> BinaryIO:
    if sys.stdin is None:  # it was closed before the command began
        raise UsageError("the standard input is closed")
    return sys.stdin.buffer


def read_file(path: str | Path, limit: int = 16 * MIB) -> bytes:
    """The content of a regular file of at most `limit` bytes; of the standard input for `-`. UsageError otherwise."""
    content = read_head(path, limit + 1)
    if len(content) > limit:
        raise UsageError(f"cannot read {path}: larger than {limit} bytes")
    return content


def reason(error: Exception) -> str:
    """What the system says is wrong, without the path."""
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


def utf8(text: str, what: str) -> bytes:
    """The bytes of an argument, which need not be text where it comes from. UsageError naming `what` otherwise."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what}: not UTF-8") from None


def stated_time(text: str) -> datetime:
    """What --at says: a time, or the word `now`. Only here does the command look at a clock."""
    return datetime.now(UTC) if text == "now" else moment(text)


def moment(text: str, what: str = "--at") -> datetime:
    """A time in the form of RFC 3339 with its zone, cut to microseconds. UsageError otherwise."""
    match = _RFC_3339.fullmatch(text)
    if match is not None:
        date, time, fraction, zone = match.groups()
        try:
            found = datetime.fromisoformat(f"{date}T{time}{zone.upper().replace('Z', '+00:00')}")
            return found.astimezone(UTC).replace(microsecond=int((fraction or "0").ljust(9, "0")[:6]))
        except (ValueError, OverflowError):
            pass
    raise UsageError(f"{what}: not a time like 2026-07-01T12:00:00Z: {text[:40]}")


def pem(data: bytes, label: str) -> bytes:
    """The bytes inside exactly one PEM block of this label, with white space around it and nothing else.

    ValueError for anything else: two blocks, text beside them, characters that are no base64.
    """
    name = re.escape(label.encode())
    found = re.fullmatch(rb"\s*-----BEGIN %b-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END %b-----\s*" % (name, name), data)
    if found is None:
        raise ValueError("not exactly one PEM block")
    return base64_bytes(found[1].replace(b"\r", b"").replace(b"\n", b""))


def base64_bytes(text: bytes) -> bytes:
    """Bytes from the one base64 text that stands for them. ValueError for any other."""
    found = base64.b64decode(text, validate=True)
    if base64.b64encode(found) != text:
        raise ValueError("not base64 as it is written")
    return found
