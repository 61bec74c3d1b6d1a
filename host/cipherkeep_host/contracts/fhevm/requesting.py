"""The only place where requests are accepted: judged, given their counter and id, and queued for the enclaves.

Order: form, authorisation, duplicates by origin, limits. A duplicate is told from which request it will have its
answer; that it must be authorised first keeps others from taking somebody's origin.
"""

from __future__ import annotations

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Malformed
from cipherkeep_attestation.statements import governance, layout, request
from cipherkeep_attestation.statements.authorisation import authorise
from cipherkeep_attestation.statements.layout import RequestRecord
from cipherkeep_attestation.statements.request import Keygen, Request

from cipherkeep_host.contracts.fhevm.limits import LIMITS
from cipherkeep_host.contracts.fhevm.records import EXPIRY, INBOXED, PENDING, Records, number
from cipherkeep_host.contracts.interface import Body, Context, ContractRefusal, ContractState


def accept(state: ContractState, context: Context, operation: str, body: Body) -> bytes:
    """Take a request in, or attach it to the one that it repeats."""
    records = Records(state)
    data, asked = _read(operation, body)
    if len(context.genesis_hash) != 32:
        raise ContractRefusal("fhevm.first_block")
    _authorise(records, context, asked)
    origin = asked.origin()
    standing = None if origin is None else records.index("origins").get(origin)
    if standing is not None:
        counter = int.from_bytes(standing, "big")
        record = records.request(counter)
        if record.state in (layout.PENDING, layout.FINAL):
            return _result(counter, record, duplicate=True)
        # Refused or expired: whoever asks again, perhaps under new circumstances, gets a new request.
    _check_room(records, context.sender)
    counter, record = _append(records, context, operation, data)
    if origin is not None:
        records.index("origins").put(origin, number(counter))
    return _result(counter, record, duplicate=False)


def check(state: ContractState, context: Context, operation: str, body: Body) -> None:
    """What can be said cheaply: the form, the key, whether there is room."""
    records = Records(state)
    _, asked = _read(operation, body)
    if not isinstance(asked, Keygen):
        open_key(records, asked.key_id)
    _check_room(records, context.sender)


def _read(operation: str, body: Body) -> tuple[bytes, Request]:
    data: bytes = cbor.fields(dict(body), request=cbor.raw(1, request.MAX_REQUEST))["request"]
    asked = request.decode(data)
    if asked.operation != operation:
        raise Malformed("request.operation", f"{asked.operation} in a message {operation}")
    return data, asked


def open_key(records: Records, key_id: bytes) -> governance.KeyTerms:
    """The terms of a key of this instance that is in use. `ContractRefusal`: unknown, retired."""
    key = records.key(key_id)
    if key is None:
        raise ContractRefusal("fhevm.key_unknown", key_id.hex())
    if key.retired:
        raise ContractRefusal("fhevm.key_retired", key_id.hex())
    return key.terms


def statement_of(records: Records, asked: Keygen) -> tuple[int, governance.KeyTerms]:
    """The statement that a key generation stands on: it must be in state, byte for byte, and of that kind."""
    genesis, digest = records.genesis()
    serial = records.serial_of(asked.statement)
    if serial is None:
        raise ContractRefusal("fhevm.statement_unknown")
    # Verified when it came in; read again the same way, there is one reader of statements.
    statement = governance.verify(
        asked.statement, governors=genesis.governors, instance=records.state.instance, genesis=digest, serial=serial
    )
    if statement.kind != governance.KEYGEN:
        raise ContractRefusal("fhevm.statement_kind", statement.kind)
    terms: governance.KeyTerms = statement.content()
    return serial, terms


def _authorise(records: Records, context: Context, asked: Request) -> None:
    if isinstance(asked, Keygen):
        statement_of(records, asked)
        return
    authorise(
        asked,
        terms=open_key(records, asked.key_id),
        coprocessors=records.coprocessors(),
        at=context.time.seconds,
        insecure_allow_all=records.genesis()[0].insecure_allow_all,
    )


def _check_room(records: Records, sender: bytes) -> None:
    if records.collection(layout.REQUESTS).last_key() - records.count(INBOXED) >= LIMITS.block_requests:
        raise ContractRefusal("fhevm.block_full", f"{LIMITS.block_requests}")
    if records.count(PENDING) >= LIMITS.pending:
        raise ContractRefusal("fhevm.queue_full", f"{LIMITS.pending}")
    if records.count(sender) >= LIMITS.pending_of_sender:
        raise ContractRefusal("fhevm.sender_full", f"{LIMITS.pending_of_sender}")


def _append(records: Records, context: Context, operation: str, data: bytes) -> tuple[int, RequestRecord]:
    requests = records.collection(layout.REQUESTS)
    counter = requests.last_key() + 1
    digest = request.request_digest(data)
    identity = request.request_id(
        first_header=context.genesis_hash, instance=context.instance, counter=counter, digest=digest
    )
    record = RequestRecord(identity, digest, operation, context.height, layout.PENDING, None, ())
    records.put_request(counter, record)
    expires = context.height + records.genesis()[0].expiry_blocks
    records.index("ids").put(identity, number(counter))
    records.index("bodies").put(number(counter), data)
    records.index("pending").put(number(counter), cbor.encode([context.sender, expires]))
    records.enqueue(expires, EXPIRY, counter)
    for name in (PENDING, context.sender):
        records.set_count(name, records.count(name) + 1)
    return counter, record


def _result(counter: int, record: RequestRecord, *, duplicate: bool) -> bytes:
    return cbor.encode({"counter": counter, "duplicate": duplicate, "id": record.id, "state": record.state})
