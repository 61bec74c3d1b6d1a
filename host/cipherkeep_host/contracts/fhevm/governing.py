"""The only place where governance statements take effect on the chain.

The enclave draws the same conclusions from the same statements; here they protect queues and tell who may vote.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Untrusted
from cipherkeep_attestation.statements import governance, layout
from cipherkeep_attestation.statements.configuration import Genesis
from cipherkeep_attestation.statements.governance import KeyTerms, Releases, Statement
from cipherkeep_attestation.statements.layout import PartyRecord
from cipherkeep_attestation.statements.registration import measurements_digest

from cipherkeep_host.contracts.fhevm.limits import LIMITS
from cipherkeep_host.contracts.fhevm.records import COPROCESSORS, KEYGENS, RELEASES, Records, number
from cipherkeep_host.contracts.interface import Body, ContractRefusal, ContractState


def govern(state: ContractState, body: Body) -> bytes:
    """Take the next statement in. Every refusal comes before the first write."""
    records = Records(state)
    data = _statement(body)
    control = records.control()
    genesis, digest = records.genesis()
    statement = governance.verify(
        data,
        governors=genesis.governors,
        instance=state.instance,
        genesis=digest,
        serial=control.serial + 1,
    )
    _take_effect(records, genesis, statement)
    records.collection(layout.STATEMENTS).put(statement.serial, data)
    records.index("statements").put(hashlib.sha256(data).digest(), number(statement.serial))
    after = control.after(data)
    if statement.kind == governance.LIFT_FREEZE and statement.content()["conflict"] == control.fork:
        after = replace(after, fork=None)
    records.collection(layout.CONTROL).put(layout.CONTROL_KEY, after.encode())
    return cbor.encode({"serial": statement.serial})


def _take_effect(records: Records, genesis: Genesis, statement: Statement) -> None:
    content = statement.content()
    match statement.kind:
        case governance.SET_COPROCESSORS:
            records.index("policy").put(COPROCESSORS, cbor.encode(content.to_map()))
        case governance.SET_RELEASES:
            records.index("policy").put(RELEASES, cbor.encode(content.to_map()))
            _lapse(records, content)
        case governance.ADMIT_PARTY:
            _admit(records, content["name"], content["configuration"])
        case governance.KEYGEN:
            _expect_key(records, genesis, content)
        case governance.RETIRE_KEY:
            _retire(records, content["key_id"])
        case governance.LIFT_FREEZE:
            pass  # for enclaves, and for the control leaf where the chain has noted the fork: see `govern`


def _expect_key(records: Records, genesis: Genesis, terms: KeyTerms) -> None:
    """The key's authorisers are allowed in this instance, and there is room: a statement makes at most one key."""
    if terms.public_decrypt == governance.INSECURE_ALLOW_ALL and not genesis.insecure_allow_all:
        raise ContractRefusal("fhevm.authoriser", terms.public_decrypt)
    expected = records.count(KEYGENS)
    if expected >= LIMITS.keys:
        raise ContractRefusal("fhevm.keys_full", f"{LIMITS.keys}")
    records.set_count(KEYGENS, expected + 1)


def check(state: ContractState, body: Body) -> None:
    """Before a message enters the pool: governors have signed it, and its number is still to come."""
    records = Records(state)
    genesis, digest = records.genesis()
    found = governance.verify(_statement(body), governors=genesis.governors, instance=state.instance, genesis=digest)
    if found.serial <= records.control().serial:
        raise Untrusted("governance.serial", f"{found.serial} is in force")


def _statement(body: Body) -> bytes:
    data: bytes = cbor.fields(dict(body), statement=cbor.raw(1, governance.MAX_STATEMENT))["statement"]
    return data


def _lapse(records: Records, releases: Releases) -> None:
    """Registrations of images that are no longer listed lapse. Keys and measurements stay, as evidence."""
    listed = [measurements_digest({0: item.pcr0, 1: item.pcr1, 2: item.pcr2}) for item in releases.releases]
    for index, data in records.collection(layout.PARTIES).items(limit=LIMITS.parties):
        record = PartyRecord.decode(data)
        if record.registration is not None and record.measurements not in listed:
            records.put_party(index, replace(record, registration=None))


def _admit(records: Records, name: str, configuration: bytes) -> None:
    """A new party, or a known one with another configuration: then its keys and its index stay, and its registration
    lapses until an enclave that was measured with the new configuration registers."""
    parties = records.collection(layout.PARTIES)
    if records.index("names").get(name.encode()) is not None:
        known, record = records.party_named(name)
        if record.configuration == configuration:
            raise ContractRefusal("fhevm.party_exists", name)
        records.put_party(known, replace(record, configuration=configuration, registration=None))
        return
    if parties.last_key() >= LIMITS.parties:
        raise ContractRefusal("fhevm.parties_full", f"{LIMITS.parties}")
    index = parties.append(PartyRecord(name, None, None, configuration, None, None, 0, None).encode())
    records.index("names").put(name.encode(), number(index))


def _retire(records: Records, key_id: bytes) -> None:
    key = records.key(key_id)
    if key is None:
        raise ContractRefusal("fhevm.key_unknown", key_id.hex())
    if key.retired:
        raise ContractRefusal("fhevm.key_retired", key_id.hex())
    records.index("keys").put(key_id, replace(key, retired=True).encode())
