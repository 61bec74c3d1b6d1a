"""The only place for senders and their nonces: each transaction of a sender has the next number, and is valid once."""

from __future__ import annotations

from cipherkeep_attestation import cbor

from cipherkeep_host.chain.genesis import CHAIN
from cipherkeep_host.chain.view import View

ACCOUNTS = "accounts"  # collection: counter → {nonce, sender}; index: sender → counter
_WIDTH = 8  # bytes of a counter in the index


def _record(value: bytes) -> tuple[bytes, int]:
    found = cbor.fields(cbor.decode(value), nonce=cbor.uint(least=1), sender=cbor.raw(32))
    return found["sender"], found["nonce"]


def key_of(view: View, sender: bytes) -> int:
    """The key of a sender's account in the collection; 0 where it has none yet."""
    found = view.index(CHAIN, ACCOUNTS).get(sender)
    return 0 if found is None else int.from_bytes(found, "big")


def nonce_of(view: View, sender: bytes) -> int:
    """The nonce of the sender's last transaction; 0 before the first."""
    key = key_of(view, sender)
    if key == 0:
        return 0
    value = view.collection(CHAIN, ACCOUNTS).get(key)
    assert value is not None
    return _record(value)[1]


def use_nonce(view: View, sender: bytes, nonce: int) -> None:
    """Record the sender's newest nonce; its first makes its account."""
    value = cbor.encode({"nonce": nonce, "sender": sender})
    accounts = view.collection(CHAIN, ACCOUNTS)
    key = key_of(view, sender)
    if key:
        accounts.put(key, value)
    else:
        key = accounts.append(value)
        view.index(CHAIN, ACCOUNTS).put(sender, key.to_bytes(_WIDTH, "big"))
