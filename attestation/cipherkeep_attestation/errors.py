"""The only place for refusals: the classes that say whose fault it is and the table of rules that says which.

EvidenceError
├── Malformed   the bytes are not what their format demands
├── Untrusted   well-formed, but nobody we trust vouches for it
├── Stale       vouched for, but not at this time
└── Refused     vouched for and current, and does not prove what it must

Every refusal carries a stable `code`; `RULES` gives its sentence, what an operator should look at, and the source of
the rule. `docs/errors.md` is generated from this table.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the verifier: one sentence, one hint, one source."""

    sentence: str
    hint: str
    source: str


class EvidenceError(Exception):
    """Evidence was refused. `code` names the rule in `RULES`; `detail` is for people and holds no secret."""

    def __init__(self, code: str, detail: str = "") -> None:
        rule = RULES[code]
        self.code = code
        self.detail = detail
        self.sentence = rule.sentence
        self.hint = rule.hint
        self.source = rule.source
        super().__init__(f"{code}: {rule.sentence}" + (f" ({detail})" if detail else ""))


class Malformed(EvidenceError):
    """The bytes are not what their format demands."""


class Untrusted(EvidenceError):
    """The evidence is well-formed, but nobody we trust vouches for it."""


class Stale(EvidenceError):
    """The evidence is vouched for, but not at this time."""


class Refused(EvidenceError):
    """The evidence is well-formed, vouched for and current, and does not prove what it must."""


RULES: dict[str, Rule] = {
    # --- encoding: CBOR and COSE ---
    "encoding.schema": Rule(
        "A map does not have exactly the fields, types and lengths that its format demands.",
        hint="Compare the versions of the software on both sides.",
        source="RFC 8949; docs of the message",
    ),
    # --- document: Nitro attestation documents ---
    # --- handshake ---
    # --- lightclient: headers, commits, validator sets ---
    # --- proof: ICS-23 and state proofs ---
    # --- statement: configuration, governance, registration, transaction ---
    # --- binding, authorisation, request, answer ---
}
