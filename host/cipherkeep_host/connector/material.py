"""The only place that brings a key's public material from the enclave to the store.

The enclave's signed answer names kind, digest and size of each piece; what the stream brings is compared with them
before the store has it under that digest. Pieces that the store has are not fetched again.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import structlog
from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements import answer as answers
from cipherkeep_attestation.statements.request import KEYGEN

from cipherkeep_host import durable
from cipherkeep_host.connector.enclave import Enclave
from cipherkeep_host.errors import HostError
from cipherkeep_host.store.client import StoreClient

MAX_MATERIAL = 256 << 20  # bytes of one piece; a compressed server key has 46 to 110 MB
_log = structlog.get_logger()


def material_of(core: answers.Core) -> list[tuple[str, bytes, int]]:
    """(kind, SHA-256, size in bytes) of the material that a key generation's core names; empty for any other core."""
    if core.operation != KEYGEN or core.result is None:
        return []
    found = cbor.fields(
        core.result,
        material=cbor.sequence(cbor.anything, 8),
        parameters=cbor.text(96),
    )
    rows = []
    for item in found["material"]:
        if not isinstance(item, list) or len(item) != 3:
            raise HostError("connector.material", "a piece of material is [kind, digest, size]")
        row = cbor.fields(
            {"kind": item[0], "digest": item[1], "size": item[2]},
            kind=cbor.text(32),
            digest=cbor.raw(32),
            size=cbor.uint(MAX_MATERIAL, least=1),
        )
        rows.append((row["kind"], row["digest"], row["size"]))
    return rows


async def publish(answer: bytes, *, enclave: Enclave, store: StoreClient, scratch: Path) -> None:
    """Bring what a signed key generation names to the store. Does nothing for other answers."""
    try:
        core = answers.unverified(answer).core
        rows = material_of(core)
    except EvidenceError as error:
        raise HostError("connector.material", str(error)[:300]) from None
    for kind, digest, size in rows:
        if core.key_id is None:
            raise HostError("connector.material", "a key without an id")
        if not await store.has(digest):
            await _fetch(enclave, store, scratch, core.key_id, kind, digest, size)


async def _fetch(
    enclave: Enclave, store: StoreClient, scratch: Path, key_id: bytes, kind: str, digest: bytes, size: int
) -> None:
    path = durable.temporary_beside(scratch / kind)
    hashed = hashlib.sha256()
    received = 0
    try:
        with path.open("xb") as file:
            async for piece in enclave.material(key_id, kind):
                received += len(piece)
                if received > size:
                    raise HostError("connector.material", f"{kind}: more than {size} bytes")
                hashed.update(piece)
                await asyncio.to_thread(file.write, piece)
        if received != size or hashed.digest() != digest:
            raise HostError("connector.material", f"{kind}: {received} of {size} bytes, digest {hashed.hexdigest()}")
        await store.put_file(path)
    finally:
        path.unlink(missing_ok=True)
    _log.info("material published", key=key_id.hex(), kind=kind, bytes=size, digest=digest.hex())
