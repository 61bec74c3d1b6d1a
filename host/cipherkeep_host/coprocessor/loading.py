"""The only place that gets a coprocessor ready: key record from the chain, material from the store, reference string.

Nothing that node and store say is believed: the key's record is verified from the trust root on, its material is
compared with the digests in it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.receipts.judging import Key, Trust, verify_key
from cipherkeep_attestation.statements.material import Material

from cipherkeep_host import durable
from cipherkeep_host.client import contract
from cipherkeep_host.client.gather import gather
from cipherkeep_host.client.node import Node
from cipherkeep_host.coprocessor import reference_string
from cipherkeep_host.coprocessor.config import Config
from cipherkeep_host.coprocessor.server import Loaded, Published
from cipherkeep_host.coprocessor.service import Coprocessor
from cipherkeep_host.coprocessor.signer import Signer
from cipherkeep_host.coprocessor.supervisor import Limits, Supervisor, worker_command
from cipherkeep_host.coprocessor.table import Table
from cipherkeep_host.errors import HostError
from cipherkeep_host.store.client import StoreClient

_RETRIES = 300  # looks for the key, one each second: it may still be in the making
_PAUSE = 1.0  # seconds
_MAX_PIECE = 256 << 20  # bytes
_MAX_AGE = timedelta(hours=1)  # of the chain's newest header; what was final stays so
_log = structlog.get_logger()


async def verified_key(given: Config, node: Node) -> Key:
    """The key's record, waited for while the chain does not have it."""
    configuration = given.configuration
    trust = Trust(configuration.root, configuration.instance, configuration.genesis, _MAX_AGE)
    for attempt in range(_RETRIES):
        try:
            counter = await contract.counter_of(node, trust.instance, given.key_id)
            evidence = await gather(node, trust.instance, counter, root=trust.root)
            return verify_key(evidence, trust=trust, now=datetime.now(UTC))
        except HostError as error:
            problem, code = f"{error.code} {error.detail}", error.code
        except EvidenceError as error:
            if error.code != "receipt.not_answered":
                raise HostError("coprocessor.key", str(error)[:300]) from None
            problem, code = error.code, error.code
        if attempt % 30 == 0:
            _log.info("waiting for the key", key=given.key_id.hex(), code=code)
        await asyncio.sleep(_PAUSE)
    raise HostError("coprocessor.key", problem[:300])


async def load(
    given: Config, *, node: Node, store: StoreClient, signer: Signer, say: Callable[[str], None]
) -> tuple[Loaded, Table, Supervisor]:
    """A coprocessor that can serve. `say` hears what is being waited for."""
    say("the key's record on the chain")
    key = await verified_key(given, node)
    say("the key's public material")
    folder = durable.make_folder(given.state / "material")
    durable.sweep(folder)
    public_key = await _piece(store, folder, key.piece("public_key"))
    server_key = await _piece(store, folder, key.piece("server_key"))
    say("the common reference string")
    crs = await asyncio.to_thread(reference_string.make, given.crs_bits, cache=reference_string.cache_folder())
    crs_digest = await store.put_file(crs)
    say("the worker")
    table = Table(given.state / "handles", key_id=key.id)
    worker = Supervisor(worker_command(public_key=public_key, server_key=server_key, crs=crs), limits=Limits())
    try:
        await worker.start()
    except BaseException:
        await worker.close()
        table.close()
        raise
    coprocessor = Coprocessor(key_id=key.id, terms=key.terms, signer=signer, table=table, store=store, worker=worker)
    loaded = Loaded(
        coprocessor,
        public_key=_published(key.piece("public_key")),
        server_key=_published(key.piece("server_key")),
        crs=Published(crs_digest, crs.stat().st_size),
        crs_bits=given.crs_bits,
    )
    return loaded, table, worker


async def _piece(store: StoreClient, folder: Path, piece: Material) -> Path:
    path = folder / piece.digest.hex()
    if not await asyncio.to_thread(_holds, path, piece.digest):
        if piece.size > _MAX_PIECE:
            raise HostError("coprocessor.key", f"{piece.kind} of {piece.size} bytes")
        await store.get_to_file(piece.digest, path, limit=piece.size)
    return path


def _holds(path: Path, digest: bytes) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest() == digest


def _published(piece: Material) -> Published:
    return Published(piece.digest, piece.size)
