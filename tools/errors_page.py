"""Generates `docs/errors.md` from the tables of rules; `--check` only says whether the page is current."""

from __future__ import annotations

import sys
from pathlib import Path

from cipherkeep_attestation.errors import RULES
from cipherkeep_attestation.statements.answer import REFUSALS
from cipherkeep_host.errors import HOST_RULES
from cipherkeep_wire.errors import SERVICE_RULES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "errors.md"


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def page() -> str:
    """The whole page: evidence, refusals inside answers, the enclave's service, the host."""
    evidence = [(f"`{code}`", rule.sentence, rule.hint, rule.source) for code, rule in RULES.items()]
    refusals = [(f"`{code}`", sentence) for code, sentence in REFUSALS.items()]
    service = [
        (f"`{code}`", rule.sentence, rule.hint, "yes" if rule.retryable else "no")
        for code, rule in SERVICE_RULES.items()
    ]
    host = [(f"`{code}`", rule.sentence, rule.hint) for code, rule in HOST_RULES.items()]
    return "\n".join(
        [
            "# Errors",
            "",
            "Every refusal has a stable code. `tools/errors_page.py` generates this page from the tables in the code.",
            "",
            "## Evidence that does not hold",
            "",
            _table(("code", "what", "what to look at", "source"), evidence),
            "## Refusals inside signed answers",
            "",
            _table(("code", "what"), refusals),
            "## The enclave's service",
            "",
            _table(("code", "what", "what to look at", "worth a retry"), service),
            "## The host",
            "",
            _table(("code", "what", "what to look at"), host),
        ]
    )


def main() -> int:
    if "--check" in sys.argv:
        if PAGE.exists() and PAGE.read_text() == page():
            return 0
        print("docs/errors.md is not current: run `.venv/bin/python tools/errors_page.py`", file=sys.stderr)
        return 1
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
