"""The only place that judges, from evidence alone, what a node says about requests and keys.

What a verifier knows beforehand is a `Trust`: the hash of the chain's first header, the instance's name and its genesis
parameters. Everything else is shown:

    light blocks ──► app hash of a header
        ├── record of the request: its digest gives the request's bytes, its id binds them, its state is final
        └── record of each party that answered: the keys that signed
    answers: signed by those keys, agreeing with what the record says, and their results signed as typed data

A key is an answered key generation whose statement the governors signed. Whatever does not hold raises
`EvidenceError`, whose code names the rule.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cipherkeep_attestation import cbor
from cipherkeep_attestation.chain.header import Header, LightBlock
from cipherkeep_attestation.chain.light import LightClient, LightRoot
from cipherkeep_attestation.chain.state import StateProof, verify_present
from cipherkeep_attestation.errors import Refused, Stale, Untrusted
from cipherkeep_attestation.statements import answer as answers
from cipherkeep_attestation.statements import eip712, fhevm, governance, layout, material, registration, request
from cipherkeep_attestation.statements.answer import Answer, Core
from cipherkeep_attestation.statements.configuration import Genesis
from cipherkeep_attestation.statements.governance import KeyTerms
from cipherkeep_attestation.statements.layout import PartyRecord, RequestRecord
from cipherkeep_attestation.statements.material import GeneratedKey, Material
from cipherkeep_attestation.trace import Trace

# Long, because safety comes from two thirds of both sets and from `max_age`, which is judged on the last header.
_TRUSTING_PERIOD = timedelta(days=3650)
_CLOCK_DRIFT = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Trust:
    """What is known beforehand. `root` is header 1: ids bind its hash.

    `max_age`: how old the last header may be; None for archived evidence, which shows what was final at its time.
    """

    root: LightRoot
    instance: str
    genesis: Genesis
    max_age: timedelta | None


@dataclass(frozen=True, slots=True)
class Shown:
    """A value at a key of a collection, with its proof."""

    key: int
    value: bytes
    proof: StateProof


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is shown about one request. `blocks` lead from the root to the header that all of it is proven under."""

    blocks: tuple[LightBlock, ...]
    record: Shown
    body: bytes
    answers: tuple[tuple[int, bytes], ...]
    parties: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class Voucher:
    """A party that signed the answer: who it is on the chain, and under which circumstances it signed."""

    party: int
    name: str
    evidence_key: bytes
    signer: bytes  # address of its secp256k1 key
    answer_hash: bytes
    head_height: int  # of the header under which the enclave answered
    head_hash: bytes
    configuration: bytes  # SHA-384 of the configuration it registered with
    measurements: bytes | None  # SHA-256 over dCBOR {0: PCR0, 1: PCR1, 2: PCR2} of its registration
    typed_data: str  # whose typed data its key signed: the struct's name, empty for refusals


@dataclass(frozen=True, slots=True)
class Verified:
    """A request and its agreed answer, verified."""

    id: bytes
    counter: int
    height: int  # of the block with the request
    header: Header  # under which everything was proven
    header_hash: bytes
    asked: request.Request
    core: Core
    answer: bytes  # signed, of the first party
    vouchers: tuple[Voucher, ...]

    @property
    def values(self) -> tuple[tuple[bytes, str, int], ...]:
        """(handle, type, value) of a public decryption, in the request's order; empty otherwise."""
        if not isinstance(self.asked, request.PublicDecrypt) or self.core.result is None:
            return ()
        words: bytes = self.core.result["decrypted"]
        return tuple(
            (item.handle, fhevm.type_name(item.fhe_type), int.from_bytes(words[32 * at : 32 * at + 32], "big"))
            for at, item in enumerate(self.asked.ciphertexts)
        )


@dataclass(frozen=True, slots=True)
class Key:
    """A key, verified: what it is for, and where its public material is."""

    id: bytes
    terms: KeyTerms
    material: tuple[Material, ...]
    generation: Verified

    def piece(self, kind: str) -> Material:
        """The material of a kind. `Refused("receipt.material")` when there is none."""
        for item in self.material:
            if item.kind == kind:
                return item
        raise Refused("receipt.material", kind)


def lead(root: LightRoot, blocks: Sequence[LightBlock], *, now: datetime) -> LightClient:
    """A light client that blocks have led from the root on, over heights that are left out; it knows their headers."""
    if not blocks:
        raise Refused("receipt.no_header")
    client = LightClient(root, trusting_period=_TRUSTING_PERIOD, clock_drift=_CLOCK_DRIFT, skipping=True)
    client.anchor(blocks[0], now=now)
    for block in blocks[1:]:
        client.step(block, now=now)
    return client


def follow(trust: Trust, blocks: Sequence[LightBlock], *, now: datetime) -> tuple[Header, bytes]:
    """The last header of blocks that lead from the root on, and its hash. `Stale` when it is too old at `now`."""
    client = lead(trust.root, blocks, now=now)
    if trust.max_age is not None and now - client.head.time.datetime > trust.max_age:
        raise Stale("receipt.old_header", f"{client.head.time.datetime:%Y-%m-%d %H:%M:%S}Z")
    return client.head, client.head_hash


def verify_request(
    evidence: Evidence, *, trust: Trust, now: datetime, trace: Trace | None = None
) -> tuple[Header, bytes, RequestRecord]:
    """The header, its hash, and the request's record as it stands under it, whatever its state."""
    trace = trace or Trace()
    header, digest = follow(trust, evidence.blocks, now=now)
    trace.passes("lightclient.root", "lightclient.quorum", "receipt.old_header")
    record = _record(header, evidence, trust)
    trace.passes("proof.root", "receipt.body", "receipt.id")
    return header, digest, record


def verify_answer(
    evidence: Evidence, *, trust: Trust, terms: KeyTerms | None, now: datetime, trace: Trace | None = None
) -> Verified:
    """The request is answered, and by whom. `terms` are the key's (None for a key generation, which brings its own).

    Order: headers, record, id and body, state, then for each answer: hash, party, signature, agreement, typed data; in
    the end, that there are enough.
    """
    trace = trace or Trace()
    header, digest, record = verify_request(evidence, trust=trust, now=now, trace=trace)
    asked = request.decode(evidence.body)
    if record.state not in (layout.FINAL, layout.REFUSED) or record.agreement is None:
        raise Refused("receipt.not_answered", record.state)
    trace.passes("receipt.not_answered")
    if isinstance(asked, request.Keygen):
        terms = _statement(asked, trust)
    if terms is None:
        raise ValueError("a decryption is judged under the terms of its key")
    shown = dict(evidence.answers)
    parties = {item.key: item for item in evidence.parties}
    vouchers: list[Voucher] = []
    core: Core | None = None
    first = b""
    for index, answer_hash in record.answers:
        data = shown.get(index, b"")
        if answers.answer_hash(data) != answer_hash:
            raise Refused("receipt.answer", f"party {index}")
        party = _party(header, parties.get(index), index, trust)
        opened, voucher = _vouch(data, index, party, header=header, record=record, asked=asked, terms=terms)
        vouchers.append(voucher)
        core, first = core or opened.core, first or data
    # The record says who agreed; that they were enough for this instance, and that many, is judged here once more.
    keys = {voucher.evidence_key for voucher in vouchers}
    if len({voucher.party for voucher in vouchers}) != len(vouchers) or len(keys) != len(vouchers):
        raise Untrusted("receipt.quorum", "one party counts twice")
    if core is None or len(vouchers) < trust.genesis.answers:
        raise Untrusted("receipt.quorum", f"{len(vouchers)} of {trust.genesis.answers}")
    trace.passes("receipt.answer", "receipt.party", "cose.signature", "receipt.agreement", "receipt.typed_data")
    trace.passes("receipt.quorum", detail=f"{len(vouchers)} of {trust.genesis.answers}")
    return Verified(record.id, evidence.record.key, record.height, header, digest, asked, core, first, tuple(vouchers))


def verify_key(evidence: Evidence, *, trust: Trust, now: datetime) -> Key:
    """A key: generated as the governors signed, and answered by the parties."""
    if not isinstance(request.decode(evidence.body), request.Keygen):
        raise Refused("receipt.not_a_key", "another operation")
    verified = verify_answer(evidence, trust=trust, terms=None, now=now)
    asked, core = verified.asked, verified.core
    if not isinstance(asked, request.Keygen) or core.result is None:
        raise Refused("receipt.not_a_key", core.refusal or core.operation)
    found = GeneratedKey.of_map(core.result)
    terms = _statement(asked, trust)
    if found.parameters != terms.parameters:
        raise Refused("receipt.not_a_key", found.parameters)
    return Key(verified.id, terms, found.material, verified)


def _record(header: Header, evidence: Evidence, trust: Trust) -> RequestRecord:
    shown = evidence.record
    verify_present(
        header.app_hash,
        instance=trust.instance,
        collection=layout.REQUESTS,
        key=shown.key,
        value=shown.value,
        proof=shown.proof,
    )
    record = RequestRecord.decode(shown.value)
    if request.request_digest(evidence.body) != record.digest:
        raise Refused("receipt.body")
    identity = request.request_id(
        first_header=trust.root.header_hash, instance=trust.instance, counter=shown.key, digest=record.digest
    )
    if identity != record.id:
        raise Refused("receipt.id")
    return record


def _party(header: Header, shown: Shown | None, index: int, trust: Trust) -> PartyRecord:
    if shown is None:
        raise Refused("receipt.party", f"party {index}")
    verify_present(
        header.app_hash,
        instance=trust.instance,
        collection=layout.PARTIES,
        key=index,
        value=shown.value,
        proof=shown.proof,
    )
    return PartyRecord.decode(shown.value)


def _vouch(
    data: bytes,
    index: int,
    party: PartyRecord,
    *,
    header: Header,
    record: RequestRecord,
    asked: request.Request,
    terms: KeyTerms,
) -> tuple[Answer, Voucher]:
    if party.evidence_key is None or party.signing_key is None:
        raise Refused("receipt.party", f"party {index} never registered")
    opened = Answer.open(data, evidence_key=party.evidence_key)
    core, context = opened.core, opened.context
    if context.party != index or core.id != record.id or core.operation != record.operation:
        raise Refused("receipt.answer", f"party {index} answers something else")
    if core.agreement() != record.agreement:
        raise Refused("receipt.agreement", f"party {index}")
    if not record.height < context.head_height < header.height:
        raise Refused("receipt.head", f"party {index}: {context.head_height}, asked at {record.height}")
    signer = registration.signer_of(party.signing_key)
    voucher = Voucher(
        party=index,
        name=party.name,
        evidence_key=party.evidence_key,
        signer=signer,
        answer_hash=answers.answer_hash(data),
        head_height=context.head_height,
        head_hash=context.head_hash,
        configuration=context.configuration,
        measurements=party.measurements,
        typed_data=_typed_data(core, asked, terms, signer),
    )
    return opened, voucher


def _typed_data(core: Core, asked: request.Request, terms: KeyTerms, signer: bytes) -> str:
    """The name of the struct that `signer` signed; empty for a refusal, which nobody signs as typed data."""
    if core.result is None:
        return ""
    key_id, ciphertexts = (core.id, ()) if isinstance(asked, request.Keygen) else (asked.key_id, asked.ciphertexts)
    if core.key_id != key_id or core.digests != tuple(item.digest for item in ciphertexts):
        raise Refused("receipt.answer", "the answer is about other ciphertexts")
    handles = [item.handle for item in ciphertexts]
    signature = cbor.fields(core.signatures, eip712=cbor.raw(eip712.SIGNATURE_LENGTH))["eip712"]
    if isinstance(asked, request.Keygen):
        name = material.TYPED_DATA
        preparation = hashlib.sha256(asked.statement).digest()
        struct = GeneratedKey.of_map(core.result).struct_hash(preparation=preparation, key_id=core.id)
    elif isinstance(asked, request.PublicDecrypt):
        name = "PublicDecryptVerification"
        words = cbor.fields(core.result, decrypted=cbor.raw(32 * len(handles)))["decrypted"]
        struct = fhevm.public_decryption(handles, words, asked.extra_data)
    else:
        name = "UserDecryptResponseVerification"
        payload = cbor.fields(core.result, payload=cbor.raw(1, answers.MAX_RESULT))["payload"]
        extra_data = fhevm.answered_extra_data(asked.extra_data)
        struct = fhevm.user_decryption_response(asked.public_key, handles, payload, extra_data)
    if eip712.recover(terms.decryption.digest(struct), signature) != signer:
        raise Untrusted("receipt.typed_data", name)
    return name


def _statement(asked: request.Keygen, trust: Trust) -> KeyTerms:
    statement = governance.verify(
        asked.statement,
        governors=trust.genesis.governors,
        instance=trust.instance,
        genesis=trust.genesis.digest(),
    )
    if statement.kind != governance.KEYGEN:
        raise Refused("receipt.not_a_key", statement.kind)
    terms: KeyTerms = statement.content()
    return terms
