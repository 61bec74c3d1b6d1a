"""The only place where answers become votes, and votes make a request final.

Each answer of a message is judged alone; one that does not hold gets its code as verdict and changes nothing. One vote
per party: the same core again is fine, another result is equivocation, which is kept as evidence and voids the vote.
Results follow from the request alone. Refusals do not: an enclave judges by what holds at its head, so that an honest
one that is asked again after a key's retirement refuses what it answered before. Its first vote stands.
"""

from __future__ import annotations

from dataclasses import replace

from cipherkeep_attestation import cbor, cose
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

COUNTED, FINAL, LATE, EQUIVOCATION = "counted", "final", "fhevm.answer_late", "fhevm.equivocation"


def answer(state: ContractState, context: Context, body: Body) -> bytes:
    """Judge every answer of a message, in order; the verdicts."""
    records = Records(state)
    verdicts: list[list[bytes | str | None]] = []
    for data in _answers(body):
        identity: bytes | None = None
        try:
            claimed = answers.unverified(data)
            identity = claimed.core.id
            verdict = _judge(records, context, data, claimed)
        except (ContractRefusal, EvidenceError) as refusal:
            # Raised before anything is written: see `_judge`.
            verdict = refusal.code
        verdicts.append([identity, verdict])
    return cbor.encode(verdicts)


def _answers(body: Body) -> tuple[bytes, ...]:
    reader = cbor.sequence(cbor.raw(1, answers.MAX_ANSWER), LIMITS.answers, least=1)
    found: tuple[bytes, ...] = cbor.fields(dict(body), answers=reader)["answers"]
    return found


def _judge(records: Records, context: Context, data: bytes, opened: Answer) -> str:
    """The verdict on one answer, which was read from `data`. All refusals come first, then all writes."""
    index = opened.context.party
    party = _voter(records, opened, data)
    counter = records.counter_of(opened.core.id)
    if counter is None:
        raise Refused("answer.request", opened.core.id.hex())
    record, before = records.request(counter), records.vote(counter, index)
    changed_its_mind = before is not None and (before.refusal or opened.core.refusal is not None)
    if before is not None and (before.void or (before.core != opened.core.digest() and not changed_its_mind)):
        return _contradicted(records, counter, index, before, opened.core, data)
    _check_enclave(party, opened)
    if before is None and record.state == layout.PENDING:
        _check_head(records, context, record, opened)
        terms, asked = _asked(records, counter)
        assert party.signing_key is not None  # registered together with the evidence key
        judge_core(opened.core, asked, terms=terms, signer=signer_of(party.signing_key))
        _cast(records, counter, index, opened.core, data)
    _pin_manifest(records, index, party, opened)
    if record.state == layout.PENDING:
        # Counted anew also when the vote stood before: a party that had lapsed may have registered again.
        return _tally(records, context, counter, record, opened.core)
    return COUNTED if before is not None else LATE


def _voter(records: Records, opened: Answer, data: bytes) -> PartyRecord:
    """The party that signed this answer and may vote."""
    party = records.party(opened.context.party)
    if party is None or party.evidence_key is None:
        raise Refused("answer.party", f"party {opened.context.party}")
    # The signed payload is what `opened` was read from: verified here, and not read a second time.
    cose.open1(data, public_key=party.evidence_key, limit=answers.MAX_ANSWER)
    if party.registration is None:
        raise ContractRefusal("fhevm.party_lapsed", party.name)
    return party


def check(state: ContractState, body: Body) -> None:
    """Before a message enters the pool: at least one of its answers is signed by a party that may vote."""
    records = Records(state)
    refusal: ContractRefusal | EvidenceError | None = None
    for data in _answers(body):
        try:
            _voter(records, answers.unverified(data), data)
        except (ContractRefusal, EvidenceError) as caught:
            refusal = refusal or caught
        else:
            return
    assert refusal is not None
    raise refusal


def _contradicted(records: Records, counter: int, index: int, before: Vote, core: Core, data: bytes) -> str:
    """A party that has voted says something else: evidence against it, at any time; once is enough."""
    if before.void:
        raise ContractRefusal("fhevm.vote_void", f"party {index}")
    digest = answers.answer_hash(data)
    records.put_vote(counter, index, replace(before, void=True))
    records.put_answer(digest, data)
    found = Equivocation(counter, core.id, index, before.answer, digest)
    records.collection(layout.EQUIVOCATIONS).append(found.encode())
    return EQUIVOCATION


def _check_enclave(party: PartyRecord, opened: Answer) -> None:
    """The enclave runs under the registered configuration, and its vault is no second copy."""
    if opened.context.configuration != party.configuration:
        raise ContractRefusal("fhevm.answer_configuration", party.name)
    serial, digest = opened.context.manifest
    if serial == party.manifest_serial and digest != party.manifest:
        raise ContractRefusal("fhevm.manifest", f"{serial}, another digest")


def _check_head(records: Records, context: Context, record: RequestRecord, opened: Answer) -> None:
    """The answer's head is a header of this chain under which the request can have been proven."""
    said = opened.context
    # The request is proven under the header after its block, at the earliest.
    if not record.height < said.head_height < context.height:
        raise ContractRefusal("fhevm.answer_head", f"head {said.head_height}, request {record.height}")
    known = records.index("hashes").get(number(said.head_height))
    if known is not None and known != said.head_hash:
        raise ContractRefusal("fhevm.answer_fork", f"head {said.head_height}")


def _cast(records: Records, counter: int, index: int, core: Core, data: bytes) -> None:
    digest = answers.answer_hash(data)
    vote = Vote(core.digest(), core.agreement(), digest, len(data), refusal=core.refusal is not None)
    records.put_vote(counter, index, vote)
    records.put_answer(digest, data)


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
    """The record follows the vault, also where the answer itself came too late: the vault has changed by then."""
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
