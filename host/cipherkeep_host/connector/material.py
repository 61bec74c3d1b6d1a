"""The only place that brings a key's public material from the enclave to the store.

The enclave's signed answer names kind, size and both digests of each piece; what the stream brings is compared with it
before the store has it under its SHA-256. Pieces that the store has are not fetched again.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements import answer as answers
from cipherkeep_attestation.statements.material import GeneratedKey, Material, Measure
from cipherkeep_attestation.statements.request import KEYGEN

from cipherkeep_host import durable
from cipherkeep_host.connector.enclave import Enclave
from cipherkeep_host.errors import HostError
from cipherkeep_host.store.client import StoreClient

MAX_MATERIAL = 256 << 20  # bytes of one piece; a compressed server key has 46 to 110 MB
_log = structlog.get_logger()


def material_of(core: answers.Core) -> tuple[Material, ...]:
    """The material that a key generation's core names; empty for any other core."""
    if core.operation != KEYGEN or core.result is None:
        return ()
    named = GeneratedKey.of_map(core.result).material
    for item in named:
        if item.size > MAX_MATERIAL:
            raise HostError("connector.material", f"{item.kind}: {item.size} bytes")
    return named


def of_answer(answer: bytes) -> tuple[answers.Core, tuple[Material, ...]]:
    """The core of an answer of our enclave, and the material that it names."""
    try:
        core = answers.unverified(answer).core
        return core, material_of(core)
    except EvidenceError as error:
        raise HostError("connector.material", str(error)[:300]) from None


async def publish(answer: bytes, *, enclave: Enclave, store: StoreClient, scratch: Path) -> None:
    """Bring what a signed key generation names to the store. Does nothing for other answers."""
    core, named = of_answer(answer)
    for item in named:
        if core.key_id is None:
            raise HostError("connector.material", "a key without an id")
        if not await store.has(item.digest):
            await _fetch(enclave, store, scratch, core.key_id, item)


async def _fetch(enclave: Enclave, store: StoreClient, scratch: Path, key_id: bytes, named: Material) -> None:
    kind = named.kind
    path = durable.temporary_beside(scratch / kind)
    measure = Measure()
    try:
        with path.open("xb") as file:
            async for piece in enclave.material(key_id, kind):
                measure.add(piece)
                if measure.size > named.size:
                    raise HostError("connector.material", f"{kind}: more than {named.size} bytes")
                await asyncio.to_thread(file.write, piece)
        found = measure.material(kind)
        if found != named:
            what = "typed-data digest" if (found.digest, found.size) == (named.digest, named.size) else "digest"
            raise HostError("connector.material", f"{kind}: {found.size} of {named.size} bytes, another {what}")
        await store.put_file(path)
    finally:
        path.unlink(missing_ok=True)
    _log.info("material published", key=key_id.hex(), kind=kind, bytes=named.size, digest=named.digest.hex())
