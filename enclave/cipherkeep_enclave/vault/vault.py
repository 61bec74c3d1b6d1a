"""The only place that holds the vault open: the secret, the keys, the sealed objects and the manifest over them.

The root object holds a secret of 32 bytes, sealed under a data key that AWS KMS wrapped; identity and the seeds of all
keys are derived from the secret. A key object holds the key's record. Nothing of an object is believed before the
manifest's digest is the one that stands in the party's record on the chain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Refused
from cipherkeep_attestation.statements import manifest as manifests
from cipherkeep_attestation.statements.configuration import Configuration
from cipherkeep_attestation.statements.manifest import Manifest, SealedObject
from cipherkeep_attestation.statements.material import PUBLIC_KEY
from cipherkeep_wire.errors import ServiceError

import tfhers
from cipherkeep_enclave.engine import keys as engine
from cipherkeep_enclave.identity import Identity
from cipherkeep_enclave.vault.aws_kms import KeyWrapper
from cipherkeep_enclave.vault.records import SECRET_BYTES, KeyRecord, Root
from cipherkeep_enclave.vault.seal import Place, Sealer

_ROOT_ID = bytes(32)
_FIRST_EPOCH = 1
_SEED_LABEL = "cipherkeep/key-seed/v1"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A sealed object as the host stores it."""

    kind: str
    id: bytes
    data: bytes

    def entry(self) -> SealedObject:
        """Its line in the manifest."""
        return SealedObject(self.kind, self.id, hashlib.sha256(self.data).digest())


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key that can be used: its record and its handle."""

    record: KeyRecord
    secret: tfhers.ClientKey


class Vault:
    """An open vault. Made by `create` or `open`, never in another way."""

    def __init__(self, configuration: Configuration, sealer: Sealer, secret: bytes, root: StoredObject) -> None:
        self._configuration = configuration
        self._genesis = configuration.genesis.digest()
        self._sealer = sealer
        self._secret = secret
        self._objects: dict[tuple[str, bytes], StoredObject] = {(root.kind, root.id): root}
        self._keys: dict[bytes, HeldKey] = {}
        self.identity = Identity.derive(secret)
        self.manifest = Manifest(configuration.party, 1, _FIRST_EPOCH, (root.entry(),))
        self.pin = (1, self.manifest.digest())
        self._pins: dict[tuple[int, bytes], frozenset[bytes]] = {self.pin: frozenset()}

    def __repr__(self) -> str:
        return f"<Vault {self.manifest.party} {self.manifest.serial}>"

    # --- making and opening ---

    @classmethod
    async def create(cls, configuration: Configuration, kms: KeyWrapper, *, secret: bytes) -> Vault:
        """A new vault around a fresh secret of 32 bytes. The data key is fetched twice: what was wrapped must open."""
        if len(secret) != SECRET_BYTES:
            raise ValueError("a vault's secret has 32 bytes")
        context = encryption_context(configuration, _FIRST_EPOCH)
        made = await kms.generate(context)
        if await kms.unwrap(made.wrapped, context) != made.plaintext:
            raise ServiceError("vault.kms_answer", "the wrapped key opens to another")
        sealer = Sealer(made.plaintext)
        place = _root_place(configuration, _FIRST_EPOCH, made.wrapped)
        root = Root(made.wrapped, sealer.seal(place, secret))
        return cls(configuration, sealer, secret, StoredObject(manifests.ROOT, _ROOT_ID, root.encode()))

    @classmethod
    async def open(
        cls,
        configuration: Configuration,
        kms: KeyWrapper,
        *,
        pin: tuple[int, bytes],
        manifest: bytes,
        objects: Sequence[StoredObject],
    ) -> Vault:
        """Open what the party's record pins: the manifest with this number and digest, and every object it names.

        `ServiceError`: `vault.object_old`, `vault.object_missing`, `vault.object_sealed`, and the key service's.
        """
        if hashlib.sha256(manifest).digest() != pin[1]:
            raise ServiceError("vault.object_old", "the manifest")
        listed = Manifest.decode(manifest)
        if listed.serial != pin[0] or listed.party != configuration.party:
            raise ServiceError("vault.object_old", "the manifest")
        found = _complete(listed, objects)
        stored = found.get((manifests.ROOT, _ROOT_ID))
        if stored is None:
            raise ServiceError("vault.object_missing", "root")
        root = Root.decode(stored.data)
        data_key = await kms.unwrap(root.wrapped, encryption_context(configuration, listed.epoch))
        sealer = Sealer(data_key)
        secret = sealer.open(_root_place(configuration, listed.epoch, root.wrapped), root.sealed)
        if len(secret) != SECRET_BYTES:
            raise ServiceError("vault.object_sealed", "root")
        vault = cls(configuration, sealer, secret, stored)
        for item in listed.objects:
            if item.kind == manifests.KEY:
                vault._load(found[item.kind, item.id], listed.epoch)
        vault.manifest, vault.pin = listed, pin
        vault._pins = {pin: frozenset(vault._keys)}
        return vault

    def _load(self, stored: StoredObject, epoch: int) -> None:
        record = KeyRecord.decode(self._sealer.open(self._place(stored.kind, stored.id, epoch), stored.data))
        if record.key_id != stored.id:
            raise Refused("vault.record", stored.id.hex())
        held = HeldKey(record, engine.secret_key(self.seed(record.key_id), record.terms.parameters))
        # Another version of the library might expand the seed to another key: then it is not the published one.
        public = held.secret.compact_public_key()
        published = next((part for part in record.material if part.kind == PUBLIC_KEY), None)
        if published is None or hashlib.sha256(public).digest() != published.digest:
            raise Refused("vault.record", f"{stored.id.hex()}: the seed gives another key")
        self._keys[record.key_id] = held
        self._objects[stored.kind, stored.id] = stored

    # --- keys ---

    def seed(self, key_id: bytes) -> tfhers.Seed:
        """The seed of a key, as an opaque handle."""
        return engine.seed(self._secret, salt=key_id, info=cbor.encode([_SEED_LABEL, self._genesis]))

    def key(self, key_id: bytes) -> HeldKey | None:
        """A key held here, or None."""
        return self._keys.get(key_id)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The ids of all keys, in the order in which they were added."""
        return tuple(self._keys)

    def add(self, record: KeyRecord) -> HeldKey:
        """Seal a new key's record; the manifest's number rises by one. A key that is held already is returned."""
        held = self._keys.get(record.key_id)
        if held is not None:
            return held
        held = HeldKey(record, engine.secret_key(self.seed(record.key_id), record.terms.parameters))
        place = self._place(manifests.KEY, record.key_id, self.manifest.epoch)
        stored = StoredObject(manifests.KEY, record.key_id, self._sealer.seal(place, record.encode()))
        self._objects[stored.kind, stored.id] = stored
        self._keys[record.key_id] = held
        old = self.manifest
        self.manifest = Manifest(old.party, old.serial + 1, old.epoch, (*old.objects, stored.entry()))
        self.pin = (self.manifest.serial, self.manifest.digest())
        self._pins[self.pin] = frozenset(self._keys)
        return held

    def keys_at(self, pin: tuple[int, bytes]) -> frozenset[bytes] | None:
        """The keys that the manifest with this number and digest names; None when this boot had no such manifest."""
        return self._pins.get(pin)

    def stored(self, *, without: frozenset[bytes]) -> list[StoredObject]:
        """The root and the sealed keys, except those of these keys."""
        return [item for item in self._objects.values() if item.id not in without]

    def _place(self, kind: str, object_id: bytes, epoch: int) -> Place:
        return Place(self._configuration.party, kind, object_id, epoch, self._genesis)


def encryption_context(configuration: Configuration, epoch: int) -> dict[str, str]:
    """What the wrapped data key is bound to at the key service."""
    return {
        "cipherkeep:chain": configuration.root.header_hash.hex(),
        "cipherkeep:epoch": str(epoch),
        "cipherkeep:instance": configuration.instance,
        "cipherkeep:party": configuration.party,
    }


def _root_place(configuration: Configuration, epoch: int, wrapped: bytes) -> Place:
    """The wrapped key stands in clear beside the secret: it is bound, together with the key's name."""
    arn = configuration.kms.key_arn if configuration.kms else ""
    context = hashlib.sha256(cbor.encode([arn, wrapped])).digest()
    return Place(configuration.party, manifests.ROOT, _ROOT_ID, epoch, context)


def _complete(listed: Manifest, objects: Sequence[StoredObject]) -> dict[tuple[str, bytes], StoredObject]:
    """Every object that the manifest names, and nothing else is looked at."""
    given = {(item.kind, item.id): item for item in objects}
    found = {}
    for item in listed.objects:
        stored = given.get((item.kind, item.id))
        if stored is None:
            raise ServiceError("vault.object_missing", f"{item.kind} {item.id.hex()}")
        if hashlib.sha256(stored.data).digest() != item.digest:
            raise ServiceError("vault.object_old", f"{item.kind} {item.id.hex()}")
        found[item.kind, item.id] = stored
    return found
