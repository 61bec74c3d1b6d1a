"""The vault: what is sealed opens where it belongs and nowhere else, and nothing old or missing passes unnoticed."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements.manifest import Manifest
from cipherkeep_enclave.vault import Vault
from cipherkeep_enclave.vault.seal import Place, Sealer
from cipherkeep_enclave.vault.vault import StoredObject
from cipherkeep_wire.errors import ServiceError

from tests.enclave.harness import World

PLACE = Place("alpha", "key", bytes(32), 1, b"context")


def sealed_code(sealer: Sealer, place: Place, data: bytes) -> str:
    with pytest.raises(ServiceError) as refusal:
        sealer.open(place, data)
    return refusal.value.code


# --- sealing ---


def test_what_is_sealed_opens_and_is_the_same_again() -> None:
    """Sealing is deterministic: a manifest that is made again after a crash is the same manifest."""
    sealer = Sealer(bytes(range(32)))
    sealed = sealer.seal(PLACE, b"content")
    assert sealer.open(PLACE, sealed) == b"content"
    assert sealer.seal(PLACE, b"content") == sealed
    assert sealer.seal(PLACE, b"another")[1:13] != sealed[1:13]


@pytest.mark.parametrize(
    "other",
    [
        replace(PLACE, party="beta"),
        replace(PLACE, kind="root"),
        replace(PLACE, id=b"\1" * 32),
        replace(PLACE, epoch=2),
        replace(PLACE, context=b""),
    ],
)
def test_an_object_opens_only_in_its_place(other: Place) -> None:
    """Party, kind, id, epoch and what stands beside it are bound."""
    sealer = Sealer(bytes(range(32)))
    assert sealed_code(sealer, other, sealer.seal(PLACE, b"content")) == "vault.object_sealed"


def test_another_data_key_does_not_open() -> None:
    """Each epoch has its own key."""
    assert sealed_code(Sealer(bytes(32)), PLACE, Sealer(bytes(range(32))).seal(PLACE, b"x")) == "vault.object_sealed"


def test_no_changed_byte_opens() -> None:
    """Every byte of a sealed object is authenticated, its version too; and so is its length."""
    sealer = Sealer(bytes(range(32)))
    sealed = sealer.seal(PLACE, b"content")
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        assert sealed_code(sealer, PLACE, bytes(changed)) == "vault.object_sealed"
    for length in range(len(sealed)):
        assert sealed_code(sealer, PLACE, sealed[:length]) == "vault.object_sealed"


def test_nothing_shows_a_key() -> None:
    """Neither the sealer nor its place shows a byte of the data key."""
    sealer = Sealer(b"secret data key of thirty-two by")
    assert "secret" not in repr(sealer) + repr(PLACE)


# --- opening ---


async def _made(world: World) -> None:
    await world.bring_up()


async def test_a_first_boot_makes_a_vault_only_with_proof(world: World) -> None:
    """A vault is made when the proven record pins none, and handed out again when the call is repeated."""
    await _made(world)
    vault = world.keeper.vault
    assert vault is not None and vault.pin[0] == 1
    world.record = replace(world.record, manifest_serial=0, manifest=None, evidence_key=None, signing_key=None)
    again = await world.open()
    assert again is not None and hashlib.sha256(again.manifest).digest() == vault.pin[1]
    assert world.keeper.vault is vault


async def test_a_restart_opens_the_same_vault(world: World, cached_engine: Any) -> None:
    """Identity and keys are those of the boot before."""
    await _made(world)
    key_id = await world.generate()
    before = world.keeper.vault
    assert before is not None
    world.boot()
    await world.bring_up()
    after = world.keeper.vault
    assert after is not None and after is not before
    assert (after.keys, after.pin) == (before.keys, before.pin) and after.keys == (key_id,)
    assert after.identity.evidence_key == before.identity.evidence_key
    assert after.identity.signing_key == before.identity.signing_key


async def _reopened(world: World, **how: Any) -> ServiceError | EvidenceError:
    """What a restart with other objects is refused with."""
    world.boot()
    await world.advance()
    await world.freshen()
    with pytest.raises((ServiceError, EvidenceError)) as refusal:
        await world.open(**how)
    assert world.keeper.vault is None
    return refusal.value


async def test_an_old_manifest_is_refused(world: World, cached_engine: Any) -> None:
    """The manifest from before the key is not the one that the record pins."""
    await _made(world)
    old = world.keeper.vault.manifest.encode()
    await world.generate()
    assert (await _reopened(world, manifest=old)).code == "vault.object_old"


async def test_a_missing_object_is_refused(world: World, cached_engine: Any) -> None:
    """A lost key is said to be lost, by its id."""
    await _made(world)
    key_id = await world.generate()
    root_only = [item for item in world.objects.values() if item.kind == "root"]
    refusal = await _reopened(world, objects=root_only)
    assert refusal.code == "vault.object_missing" and key_id.hex() in refusal.detail


async def test_a_missing_root_is_refused(world: World, cached_engine: Any) -> None:
    """Without the root nothing opens."""
    await _made(world)
    assert (await _reopened(world, objects=[])).code == "vault.object_missing"


async def test_a_swapped_object_is_refused(world: World, cached_engine: Any) -> None:
    """Another object under a key's name is not what the manifest names."""
    await _made(world)
    await world.generate()
    swapped = [replace(item, data=item.data + b"\0") for item in world.objects.values()]
    assert (await _reopened(world, objects=swapped)).code == "vault.object_old"


async def test_another_partys_vault_is_refused(world: World) -> None:
    """A manifest that another party made does not open here, even if the record pinned it."""
    await _made(world)
    vault = world.keeper.vault
    foreign = Manifest("beta", 1, 1, vault.manifest.objects)
    world.manifests[foreign.digest()] = foreign.encode()
    world.land((1, foreign.digest()))
    assert (await _reopened(world)).code == "vault.object_old"


async def test_a_wrapped_key_that_was_swapped_is_refused(world: World) -> None:
    """The wrapped data key stands in clear: with another in its place, the object beside it does not open."""
    await _made(world)
    configuration, kms = world.configuration, world.kms
    first = world.keeper.vault
    second = await Vault.create(configuration, kms, secret=b"\x08" * 32)
    roots = [vault.stored(without=frozenset())[0] for vault in (first, second)]
    from cipherkeep_enclave.vault.records import Root

    mixed = Root(Root.decode(roots[1].data).wrapped, Root.decode(roots[0].data).sealed)
    item = StoredObject("root", bytes(32), mixed.encode())
    manifest = Manifest(world.party, 1, 1, (item.entry(),))
    with pytest.raises(ServiceError) as refusal:
        await Vault.open(configuration, kms, pin=(1, manifest.digest()), manifest=manifest.encode(), objects=[item])
    assert refusal.value.code == "vault.object_sealed"


async def test_another_epoch_does_not_unwrap(world: World) -> None:
    """The encryption context names the epoch: a manifest that lies about it gets no data key."""
    await _made(world)
    vault = world.keeper.vault
    lying = Manifest(world.party, 1, 2, vault.manifest.objects)
    with pytest.raises(ServiceError) as refusal:
        await Vault.open(
            world.configuration,
            world.kms,
            pin=(1, lying.digest()),
            manifest=lying.encode(),
            objects=vault.stored(without=frozenset()),
        )
    assert refusal.value.code == "vault.kms_denied"


async def test_another_instances_configuration_does_not_open(world: World, cached_engine: Any) -> None:
    """A key of one instance is sealed for that instance: under other genesis parameters its record does not open."""
    await _made(world)
    await world.generate()
    vault = world.keeper.vault
    genesis = replace(world.configuration.genesis, answers=7)
    with pytest.raises(ServiceError) as refusal:
        await Vault.open(
            replace(world.configuration, genesis=genesis),
            world.kms,
            pin=vault.pin,
            manifest=vault.manifest.encode(),
            objects=vault.stored(without=frozenset()),
        )
    assert refusal.value.code == "vault.object_sealed"


async def test_a_registered_identity_does_not_change(world: World) -> None:
    """A record with another evidence key is not this vault's."""
    await _made(world)
    world.record = replace(world.record, evidence_key=b"\x09" * 32)
    assert (await _reopened(world)).code == "vault.object_old"


async def test_an_open_vault_is_not_opened_over(world: World) -> None:
    """A record that pins what this boot never had is refused; the vault stays as it is."""
    await _made(world)
    vault = world.keeper.vault
    world.land((9, bytes(32)))
    with pytest.raises(ServiceError) as refusal:
        await world.open()
    assert refusal.value.code == "service.opened"
    assert world.keeper.vault is vault


async def test_a_key_service_that_unwraps_to_another_key_makes_no_vault(world: World) -> None:
    """A vault that could not be opened again is never made."""

    async def other(wrapped: bytes, context: Any) -> bytes:
        return bytes(32)

    world.kms.unwrap = other  # type: ignore[method-assign]
    with pytest.raises(ServiceError) as refusal:
        await _made(world)
    assert refusal.value.code == "vault.kms_answer"
    assert world.keeper.vault is None


async def test_a_library_that_expands_a_seed_to_another_key_is_noticed(
    world: World, cached_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published public key must belong to the secret key that the seed gives after an upgrade."""
    from cipherkeep_enclave.engine import keys as engine

    import tfhers

    await _made(world)
    await world.generate()
    monkeypatch.setattr(engine, "seed", lambda secret, *, salt, info: tfhers.Seed.from_bytes(b"\x0a" * 32))
    assert (await _reopened(world)).code == "vault.record"


async def test_secrets_have_no_repr(world: World) -> None:
    """Vault and identity print neither secrets nor keys."""
    await _made(world)
    vault = world.keeper.vault
    shown = repr(vault) + repr(vault.identity) + str(vars(world.keeper))
    assert vault._secret.hex() not in shown and repr(vault._secret)[2:-1] not in shown
