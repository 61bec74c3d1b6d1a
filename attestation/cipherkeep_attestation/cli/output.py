"""The only place that prints: verdicts for people and for machines, and batches of them.

    return show(Verdict(subject="document", checks=checks, refusal=refusal), as_json=arguments.json)

Every rule has its line with a word, so that nothing is said by symbol or colour alone. Symbols stand beside the words
on a terminal only, and so do colours, unless NO_COLOR says otherwise. What came from evidence is printed with its
control characters escaped. What cannot be written is an `OutputError`: nobody has seen a verdict then.

Exit codes: 0 accepted, 1 refused, 2 the command was not understood.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TextIO

from cipherkeep_attestation import strict_json
from cipherkeep_attestation.cli.inputs import MIB, UsageError, open_lines, reason
from cipherkeep_attestation.errors import EvidenceError, Malformed
from cipherkeep_attestation.trace import Check, State

ACCEPTED, REFUSED, USAGE = 0, 1, 2

_MARKS = {State.PASSED: "✓", State.FAILED: "✗", State.NOT_JUDGED: "·", State.NOT_DEMANDED: "-"}
_COLOURS = {State.PASSED: "32", State.FAILED: "1;31", State.NOT_JUDGED: "2", State.NOT_DEMANDED: "33"}
_WORD = max(len(state.value) for state in State)


@dataclass(frozen=True, slots=True)
class Section:
    """A titled table: rows of a name and a value. `mark` stands before each row where symbols are shown."""

    title: str
    rows: tuple[tuple[str, str], ...]
    mark: State | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a command found out. Accepted unless there is a refusal.

    `conclusion` is the sentence of an acceptance; `details` go to `--json` only, under names of their own.
    """

    subject: str
    checks: tuple[Check, ...] = ()
    refusal: EvidenceError | None = None
    conclusion: str = ""
    sections: tuple[Section, ...] = ()
    warnings: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


def plain(text: str) -> str:
    """The text with everything escaped that a terminal would obey."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class OutputError(Exception):
    """What was to be printed could not be written."""


def write(text: str, stream: TextIO | None = None) -> None:
    """Write to the stream, or the standard output. OutputError when it cannot; BrokenPipeError when nobody reads."""
    target = _target(stream)
    try:
        target.write(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(reason(error)) from None


def flush(stream: TextIO | None = None) -> None:
    """Have everything written that was printed. As `write`; nothing where there is no standard output."""
    target = stream or sys.stdout
    try:
        if target is not None:
            target.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(reason(error)) from None


def _target(stream: TextIO | None) -> TextIO:
    target = stream or sys.stdout
    if target is None:  # it was closed before the command began
        raise OutputError("the standard output is closed")
    return target


class Printer:
    """Lines on a stream, with symbols if it is a terminal that knows them, and colour if it is one that wants it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = _target(stream)
        terminal = self.stream.isatty()
        self.colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
        try:
            "".join(_MARKS.values()).encode(self.stream.encoding or "ascii")
            self.symbols = terminal
        except (UnicodeEncodeError, LookupError):
            self.symbols = False

    def mark(self, state: State | None) -> str:
        """The symbol of a state with a space behind it, or nothing: a word says the same."""
        return f"{_MARKS[state]} " if self.symbols and state is not None else ""

    def line(self, text: str = "", *, style: str = "") -> None:
        """One line; `style` is the number of an ANSI colour."""
        safe = plain(text)
        encoding = self.stream.encoding or "ascii"
        safe = safe.encode(encoding, "backslashreplace").decode(encoding)
        write(f"\x1b[{style}m{safe}\x1b[0m\n" if self.colour and style else f"{safe}\n", self.stream)

    def check(self, check: Check, width: int) -> None:
        """One rule: mark, word, code, what it demands, detail."""
        detail = f" ({check.detail})" if check.detail else ""
        text = f"{self.mark(check.state)}{check.state.value:<{_WORD}}  {check.code:<{width}}  {check.demand}{detail}"
        self.line("  " + text.rstrip(), style=_COLOURS[check.state])

    def section(self, section: Section) -> None:
        """A title and its rows, names aligned."""
        self.line()
        self.line(section.title, style="1")
        width = max((len(name) for name, _ in section.rows), default=0)
        for name, value in section.rows:
            self.line(f"  {self.mark(section.mark)}{name:<{width}}  {value}".rstrip())


def show(verdict: Verdict, *, as_json: bool, stream: TextIO | None = None) -> int:
    """Print the verdict and return the exit code that belongs to it."""
    refusal = verdict.refusal
    if as_json:
        write(json.dumps(as_value(verdict), indent=2) + "\n", stream)
        return ACCEPTED if refusal is None else REFUSED
    printer = Printer(stream)
    width = max((len(check.code) for check in verdict.checks), default=0)
    if verdict.checks:
        printer.line(f"rules of the {verdict.subject}", style="1")
    for check in verdict.checks:
        printer.check(check, width)
    for section in verdict.sections:
        printer.section(section)
    if verdict.checks or verdict.sections:
        printer.line()
    for warning in verdict.warnings:
        printer.line(f"warning: {warning}", style="33")
    if refusal is None:
        conclusion = f": {verdict.conclusion}" if verdict.conclusion else ""
        printer.line(f"{printer.mark(State.PASSED)}accepted: {verdict.subject}{conclusion}", style="1;32")
        return ACCEPTED
    printer.line(f"{printer.mark(State.FAILED)}refused: {verdict.subject}: {refusal.code}", style="1;31")
    printer.line(f"  {refusal.sentence}" + (f" ({refusal.detail})" if refusal.detail else ""))
    printer.line(f"  What to look at: {refusal.hint}")
    printer.line(f"  Source of the rule: {refusal.source}")
    return REFUSED


def as_value(verdict: Verdict) -> dict[str, Any]:
    """The verdict as what `--json` prints."""
    refusal = verdict.refusal
    return {
        "subject": verdict.subject,
        "accepted": refusal is None,
        "code": None if refusal is None else refusal.code,
        "message": verdict.conclusion if refusal is None else message(refusal),
        "hint": None if refusal is None else refusal.hint,
        "source": None if refusal is None else refusal.source,
        "checks": [
            {"code": check.code, "state": check.state.value, "demand": check.demand, "detail": check.detail}
            for check in verdict.checks
        ],
        "warnings": list(verdict.warnings),
        **verdict.details,
    }


def message(refusal: EvidenceError) -> str:
    """Sentence and detail of a refusal, on one line."""
    return refusal.sentence + (f" ({refusal.detail})" if refusal.detail else "")


# --- batches ---

Judge = Callable[[dict[str, Any]], str]


def run_batch(source: str, judge: Judge, *, line_limit: int = MIB, output: TextIO | None = None) -> int:
    """Judge every JSON line of a file or stream (`-` is the standard input): one verdict line each, in the same order.

    `judge` gets the object of a line without its `id`, returns the sentence of an acceptance, and raises an
    `EvidenceError` or a `UsageError` for what it does not accept. Whatever it raises, the next line is judged.
    Returns 0 when every line was accepted, 1 otherwise.
    """
    code = ACCEPTED
    with open_lines(source) as stream:
        for line in lines(stream, line_limit):
            verdict = _verdict(line, judge, line_limit)
            if not verdict["accepted"]:
                code = REFUSED
            write(json.dumps(verdict) + "\n", output)
            flush(output)
    return code


def lines(stream: BinaryIO, limit: int) -> Iterator[bytes | None]:
    """The lines of a stream without their ends; None for one of more than `limit` bytes, which is skipped unread.

    UsageError when the stream cannot be read to its end: what came before has its verdicts.
    """
    try:
        yield from _pieces(stream, limit)
    except OSError as error:
        raise UsageError(f"cannot read the batch: {reason(error)}") from None


def _pieces(stream: BinaryIO, limit: int) -> Iterator[bytes | None]:
    while piece := stream.readline(limit + 1):
        if len(piece.rstrip(b"\r\n")) > limit or (len(piece) > limit and not piece.endswith(b"\n")):
            while piece and not piece.endswith(b"\n"):
                piece = stream.readline(1 << 16)
            yield None
        else:
            yield piece.rstrip(b"\r\n")


def _verdict(line: bytes | None, judge: Judge, limit: int) -> dict[str, Any]:
    name: str | int | None = None
    refusal: EvidenceError
    try:
        if line is None:
            raise Malformed("batch.size", f"at most {limit} bytes")
        value = _object(line)
        found = value.pop("id", None)
        if not _is_id(found):
            raise Malformed("batch.fields", "id is not a text of at most 256 characters, nor an integer")
        name = found
        return {"id": name, "accepted": True, "code": None, "message": judge(value)}
    except EvidenceError as error:
        refusal = error
    except UsageError as error:
        refusal = Malformed("batch.fields", str(error)[:300])
    except Exception as error:  # noqa: BLE001 - a defect of ours refuses this line and never stops the batch
        refusal = Malformed("batch.defect", type(error).__name__)
    if name is None and line is not None and refusal.code == "batch.json":
        name = _readable_id(line)
    return {"id": name, "accepted": False, "code": refusal.code, "message": plain(message(refusal))}


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = strict_json.loads(line)
    except strict_json.NotJsonError as error:
        raise Malformed("batch.json", str(error)) from None
    if type(value) is not dict:
        raise Malformed("batch.json", "not an object")
    return value


def _is_id(value: object) -> bool:
    return type(value) is int or (type(value) is str and len(value) <= 256)


def _readable_id(line: bytes) -> str | int | None:
    """The id of an object that is refused for something else in it, so that its verdict can be told from others.

    None where it is not one JSON object with one id.
    """
    try:
        strict_json.check_depth(line)
        # Every object is the list of its pairs, so that no name hides another of its kind.
        pairs = json.loads(line.decode(), object_pairs_hook=_Pairs)
    except ValueError:
        return None
    found = [value for name, value in pairs if name == "id"] if type(pairs) is _Pairs else []
    return found[0] if len(found) == 1 and _is_id(found[0]) else None


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written."""
