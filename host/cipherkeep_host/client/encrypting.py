"""The only place that encrypts values and proves that: with a key's published material and the reference string.

Both are fetched once, by digest, and kept. Nothing of the coprocessor is believed: it says which string it verifies
under, and a wrong one only makes it refuse.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from cipherkeep_attestation.receipts.judging import Key

import tfhers
from cipherkeep_host import durable
from cipherkeep_host.coprocessor import handles
from cipherkeep_host.coprocessor.client import CoprocessorClient
from cipherkeep_host.coprocessor.reference_string import cache_folder
from cipherkeep_host.store.client import StoreClient

_MAX_PUBLIC_KEY = 1 << 20  # bytes; a compact public key has 33 KB
_MAX_STRING = 64 << 20  # bytes; a reference string of 2048 bits has 5 MB


class Encryptor:
    """Encrypts under verified keys, with what a store and a coprocessor that are not trusted hand out."""

    def __init__(self, store: StoreClient, coprocessor: CoprocessorClient) -> None:
        self._store = store
        self._coprocessor = coprocessor
        self._keys: dict[bytes, tfhers.PublicKey] = {}
        self._strings: dict[bytes, tfhers.Crs] = {}

    async def prove(
        self, key: Key, values: Sequence[tuple[str, int]], *, user: bytes, contract_address: bytes
    ) -> bytes:
        """A list of (type, value) pairs under this key, proven for a user and a contract."""
        terms = key.terms
        public = await self._key(key)
        string = await self._string()
        metadata = handles.metadata(contract=contract_address, user=user, acl=terms.acl, chain_id=terms.host_chain_id)
        return await asyncio.to_thread(public.encrypt_with_proof, list(values), string, metadata)

    async def public_key(self, key: Key) -> bytes:
        """The compact public key that the key's generation names (safe-serialised)."""
        return await self._store.get_bytes(key.piece("public_key").digest, limit=_MAX_PUBLIC_KEY)

    async def _key(self, key: Key) -> tfhers.PublicKey:
        if key.id not in self._keys:
            self._keys[key.id] = tfhers.PublicKey.from_bytes(await self.public_key(key))
        return self._keys[key.id]

    async def _string(self) -> tfhers.Crs:
        digest = await self._coprocessor.reference_string()
        if digest not in self._strings:
            self._strings[digest] = await self._load_string(digest)
        return self._strings[digest]

    async def _load_string(self, digest: bytes) -> tfhers.Crs:
        """From what was checked here before; otherwise from the store, every point checked, which takes seconds."""
        kept = durable.make_folder(cache_folder()) / f"checked-{digest.hex()}.bin"
        with contextlib.suppress(FileNotFoundError, tfhers.FormatError):
            return tfhers.Crs.from_bytes(await asyncio.to_thread(kept.read_bytes), sha256=digest)
        data = await self._store.get_bytes(digest, limit=_MAX_STRING)
        string = await asyncio.to_thread(tfhers.Crs.from_bytes, data)
        await asyncio.to_thread(durable.write, kept, data)
        return string
