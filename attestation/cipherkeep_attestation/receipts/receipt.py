"""The only place that knows a receipt's file: the evidence for one request and its answer, and nothing that is trusted.

Deterministic CBOR. Light blocks lead from the trust root, which is not in it, past the blocks that registrations and
answers name, to the header under which records are proven:

    blocks ── header ── record of the request ── its bytes ── answers ── records of the parties
                │                                                              │
                │                                 registrations (documents, configurations)
                ├── record of the key's generation ── its bytes, answers, parties
                └── control leaf ── statements: all that the governors signed, in their order
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from cipherkeep_attestation import cbor
from cipherkeep_attestation.chain.header import LIMITS, LightBlock
from cipherkeep_attestation.chain.ics23 import MAX_PROOF
from cipherkeep_attestation.chain.state import StateProof
from cipherkeep_attestation.errors import Malformed
from cipherkeep_attestation.receipts.judging import Evidence, Shown
from cipherkeep_attestation.statements.answer import MAX_ANSWER
from cipherkeep_attestation.statements.governance import MAX_STATEMENT
from cipherkeep_attestation.statements.layout import CONTROL_KEY
from cipherkeep_attestation.statements.registration import MAX_REGISTRATION
from cipherkeep_attestation.statements.request import MAX_REQUEST

LABEL = "cipherkeep/receipt/v2"
MAX_RECEIPT = 4 * cbor.MIB  # bytes; one party's receipt takes some 15 KB
MAX_BLOCKS = 512
MAX_PARTIES = 64
MAX_STATEMENTS = 4096
_MAX_RECORD = 1 << 16  # bytes of a record in state


@dataclass(frozen=True, slots=True)
class Registered:
    """A party's registration as it was sent, and the height of the block that took it in."""

    party: int
    height: int
    registration: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """Evidence for one answered request; `key` is that of its key's generation, None for a key generation itself.

    Both are proven under the last of `blocks`. Well-formed, and nothing more: `offline` judges it.
    """

    request: Evidence
    key: Evidence | None
    registrations: tuple[Registered, ...]
    control: Shown
    statements: tuple[bytes, ...]

    @property
    def blocks(self) -> tuple[LightBlock, ...]:
        """From the trust root to the header that everything is proven under."""
        return self.request.blocks

    def __post_init__(self) -> None:
        if self.key is not None and self.key.blocks != self.request.blocks:
            raise Malformed("receipt.form", "two ways to the header")
        if self.control.key != CONTROL_KEY:
            raise Malformed("receipt.form", "another key than the control leaf's")

    def encode(self) -> bytes:
        """Deterministic CBOR."""
        rows = [
            {"height": item.height, "party": item.party, "registration": item.registration}
            for item in self.registrations
        ]
        return cbor.encode(
            {
                "blocks": [block.encode() for block in self.blocks],
                "control": _shown_map(self.control),
                "key": None if self.key is None else _evidence_map(self.key),
                "label": LABEL,
                "registrations": rows,
                "request": _evidence_map(self.request),
                "statements": list(self.statements),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Receipt:
        """Read what `encode` writes. `Malformed` for anything else."""
        found = cbor.fields(
            cbor.decode(data, limits=cbor.Limits(size=MAX_RECEIPT, depth=8, items=20_000)),
            blocks=cbor.sequence(cbor.raw(1, LIMITS.light_block), MAX_BLOCKS, least=1),
            control=cbor.anything,
            key=cbor.anything,
            label=cbor.exactly(LABEL),
            registrations=cbor.sequence(cbor.anything, MAX_PARTIES),
            request=cbor.anything,
            statements=cbor.sequence(cbor.raw(1, MAX_STATEMENT), MAX_STATEMENTS),
        )
        blocks = tuple(map(LightBlock.decode, found["blocks"]))
        if any(one.header.height >= two.header.height for one, two in pairwise(blocks)):
            raise Malformed("receipt.form", "a block stands twice or in another order")
        registrations = tuple(map(_registered, found["registrations"]))
        if len({item.party for item in registrations}) != len(registrations):
            raise Malformed("receipt.form", "a party's registration stands twice")
        key = None if found["key"] is None else _evidence(found["key"], blocks)
        asked = _evidence(found["request"], blocks)
        return cls(asked, key, registrations, _shown(found["control"]), found["statements"])


def _registered(value: object) -> Registered:
    return Registered(
        **cbor.fields(
            value,
            height=cbor.uint(least=1),
            party=cbor.uint(1000, least=1),
            registration=cbor.raw(1, MAX_REGISTRATION),
        )
    )


def _evidence_map(evidence: Evidence) -> dict[str, object]:
    return {
        "answers": [{"answer": data, "party": party} for party, data in evidence.answers],
        "body": evidence.body,
        "parties": [_shown_map(item) for item in evidence.parties],
        "record": _shown_map(evidence.record),
    }


def _evidence(value: object, blocks: tuple[LightBlock, ...]) -> Evidence:
    found = cbor.fields(
        value,
        answers=cbor.sequence(cbor.anything, MAX_PARTIES),
        body=cbor.raw(1, MAX_REQUEST),
        parties=cbor.sequence(cbor.anything, MAX_PARTIES),
        record=cbor.anything,
    )
    rows = [
        cbor.fields(row, answer=cbor.raw(1, MAX_ANSWER), party=cbor.uint(1000, least=1)) for row in found["answers"]
    ]
    answers = tuple((row["party"], row["answer"]) for row in rows)
    parties = tuple(map(_shown, found["parties"]))
    if len({party for party, _ in answers}) != len(answers) or len({item.key for item in parties}) != len(parties):
        raise Malformed("receipt.form", "a party stands twice")
    return Evidence(blocks, _shown(found["record"]), found["body"], answers, parties)


def _shown_map(shown: Shown) -> dict[str, object]:
    return {"key": shown.key, "proof": shown.proof.encode(), "value": shown.value}


def _shown(value: object) -> Shown:
    found = cbor.fields(
        value,
        key=cbor.uint(),
        proof=cbor.raw(1, 2 * MAX_PROOF + 64),
        value=cbor.raw(1, _MAX_RECORD),
    )
    return Shown(found["key"], found["value"], StateProof.decode(found["proof"]))
