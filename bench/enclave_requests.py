"""The only place that makes the requests and ciphertexts by which an enclave's service is measured."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

from cipherkeep_attestation.statements.request import PublicDecrypt, Request
from cipherkeep_enclave.operations import signcryption
from cipherkeep_wire import kms_pb2 as pb

import tfhers
from tests.enclave.harness import TERMS, Shown, World
from tests.enclave.hosting import Host

CIPHERTEXTS = 16  # different ones that requests are made of in turn
USER_KEY = signcryption._ENVELOPE + tfhers.ml_kem_512_keypair(bytes(32), bytes(32))[0]


async def ciphertexts(host: Host, key_id: bytes) -> list[bytes]:
    """Packed lists with one FheUint64 each, under the key's published material, as a coprocessor makes them."""
    pieces = [await host.material(key_id, kind) for kind in ("public_key", "server_key")]
    return await asyncio.to_thread(_packed, *pieces)


def public(world: World, key_id: bytes, number: int, packed: bytes) -> PublicDecrypt:
    """A request to open one ciphertext under a handle of this number."""
    return PublicDecrypt(key_id, (world.bind(key_id, packed, number=number),))


def user(world: World, key_id: bytes, number: int, packed: bytes) -> Request:
    """The same, re-encrypted to a user's key, signed by her."""
    start = int(world.now.timestamp()) - 60
    item = world.bind(key_id, packed, number=number)
    return world.alice.request(key_id, item, start=start, terms=TERMS, public_key=USER_KEY)


def call(shown: Sequence[Shown], ciphertexts: Sequence[Sequence[bytes]]) -> pb.ProcessRequest:
    """One call for requests of one block."""
    bodies = [
        pb.RequestBody(counter=one.counter, body=one.body, ciphertexts=data)
        for one, data in zip(shown, ciphertexts, strict=True)
    ]
    return pb.ProcessRequest(height=shown[0].height, requests=bodies)


def digest_of(value: int) -> bytes:
    """What a public decryption's result says for one value."""
    return value.to_bytes(32, "big")


def value_of(number: int) -> int:
    """The plaintext of the ciphertext of this number: never zero, all 64 bits in use."""
    return int.from_bytes(hashlib.sha256(b"value %d" % number).digest()[:8], "big")


def _packed(public_key: bytes, server_key: bytes) -> list[bytes]:
    server = tfhers.ServerKey.load(server_key)
    encrypted = tfhers.PublicKey.from_bytes(public_key).encrypt([("uint64", value_of(n)) for n in range(CIPHERTEXTS)])
    return [tfhers.compress([one], server) for one in tfhers.expand(encrypted, server)]
