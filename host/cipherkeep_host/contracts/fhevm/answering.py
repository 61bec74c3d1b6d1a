"""The only place where answers become votes, and votes make a request final.

Each answer of a message is judged alone; one that does not hold gets its code as verdict and changes nothing. One vote
per party: the same core again is fine, another one is equivocation, which is kept as evidence and voids the vote.
"""

from __future__ import annotations

from dataclasses import replace

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import EvidenceError, Refused
from cipherkeep_attestation.statements import answer as answers
from cipherkeep_attestation.statements import layout, request
from cipherkeep_attestation.statements.answer import Answer, Core
from cipherkeep_attestation.statements.governance import KeyTerms
from cipherkeep_attestation.statements.layout import Equivocation, PartyRecord, RequestRecord
from cipherkeep_attestation.statements.registration import signer_of
from cipherkeep_attestation.statements.request import Keygen

from cipherkeep_host.contracts.fhevm.closing import close
from cipherkeep_host.contracts.fhevm.judging import judge_core
from cipherkeep_host.contracts.fhevm.limits import LIMITS
from cipherkeep_host.contracts.fhevm.records import KeyRow, Records, Vote, number
from cipherkeep_host.contracts.fhevm.requesting import statement_of
from cipherkeep_host.contracts.interface import Body, Context, ContractRefusal, ContractState

COUNTED, FINAL, EQUIVOCATION = "counted", "final", "fhevm.equivocation"


def answer(state: ContractState, context: Context, body: Body) -> bytes:
    """Judge every answer of a message, in order; the verdicts."""
    reader = cbor.sequence(cbor.raw(1, answers.MAX_ANSWER), LIMITS.answers, least=1)
    records = Records(state)
    verdicts: list[list[bytes | str | None]] = []
    for data in cbor.fields(dict(body), answers=reader)["answers"]:
        identity: bytes | None = None
        try:
            claimed = answers.unverified(data)
            identity = claimed.core.id
            verdict = _judge(records, context, data, claimed.context.party)
        except (ContractRefusal, EvidenceError) as refusal:
            # Raised before anything is written: see `_judge`.
            verdict = refusal.code
        verdicts.append([identity, verdict])
    return cbor.encode(verdicts)


def _judge(records: Records, context: Context, data: bytes, index: int) -> str:
    """The verdict on one answer. All refusals come first, then all writes."""
    party = records.party(index)
    if party is None or party.evidence_key is None or party.signing_key is None:
        raise Refused("answer.party", f"party {index}")
    opened = Answer.open(data, evidence_key=party.evidence_key)
    if party.registration is None:
        raise ContractRefusal("fhevm.party_lapsed", party.name)
    counter = records.counter_of(opened.core.id)
    if counter is None:
        raise Refused("answer.request", opened.core.id.hex())
    digest = answers.answer_hash(data)
    before = records.vote(counter, index)
    if before is not None:
        return _again(records, context, counter, index, before, opened.core, data)
    record = records.request(counter)
    _check_context(records, context, party, record, opened)
    terms, asked = _asked(records, counter)
    judge_core(opened.core, asked, terms=terms, signer=signer_of(party.signing_key))
    records.put_vote(
        counter,
        index,
        Vote(opened.core.digest(), opened.core.agreement(), digest, len(data), refusal=opened.core.refusal is not None),
    )
    records.put_answer(digest, data)
    _pin_manifest(records, index, party, opened)
    return _tally(records, context, counter, record, opened.core)


def _again(
    records: Records, context: Context, counter: int, index: int, before: Vote, core: Core, data: bytes
) -> str:
    """A party that has voted speaks again: the same is fine at any time, anything else is evidence against it."""
    if before.void:
        raise ContractRefusal("fhevm.vote_void", f"party {index}")
    if core.digest() == before.core:
        record = records.request(counter)
        # Counted anew, because a party that had lapsed may have registered again.
        return _tally(records, context, counter, record, core) if record.state == layout.PENDING else COUNTED
    digest = answers.answer_hash(data)
    records.put_vote(counter, index, replace(before, void=True))
    records.put_answer(digest, data)
    found = Equivocation(counter, core.id, index, before.answer, digest)
    records.collection(layout.EQUIVOCATIONS).append(found.encode())
    return EQUIVOCATION


def _check_context(
    records: Records, context: Context, party: PartyRecord, record: RequestRecord, opened: Answer
) -> None:
    said = opened.context
    if said.configuration != party.configuration:
        raise ContractRefusal("fhevm.answer_configuration", party.name)
    if record.state != layout.PENDING:
        raise ContractRefusal("fhevm.answer_late", record.state)
    # The request is proven under the header after its block, at the earliest.
    if not record.height < said.head_height < context.height:
        raise ContractRefusal("fhevm.answer_head", f"head {said.head_height}, request {record.height}")
    known = records.index("hashes").get(number(said.head_height))
    if known is not None and known != said.head_hash:
        raise ContractRefusal("fhevm.answer_fork", f"head {said.head_height}")
    serial, digest = said.manifest
    if serial == party.manifest_serial and digest != party.manifest:
        raise ContractRefusal("fhevm.manifest", f"{serial}, another digest")


def _asked(records: Records, counter: int) -> tuple[KeyTerms, request.Request]:
    body = records.index("bodies").get(number(counter))
    assert body is not None  # it is dropped only some time after the request is finished
    asked = request.decode(body)
    if isinstance(asked, Keygen):
        return statement_of(records, asked)[1], asked
    key = records.key(asked.key_id)
    assert key is not None  # keys are never forgotten; the enclaves say whether a retired one still serves
    return key.terms, asked


def _pin_manifest(records: Records, index: int, party: PartyRecord, opened: Answer) -> None:
    serial, digest = opened.context.manifest
    if serial > party.manifest_serial:
        records.put_party(index, replace(party, manifest_serial=serial, manifest=digest))


def _tally(records: Records, context: Context, counter: int, record: RequestRecord, core: Core) -> str:
    """Final once enough parties that may still vote agree with this core."""
    agreement = core.agreement()
    agreed = [
        (index, vote)
        for index, vote in records.votes(counter)
        if vote.agreement == agreement and not vote.void and _registered(records, index)
    ]
    if len(agreed) < records.genesis()[0].answers:
        return COUNTED
    state = layout.FINAL if core.refusal is None else layout.REFUSED
    final = replace(
        record, state=state, agreement=agreement, answers=tuple((index, vote.answer) for index, vote in agreed)
    )
    if core.operation == request.KEYGEN and state == layout.FINAL:
        _, asked = _asked(records, counter)
        assert isinstance(asked, Keygen)
        serial, terms = statement_of(records, asked)
        records.add_key(record.id, KeyRow(counter, serial, terms))
    rows = [[index, vote.answer, vote.size] for index, vote in agreed]
    records.index("answers").put(number(counter), cbor.encode(rows))
    close(records, context.height, counter, final)
    return FINAL


def _registered(records: Records, index: int) -> bool:
    party = records.party(index)
    return party is not None and party.registration is not None
