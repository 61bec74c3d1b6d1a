"""The only place that knows all commands of `cipherkeep-audit`; each group of them is a module of its own.

Exit code 2 is for whatever is no verdict: a command that is not understood, output that cannot be written, and defects
of this program, each with one line on standard error. An exception that nobody foresaw must not look like a refusal.

A module offers `add(subparsers)`, which registers its parsers and sets `run`, a function of the parsed arguments that
returns the exit code. Only the module that was asked for is imported; help imports all.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn, TextIO

from cipherkeep_attestation.cli.inputs import UsageError
from cipherkeep_attestation.cli.output import USAGE, OutputError, Verdict, flush, plain, show, write
from cipherkeep_attestation.errors import RULES, EvidenceError

COMMANDS = ("document", "eif", "chain", "proof", "answer", "party", "policy")


class _Parser(argparse.ArgumentParser):
    """Repeats what it was given without what a terminal would obey; ends no command before its output is written."""

    def error(self, message: str) -> NoReturn:
        super().error(plain(f"cli.usage: {message}"))

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        flush()
        if message:
            self._print_message(message, sys.stderr)
        _flush_errors()
        sys.exit(status)

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is not None and file is sys.stdout:
            write(message)  # the base class passes over what cannot be written
        else:
            super()._print_message(message, file)


def build(commands: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser with these groups of commands."""
    parser = _Parser(
        prog="cipherkeep-audit",
        description="Judges evidence offline: attestation documents, images, light blocks, proofs, answers.",
        epilog="Exit codes: 0 accepted, 1 refused, 2 the command was not understood.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"cipherkeep-audit {_version()}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in commands:
        import_module(f"cipherkeep_attestation.cli.{name}").add(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except BrokenPipeError:
        # Whoever read has seen enough.
        _abandon(sys.stdout)
    except OutputError as error:
        _abandon(sys.stdout)
        _complain("cli.output", str(error))
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - a defect of ours is no refusal
        frame = traceback.extract_tb(error.__traceback__)[-1]
        _complain("cli.defect", f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}")
    return USAGE


def _run(given: list[str]) -> int:
    arguments = build(given[:1] if given and given[0] in COMMANDS else COMMANDS).parse_args(given)
    try:
        code: int = arguments.run(arguments)
    except UsageError as error:
        _say("cli.usage", str(error))
        code = USAGE
    except EvidenceError as refusal:
        code = show(Verdict(subject="evidence", refusal=refusal), as_json=bool(getattr(arguments, "json", False)))
    flush()
    return code


def _complain(code: str, detail: str) -> None:
    _say(code, f"{RULES[code].sentence} ({detail})")


def _say(code: str, text: str) -> None:
    if sys.stderr is not None:  # else it was closed before the command began
        with contextlib.suppress(OSError):
            sys.stderr.write(f"cipherkeep-audit: {code}: {plain(text)}\n")
    _flush_errors()


def _flush_errors() -> None:
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        _abandon(sys.stderr)


def _abandon(stream: TextIO | None) -> None:
    """Let go of what is buffered: the interpreter would try again at its end, and complain."""
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _version() -> str:
    try:
        return version("cipherkeep-attestation")
    except PackageNotFoundError:
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
