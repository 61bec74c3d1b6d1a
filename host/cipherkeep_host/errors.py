"""The only place for the host's own refusals: one exception and the table of its codes.

Evidence that does not hold raises `cipherkeep_attestation.errors.EvidenceError` here as everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostRule:
    """What went wrong in one sentence, and what an operator should look at."""

    sentence: str
    hint: str


class HostError(Exception):
    """Something on the host's side failed. `code` names the rule in `HOST_RULES`; `detail` holds no secret."""

    def __init__(self, code: str, detail: str = "") -> None:
        rule = HOST_RULES[code]
        self.code = code
        self.detail = detail
        self.sentence = rule.sentence
        self.hint = rule.hint
        super().__init__(f"{code}: {rule.sentence}" + (f" ({detail})" if detail else ""))


HOST_RULES: dict[str, HostRule] = {
    # --- service ---
    # --- chain and contracts ---
    # --- client and connector ---
    # --- store and coprocessor ---
    # --- emulators ---
    # --- command line ---
}
