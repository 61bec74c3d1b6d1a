"""The only place that keeps an enclave's sealed objects: a folder, and a copy in the store.

    DIR/objects/SHA256      sealed bytes
    DIR/manifests/SHA256    statements.manifest.Manifest

Nothing is ever deleted or overwritten: the party's record says which manifest counts, and may lag behind what was
kept last. An object whose manifest has landed on the chain and that is lost is a lost key: back this folder up.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements.manifest import MAX_MANIFEST, Manifest
from cipherkeep_wire import kms_pb2

from cipherkeep_host import durable
from cipherkeep_host.errors import HostError
from cipherkeep_host.store.client import StoreClient

MAX_OBJECT = 1 << 20  # bytes of a sealed object; a sealed client key takes 41 KiB


class VaultFolder:
    """The sealed objects of one party."""

    def __init__(self, path: Path, store: StoreClient) -> None:
        self._objects = durable.make_folder(path / "objects")
        self._manifests = durable.make_folder(path / "manifests")
        self._store = store
        durable.sweep(self._objects)
        durable.sweep(self._manifests)

    async def keep(self, vault: kms_pb2.Vault) -> None:
        """Keep what an enclave hands out; when this returns it is on disk, in the folder and in the store.

        `HostError`: `connector.vault` when an object is not one of its manifest's, `connector.vault_lost` when one that
        the manifest names is neither among them nor kept.
        """
        try:
            manifest = Manifest.decode(vault.manifest)
        except EvidenceError as error:
            raise HostError("connector.vault", str(error)[:300]) from None
        named = {(item.kind, item.id): item.digest for item in manifest.objects}
        for item in vault.objects:
            if named.get((item.kind, item.id)) != hashlib.sha256(item.data).digest():
                raise HostError("connector.vault", f"{item.kind} {item.id.hex()} is not the manifest's")
        for item in vault.objects:
            await self._keep(self._objects, item.data)
        for sealed in manifest.objects:
            # Also those that were kept before: a manifest with a hole must never come to stand on the chain.
            await self._load(self._objects, sealed.digest, MAX_OBJECT, sealed.kind)
        # The manifest last: whoever finds one finds its objects.
        await self._keep(self._manifests, vault.manifest)

    async def load(self, digest: bytes) -> tuple[bytes, list[kms_pb2.SealedObject]]:
        """The manifest of this digest, and its objects. `HostError("connector.vault_lost")` names what is missing."""
        manifest = await self._load(self._manifests, digest, MAX_MANIFEST, "manifest")
        objects = []
        for item in Manifest.decode(manifest).objects:
            data = await self._load(self._objects, item.digest, MAX_OBJECT, item.kind)
            objects.append(kms_pb2.SealedObject(kind=item.kind, id=item.id, data=data))
        return manifest, objects

    async def _keep(self, folder: Path, data: bytes) -> None:
        name = hashlib.sha256(data).hexdigest()
        await asyncio.to_thread(durable.create, folder / name, data)
        await self._store.put_bytes(data)

    async def _load(self, folder: Path, digest: bytes, limit: int, what: str) -> bytes:
        path = folder / digest.hex()
        try:
            data = await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError:
            data = b""
        if hashlib.sha256(data).digest() == digest:
            return data
        try:
            data = await self._store.get_bytes(digest, limit=limit)
        except HostError as error:
            raise HostError("connector.vault_lost", f"{what} {digest.hex()} ({error.code})") from None
        await asyncio.to_thread(durable.write, path, data)
        return data
