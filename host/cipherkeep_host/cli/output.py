"""The only place that prints: tables and sentences on a terminal, one JSON object when asked, errors with their hint.

Exit codes: 0 done, 1 refused or not proven, 2 wrong usage, 3 nothing to talk to, 4 not in time, 130 interrupted.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, NoReturn

import typer
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_wire.errors import RemoteError, ServiceError
from rich.console import Console
from rich.table import Table

from cipherkeep_host.errors import HostError

REFUSED, USAGE, UNREACHABLE, TIMEOUT, INTERRUPTED = 1, 2, 3, 4, 130
_USAGE = ("cli.value", "cli.handle", "cli.user_key")
_UNREACHABLE = (
    "appliance.not_running",
    "cli.attestation",
    "coprocessor.unreachable",
    "node.unreachable",
    "store.unreachable",
)
_TIMEOUT = (
    "client.timeout",
    "client.ciphertext_missing",
    "client.ciphertext_damaged",
    "client.ciphertext_too_large",
    "node.timeout",
    "appliance.timeout",
)

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def show_json(value: object) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def show_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table; nothing is cut off."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    out.print(table)


def show_fields(title: str, fields: dict[str, object]) -> None:
    """Names and values, one a line."""
    out.print(f"[bold]{title}[/bold]")
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        out.print(f"  {name:<{width}}  ", end="")
        out.print(_text(value), markup=False)


def _text(value: object) -> str:
    """What a person reads: no braces, no quotes; None is said."""
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_text(item)}" for name, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value)) or "none"
    return str(value)


def problem(error: Exception) -> dict[str, str]:
    """What was refused, and what to look at."""
    code, sentence = getattr(error, "code", "error"), getattr(error, "sentence", str(error))
    return {
        "code": code,
        "sentence": sentence,
        "detail": getattr(error, "detail", ""),
        "hint": getattr(error, "hint", ""),
    }


def fail(error: Exception) -> NoReturn:
    """Say what was refused and what to look at, on stderr, and exit with the code for it."""
    said = problem(error)
    code, sentence, detail, hint = said.values()
    if sys.stdout.isatty():
        err.print(f"[red]✗[/red] {sentence}", end=" ")
        err.print(f"[{code}]", markup=False)
        if detail:
            err.print(f"  {detail}", markup=False)
        if hint:
            err.print(f"  → {hint}", markup=False)
    else:
        sys.stderr.write(json.dumps(said) + "\n")
    groups = {USAGE: _USAGE, UNREACHABLE: _UNREACHABLE, TIMEOUT: _TIMEOUT}
    raise typer.Exit(next((status for status, codes in groups.items() if code in codes), REFUSED))


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a command's work; known errors become an exit code."""
    try:
        return asyncio.run(work)
    except (HostError, EvidenceError, ServiceError, RemoteError) as error:
        fail(error)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
