"""The only place for what can be asked of the application without a transaction.

| path | argument | answer, as deterministic CBOR |
| --- | --- | --- |
| `/state/INSTANCE/COLLECTION` | key, 8 bytes | `{height, proof, until, value}`; value null: absent |
| `/last/INSTANCE/COLLECTION` | | the highest key |
| `/index/INSTANCE/NAME` | key | the value, or null; not proven |
| `/account` | sender, 32 bytes | `{key, nonce}`: where its account stands, and its last nonce; not proven |
| `/instances` | | `[{genesis, kind, name, version}]` |
| `/chain` | | `{chain_id, genesis_hash, height}` |

A proof is `StateProof.encode()` and holds under the app hash of every header from height + 1 to until + 1.
"""

from __future__ import annotations

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import EvidenceError

from cipherkeep_host.chain import accounts
from cipherkeep_host.chain.calls import REFUSED_TRANSACTION, Answer
from cipherkeep_host.chain.genesis import CHAIN, MAX_INSTANCES
from cipherkeep_host.chain.state import Proven, State
from cipherkeep_host.chain.view import MAX_INDEX_KEY, MAX_KEY
from cipherkeep_host.errors import HostError

MAX_PATH = 256  # characters


def encode(found: Proven) -> bytes:
    """A proven value as it travels."""
    fields = {"height": found.height, "proof": found.proof.encode(), "until": found.until, "value": found.value}
    return cbor.encode(fields)


def answer(state: State, path: str, data: bytes, height: int) -> Answer:
    """Answer a query; never raises for what was asked wrongly. `height` 0 asks for the newest state."""
    try:
        return Answer(value=_answer(state, path, data, height), height=state.height)
    except (HostError, EvidenceError) as error:
        return Answer(code=REFUSED_TRANSACTION, height=state.height, log=str(error)[:1000])


def _answer(state: State, path: str, data: bytes, height: int) -> bytes:
    parts = path.split("/") if len(path) <= MAX_PATH else []
    match parts:
        case ["", "state", instance, name]:
            return encode(state.prove(instance, name, _key(data), height=height or None))
        case ["", "last", instance, name]:
            return cbor.encode(_last(state, instance, name))
        case ["", "index", instance, name]:
            if len(data) > MAX_INDEX_KEY:
                raise HostError("chain.query", f"a key of {len(data)} bytes")
            return cbor.encode(state.index(instance, name).get(data))
        case ["", "account"]:
            if len(data) != 32:
                raise HostError("chain.query", f"a sender of {len(data)} bytes")
            _last(state, CHAIN, accounts.ACCOUNTS)
            return cbor.encode({"key": accounts.key_of(state, data), "nonce": accounts.nonce_of(state, data)})
        case ["", "instances"]:
            _last(state, CHAIN, "instances")
            records = state.collection(CHAIN, "instances").items(limit=MAX_INSTANCES)
            return cbor.encode([cbor.decode(value) for _, value in records])
        case ["", "chain"]:
            facts = state.facts
            fields = {"chain_id": facts.chain_id, "genesis_hash": facts.genesis_hash, "height": facts.height}
            return cbor.encode(fields)
    raise HostError("chain.query", path[:100])


def _key(data: bytes) -> int:
    if len(data) != 8 or (key := int.from_bytes(data, "big")) > MAX_KEY:
        raise HostError("chain.query", f"a key of {len(data)} bytes, or above 2^63-1")
    return key


def _last(state: State, instance: str, name: str) -> int:
    if not state.has_collection(f"{instance}/{name}"):
        raise HostError("chain.no_collection", f"{instance}/{name}"[:160])
    return state.last_key(f"{instance}/{name}")
