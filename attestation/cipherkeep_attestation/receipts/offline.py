"""The only place that judges a receipt to its end, with nothing but the receipt and what its reader trusts.

    trust root ─► headers ─► control leaf: all decisions of the governors
        ├─► the key's generation, as they decided it ─► the request and its answers
        └─► each party that answered: its registration ─► document under the named root ─► image and configuration,
            which the governors released and admitted

Which decisions held at the time of an answer no header says, since statements are counted and not dated. The ones that
stand under the last header are taken, or as many of them as the caller names.

The header's age is the caller's business (`Trust.max_age`): what was final stays final. Documents are judged at the
time of the block that took the registration in, as the chain itself judged them, over the hash of a block that the
headers confirm. What was answered before a party registered anew says so: see `Audited.registered_later`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cipherkeep_attestation.chain.light import LightClient
from cipherkeep_attestation.chain.state import verify_present
from cipherkeep_attestation.errors import Refused, Untrusted
from cipherkeep_attestation.nitro.verify import Attestation, Measurements, TrustRoot
from cipherkeep_attestation.receipts.judging import Key, Trust, Verified, Voucher, lead, verify_answer, verify_key
from cipherkeep_attestation.receipts.receipt import Receipt, Registered
from cipherkeep_attestation.statements import layout, registration, request
from cipherkeep_attestation.statements.binding import verify_binding
from cipherkeep_attestation.statements.configuration import Configuration, Genesis
from cipherkeep_attestation.statements.decisions import Decisions, decide
from cipherkeep_attestation.statements.governance import KeyTerms, Releases
from cipherkeep_attestation.statements.layout import Control, PartyRecord
from cipherkeep_attestation.trace import Trace

PLAN: Mapping[str, str] = {
    "encoding.schema": "The receipt is one well-formed file.",
    "configuration.genesis": "The instance's genesis parameters are those that you trust.",
    "lightclient.root": "The first block is your trust root.",
    "lightclient.quorum": "Validators with more than two thirds of the power signed every header in the receipt.",
    "receipt.old_header": "The last header is not older than you accept.",
    "governance.quorum": "Enough governors of the instance signed every statement.",
    "governance.log": "The statements are all that the state counts, none left out.",
    "receipt.not_a_key": "The key was generated as the governors decided.",
    "proof.root": "The request's record stands in the state under the last header.",
    "receipt.body": "The request's bytes are those of the record.",
    "receipt.id": "The request's id binds chain, instance, counter and content.",
    "receipt.not_answered": "The request is answered.",
    "receipt.party": "Every party that answered has a record in the state.",
    "receipt.answer": "Every answer is the one that the record counts, and is about this request and its ciphertexts.",
    "cose.signature": "Every answer is signed with its party's evidence key.",
    "receipt.agreement": "The answers agree with each other and with the record.",
    "receipt.typed_data": "The typed data for contracts and users is signed with each party's registered key.",
    "receipt.head": "Every answer names a header after the request that is among those shown.",
    "receipt.quorum": "As many parties answered as the instance demands.",
    "binding.quorum": "Enough coprocessors signed which ciphertext each handle stands for.",
    "receipt.registration": "Every party's registration is the one that its record pins.",
    "registration.block": "The registration names a block of this chain that was recent.",
    "document.signature": "The registration's attestation document holds under the root that you named.",
    "document.pcr_mismatch": "The image is one of those that the governors released.",
    "registration.user_data": "The document vouches for the party's keys.",
    "receipt.admission": "The governors admitted the party with this configuration, and with its root for enclaves.",
    "registration.configuration": "PCR16 is that of the configuration, which names this chain, instance and party.",
    "receipt.configuration": "The answer was given under that configuration.",
    "receipt.policy": "The image is one that your own policy names.",
}


@dataclass(frozen=True, slots=True)
class Holder:
    """A party that signed the answer, and what held its keys when it registered."""

    voucher: Voucher
    attestation: Attestation
    configuration: Configuration
    release: str  # the governors' name of the image
    registered: int  # height of the block that took the registration in


@dataclass(frozen=True, slots=True)
class Audited:
    """A receipt, judged."""

    verified: Verified
    terms: KeyTerms
    key_id: bytes
    holders: tuple[Holder, ...]
    decisions: Decisions  # by which it was judged
    statements: int  # how many stand under the last header
    fork: bytes | None  # that was proven to the chain by then, and not lifted

    @property
    def registered_later(self) -> tuple[str, ...]:
        """Parties whose registration is younger than the head under which they answered.

        Their keys are the same, but which image used them for this answer is not shown.
        """
        return tuple(item.voucher.name for item in self.holders if item.registered > item.voucher.head_height)


def audit(
    receipt: Receipt,
    *,
    trust: Trust,
    enclave_root: TrustRoot,
    measurements: tuple[Measurements, ...] | None,
    now: datetime,
    decided: int | None = None,
    trace: Trace | None = None,
) -> Audited:
    """Judge a receipt. Raises an `EvidenceError` unless every rule holds.

    `measurements`: the images that the reader accepts, None where the governors' releases are enough for him.
    `decided`: judge by the decisions up to this serial number, for an answer that is older than later ones; None for
    all that stand under the last header.
    """
    trace = trace or Trace()
    trace.passes("encoding.schema", "configuration.genesis")
    client = lead(trust.root, receipt.blocks, now=now)
    decisions = _decisions(receipt, trust, client, decided)
    trace.passes("governance.quorum", "governance.log")
    key = _key(receipt, trust, now)
    if hashlib.sha256(_statement_of(key)).digest() not in decisions.keygens:
        raise Refused("receipt.not_a_key", "its statement is none of those decided")
    trace.passes("receipt.not_a_key")
    if trust.max_age is None:
        trace.waives("receipt.old_header", "what was final stays final")
    verified = verify_answer(receipt.request, trust=trust, terms=key.terms, now=now, trace=trace)
    if trust.max_age is None:
        trace.passed.pop("receipt.old_header", None)
    for voucher in (*key.generation.vouchers, *verified.vouchers):
        _check_head(client, voucher)
    trace.passes("receipt.head")
    _bindings(verified, key, decisions, trace)
    holders = tuple(_holder(client, receipt, voucher, trust, decisions, enclave_root) for voucher in verified.vouchers)
    trace.passes("receipt.registration", "registration.block", "document.signature", "document.pcr_mismatch")
    trace.passes("registration.user_data", "registration.configuration", "receipt.configuration", "receipt.admission")
    _policy(holders, measurements, trace)
    fork = Control.decode(receipt.control.value).fork
    return Audited(verified, key.terms, key.id, holders, decisions, len(receipt.statements), fork)


def genesis_of(receipt: Receipt, digest: bytes) -> Genesis:
    """The genesis parameters with this SHA-256, from the configurations in the receipt.

    `Refused("configuration.genesis")` when none of them brings it.
    """
    for item in receipt.registrations:
        claims = registration.read(item.registration).claims
        genesis = Configuration.decode(claims.configuration).genesis
        if genesis.digest() == digest:
            return genesis
    raise Refused("configuration.genesis", digest.hex())


def _decisions(receipt: Receipt, trust: Trust, client: LightClient, decided: int | None) -> Decisions:
    """What the governors decided: all statements that the control leaf under the last header counts, then as many."""
    shown = receipt.control
    verify_present(
        client.head.app_hash,
        instance=trust.instance,
        collection=layout.CONTROL,
        key=layout.CONTROL_KEY,
        value=shown.value,
        proof=shown.proof,
    )
    count = len(receipt.statements)
    upto = count if decided is None else decided
    if decided is not None and not 1 <= decided <= count:
        raise Refused("receipt.decided", f"{decided} of {count}")
    decisions = decide(receipt.statements[:upto], instance=trust.instance, genesis=trust.genesis)
    every = decide(receipt.statements[upto:], instance=trust.instance, genesis=trust.genesis, since=decisions)
    leaf = Control.decode(shown.value)
    if not leaf.counts(every.control):
        raise Untrusted("governance.log", f"leaf {leaf.serial}, shown {every.control.serial}")
    return decisions


def _check_head(client: LightClient, voucher: Voucher) -> None:
    """The header under which an enclave answered is of this chain: were it of a fork, the answer would show it."""
    try:
        header = client.header_at(voucher.head_height)
    except Refused:
        raise Refused("receipt.head", f"{voucher.name}: header {voucher.head_height} is not shown") from None
    if header.hash() != voucher.head_hash:
        raise Untrusted("receipt.fork", f"{voucher.name}: {voucher.head_hash.hex()} at {voucher.head_height}")


def _key(receipt: Receipt, trust: Trust, now: datetime) -> Key:
    return verify_key(receipt.request if receipt.key is None else receipt.key, trust=trust, now=now)


def _statement_of(key: Key) -> bytes:
    asked = key.generation.asked
    assert isinstance(asked, request.Keygen)  # `verify_key` has looked
    return asked.statement


def _bindings(verified: Verified, key: Key, decisions: Decisions, trace: Trace) -> None:
    asked = verified.asked
    if isinstance(asked, request.Keygen):
        trace.waives("binding.quorum", "a key generation is about no ciphertext")
        return
    if asked.key_id != key.id:
        raise Refused("receipt.not_a_key", "another key's generation")
    if verified.core.refusal is not None:
        trace.waives("binding.quorum", "the request was refused, and nothing was decrypted")
        return
    for item in asked.ciphertexts:
        verify_binding(item, key_id=key.id, domain=key.terms.bindings(), coprocessors=decisions.coprocessors)
    trace.passes("binding.quorum")


def _holder(
    client: LightClient,
    receipt: Receipt,
    voucher: Voucher,
    trust: Trust,
    decisions: Decisions,
    enclave_root: TrustRoot,
) -> Holder:
    """Who held the keys of a party that signed, as its registration shows."""
    shown = next(item for item in receipt.request.parties if item.key == voucher.party)
    record = PartyRecord.decode(shown.value)
    found = next((item for item in receipt.registrations if item.party == voucher.party), None)
    if found is None:
        raise Refused("receipt.registration", f"{voucher.name}: none in the receipt")
    if record.registration != hashlib.sha256(found.registration).digest():
        lapsed = "lapsed: the image was dropped" if record.registration is None else "another"
        raise Refused("receipt.registration", f"{voucher.name}: {lapsed}")
    attestation, configuration = _registration(client, found, trust, decisions.releases, enclave_root)
    claims = registration.read(found.registration).claims
    if (claims.evidence_key, claims.signing_key, claims.party) != (
        record.evidence_key,
        record.signing_key,
        record.name,
    ):
        raise Refused("receipt.registration", f"{voucher.name}: other keys")
    if configuration.digest() != voucher.configuration:
        raise Refused("receipt.configuration", f"{voucher.name}: {voucher.configuration.hex()}")
    if decisions.index_of(record.name, configuration.digest()) != voucher.party:
        raise Untrusted("receipt.admission", f"{voucher.name} with {configuration.digest().hex()}")
    if configuration.enclave_root not in trust.genesis.enclave_roots:
        raise Untrusted("receipt.admission", f"{voucher.name}: its root for enclaves is not one of the instance")
    return Holder(voucher, attestation, configuration, _release(attestation, decisions.releases), found.height)


def _registration(
    client: LightClient, found: Registered, trust: Trust, releases: Releases | None, enclave_root: TrustRoot
) -> tuple[Attestation, Configuration]:
    """As the contract judged it: over the hash of a recent block, at the time of the block that took it in."""
    claims = registration.read(found.registration).claims
    if not found.height - registration.BLOCKS <= claims.block_height < found.height:
        raise Refused("registration.block", f"{claims.block_height}, in block {found.height}")
    _, attestation = registration.verify(
        found.registration,
        instance=trust.instance,
        genesis=trust.genesis.digest(),
        releases=releases,
        roots=(enclave_root.certificate_der,),
        block_hash=client.header_at(claims.block_height).hash(),
        block_time=client.header_at(found.height).time.datetime,
    )
    configuration = Configuration.decode(claims.configuration)
    if configuration.root != trust.root:
        raise Refused("registration.configuration", "another chain")
    return attestation, configuration


def _release(attestation: Attestation, releases: Releases | None) -> str:
    pcrs = attestation.pcrs
    listed = () if releases is None else releases.releases
    return next((item.name for item in listed if (item.pcr0, item.pcr1, item.pcr2) == (pcrs[0], pcrs[1], pcrs[2])), "")


def _policy(holders: tuple[Holder, ...], measurements: tuple[Measurements, ...] | None, trace: Trace) -> None:
    if measurements is None:
        trace.waives("receipt.policy", "the governors' releases count; name a policy to demand your own images")
        return
    for holder in holders:
        if not any(_allows(entry, holder.attestation) for entry in measurements):
            raise Refused("receipt.policy", holder.voucher.name)
    trace.passes("receipt.policy")


def _allows(entry: Measurements, attestation: Attestation) -> bool:
    at = attestation.timestamp
    in_window = (entry.not_before is None or at >= entry.not_before) and (
        entry.not_after is None or at < entry.not_after
    )
    return in_window and all(attestation.pcrs.get(index) == value for index, value in entry.pcrs.items())
