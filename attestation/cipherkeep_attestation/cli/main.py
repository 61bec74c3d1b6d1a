"""The only place that knows all commands of `cipherkeep-audit`; each group of them is a module of its own.

A module offers `add(subparsers)`, which registers its parsers and sets `run`, a function of the parsed arguments that
returns the exit code. Only the module that was asked for is imported; help imports all.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from cipherkeep_attestation.cli.inputs import UsageError
from cipherkeep_attestation.cli.output import USAGE, Verdict, plain, show
from cipherkeep_attestation.errors import EvidenceError

COMMANDS = ("document", "eif", "chain", "proof", "answer", "party", "policy")


def build(commands: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser with these groups of commands."""
    parser = argparse.ArgumentParser(
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
    given = list(sys.argv[1:] if argv is None else argv)
    parser = build(given[:1] if given and given[0] in COMMANDS else COMMANDS)
    arguments = parser.parse_args(given)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except UsageError as error:
        print(f"cipherkeep-audit: {plain(str(error))}", file=sys.stderr)
        return USAGE
    except EvidenceError as refusal:
        return show(Verdict(subject="evidence", refusal=refusal), as_json=bool(getattr(arguments, "json", False)))
    except BrokenPipeError:
        # Whoever read has seen enough; Python would complain again when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return USAGE
    except KeyboardInterrupt:
        return 130
    return code


def _version() -> str:
    try:
        return version("cipherkeep-attestation")
    except PackageNotFoundError:
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
