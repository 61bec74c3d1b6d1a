"""The only place where an enclave becomes the holder of a party's keys, and where it shows that its head is current.

Both messages may come from anyone: a registration proves itself, and a nonce harms nobody. Each sender has a place of
its own for nonces, so that no flood of others' keeps one out of state or overwrites it before it is proven.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Refused
from cipherkeep_attestation.statements import layout, registration
from cipherkeep_attestation.statements.configuration import Configuration, Genesis
from cipherkeep_attestation.statements.layout import PartyRecord
from cipherkeep_attestation.statements.registration import Claims

from cipherkeep_host.contracts.fhevm.records import Records, number
from cipherkeep_host.contracts.interface import Body, Context, ContractRefusal, ContractState


def register(state: ContractState, context: Context, body: Body) -> bytes:
    """Judge a registration at the block's time and write what it fixes. Keys are fixed by the first, for ever.

    The configuration is the one that governance admitted: no other enclave, however genuine, can be the first.
    """
    records = Records(state)
    name, data = _registration(body)
    index, record = records.party_named(name)
    claims = registration.read(data).claims
    if claims.party != record.name:
        raise ContractRefusal("fhevm.registration_party", claims.party)
    genesis, digest = records.genesis()
    _, attestation = registration.verify(
        data,
        instance=state.instance,
        genesis=digest,
        releases=records.releases(),
        roots=genesis.enclave_roots,
        block_hash=_recent_hash(records, context, claims.block_height),
        block_time=context.time.datetime,
    )
    configuration = Configuration.decode(claims.configuration)
    _check_roots(configuration, genesis, context)
    _check_admitted(record, claims)
    _check_keys(records, index, record, claims)
    _check_manifest(record, claims)
    serial, manifest = claims.manifest
    records.put_party(
        index,
        replace(
            record,
            evidence_key=claims.evidence_key,
            signing_key=claims.signing_key,
            measurements=registration.measurements_digest(dict(attestation.pcrs)),
            registration=hashlib.sha256(data).digest(),
            manifest_serial=serial,
            manifest=manifest,
        ),
    )
    records.index("registrations").put(number(index), number(context.height) + data)
    for key in (claims.evidence_key, claims.signing_key):
        records.index("holders").put(key, number(index))
    return cbor.encode({"index": index})


def check(state: ContractState, body: Body) -> None:
    """Before a registration enters the pool: the party is admitted like this, and the evidence key signed."""
    name, data = _registration(body)
    _, record = Records(state).party_named(name)
    _check_admitted(record, registration.read(data).claims)


def _registration(body: Body) -> tuple[str, bytes]:
    found = cbor.fields(dict(body), party=cbor.text(64), registration=cbor.raw(1, registration.MAX_REGISTRATION))
    return found["party"], found["registration"]


def _recent_hash(records: Records, context: Context, height: int) -> bytes:
    """The hash of an earlier block at most 100 blocks old. `Refused("registration.block")` for any other height."""
    if not context.height - registration.BLOCKS <= height < context.height:
        raise Refused("registration.block", f"{height}, now {context.height}")
    found = records.index("hashes").get(number(height))
    if found is None:
        raise Refused("registration.block", f"{height} is not known")
    return found


def _check_roots(configuration: Configuration, genesis: Genesis, context: Context) -> None:
    """The enclave follows this chain, and believes no documents that the instance does not."""
    root = configuration.root
    if (root.chain_id, root.height, root.header_hash) != (context.chain_id, 1, context.genesis_hash):
        raise ContractRefusal("fhevm.registration_root", f"{root.chain_id} at {root.height}")
    if configuration.enclave_root not in genesis.enclave_roots:
        raise ContractRefusal("fhevm.registration_enclave_root")


def _check_admitted(record: PartyRecord, claims: Claims) -> None:
    """Key service, roots and hosts are those that governance knew when it admitted the party."""
    found = hashlib.sha384(claims.configuration).digest()
    if found != record.configuration:
        raise ContractRefusal("fhevm.registration_configuration", f"{found.hex()}, not {record.configuration.hex()}")


def _check_keys(records: Records, index: int, record: PartyRecord, claims: Claims) -> None:
    fixed = record.evidence_key is not None
    if fixed and (record.evidence_key, record.signing_key) != (claims.evidence_key, claims.signing_key):
        raise ContractRefusal("fhevm.registration_keys", record.name)
    for key in (claims.evidence_key, claims.signing_key):
        # Otherwise one enclave could vote for two parties.
        if records.index("holders").get(key) not in (None, number(index)):
            raise ContractRefusal("fhevm.registration_key_held", record.name)


def _check_manifest(record: PartyRecord, claims: Claims) -> None:
    """A vault's first manifest has number 1; afterwards the number never falls, and one number means one manifest."""
    serial, digest = claims.manifest
    if record.evidence_key is None:
        good = serial == 1
    else:
        good = serial > record.manifest_serial or (serial, digest) == (record.manifest_serial, record.manifest)
    if not good:
        raise ContractRefusal("fhevm.manifest", f"{serial}, recorded {record.manifest_serial}")


def freshness(state: ContractState, context: Context, body: Body) -> bytes:
    """Write the nonce that a party's enclave drew at its start into the sender's place, which nobody else can write."""
    records = Records(state)
    found = cbor.fields(dict(body), nonce=cbor.raw(32), party=cbor.text(64))
    records.party_named(found["party"])
    places, nonces = records.index("nonces"), records.collection(layout.FRESHNESS)
    place = places.get(context.sender)
    key = nonces.last_key() + 1 if place is None else int.from_bytes(place, "big")
    if place is None:
        places.put(context.sender, number(key))
    nonces.put(key, found["nonce"])
    return cbor.encode({"key": key})
