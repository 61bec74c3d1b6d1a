"""User decryption: today's client library opens it, only for the user who asked, and a repeat is the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cipherkeep_attestation.statements import eip712
from cipherkeep_attestation.statements.request import UserDecrypt
from cipherkeep_enclave.operations import signcryption

import tfhers
from tests.enclave.harness import TERMS, World

THIRD_PARTY = Path(__file__).parents[2] / "thirdparty"
VALUES = {
    "bool": (0, 1),
    "uint8": (2, 0xA5),
    "uint64": (5, 2**63 + 77),
    "uint160": (7, 2**159 + 1),
    "uint256": (8, 2**255 + 3),
}


def node(*arguments: str, order: Any = None) -> Any:
    """Run one of the strangers' clients."""
    program = shutil.which("node") or next(
        (str(path) for path in sorted(Path.home().glob(".cache/cipherkeep/node/*/bin/node"))), "node"
    )
    done = subprocess.run(
        [program, *arguments],
        input=None if order is None else json.dumps(order),
        capture_output=True,
        text=True,
        cwd=THIRD_PARTY,
        timeout=120,
        env={"PATH": os.environ.get("PATH", "")},
    )
    if done.returncode:
        raise ValueError(done.stderr)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def key_pair() -> dict[str, str]:
    """A key pair that Zama's client made."""
    made: dict[str, str] = node("user_decrypt.js", "keypair")
    return made


@pytest_asyncio.fixture
async def key_id(world: World, cached_engine: Any) -> bytes:
    await world.bring_up()
    return await world.generate()


@pytest.fixture
def packed(cached_engine: Any) -> bytes:
    data: bytes = cached_engine.packed(("uint64", 1234))
    return data


def own_key() -> tuple[bytes, bytes]:
    """A user's key in the library's envelope, and its secret half."""
    public, secret = tfhers.ml_kem_512_keypair(bytes(range(32)), bytes(32))
    return signcryption._ENVELOPE + public, secret


def request(world: World, key_id: bytes, *data: bytes, fhe_type: int = 5, **other: Any) -> UserDecrypt:
    """Alice's request for her own ciphertexts."""
    items = tuple(world.bind(key_id, item, number=n, fhe_type=fhe_type) for n, item in enumerate(data, 1))
    start = int(world.now.timestamp()) - 60
    fields = {"public_key": own_key()[0], "start": start, **other}
    return world.alice.request(key_id, *items, terms=TERMS, **fields)


async def refused(world: World, asked: UserDecrypt, *data: bytes) -> str:
    (shown,) = world.ask(asked)
    answer = world.open_answer(await world.process(shown, *data))
    assert answer.core.result is None and answer.core.refusal is not None
    return answer.core.refusal


def opened_by_stranger(world: World, asked: UserDecrypt, core: Any, key_pair: dict[str, str], **other: Any) -> Any:
    domain = TERMS.decryption
    order = {
        "signers": [eip712.checksum(world.keeper.vault.identity.address)],
        "client": eip712.checksum(asked.user),
        "request": {
            "client_address": eip712.checksum(asked.user),
            "enc_key": asked.public_key.hex(),
            "ciphertext_handles": [item.handle.hex() for item in asked.ciphertexts],
            "eip712_verifying_contract": eip712.checksum(domain.verifying_contract),
        },
        "domain": {
            "name": domain.name,
            "version": domain.version,
            "chain_id": list(domain.chain_id.to_bytes(32, "big")),
            "verifying_contract": eip712.checksum(domain.verifying_contract),
            "salt": None,
        },
        "responses": [
            {
                "signature": core.signatures["eip712"].hex(),
                "payload": core.result["payload"].hex(),
                "extra_data": "",
            }
        ],
        **key_pair,
        **other,
    }
    return node("user_decrypt.js", "open", order=order)


async def test_the_strangers_client_opens_it(
    world: World, key_id: bytes, cached_engine: Any, key_pair: dict[str, str]
) -> None:
    """node-tkms 0.12.8 with verify = true reads every value of a batch of five types."""
    data = [cached_engine.packed((name, value)) for name, (_, value) in VALUES.items()]
    items = tuple(
        world.bind(key_id, item, number=number, fhe_type=fhe_type)
        for number, (item, (fhe_type, _)) in enumerate(zip(data, VALUES.values(), strict=True), 1)
    )
    asked = world.alice.request(
        key_id,
        *items,
        start=int(world.now.timestamp()) - 60,
        terms=TERMS,
        public_key=bytes.fromhex(key_pair["publicKey"]),
    )
    (shown,) = world.ask(asked)
    core = world.open_answer(await world.process(shown, *data)).core
    opened = opened_by_stranger(world, asked, core, key_pair)
    expected = [(value, fhe_type) for fhe_type, value in VALUES.values()]
    assert [(int(item["value"], 16), item["fheType"]) for item in opened] == expected
    stranger = {"signers": [eip712.checksum(world.bob.address)]}
    with pytest.raises(ValueError, match="refuses"):
        opened_by_stranger(world, asked, core, key_pair, **stranger)


async def test_the_user_opens_it_with_her_key(world: World, key_id: bytes, packed: bytes) -> None:
    """The layout of §signcryption, read by code of the test's own: the plaintext is there and bound to the link."""
    asked = request(world, key_id, packed)
    (shown,) = world.ask(asked)
    core = world.open_answer(await world.process(shown, packed)).core
    payload = core.result["payload"]
    position = 8 + 41
    link = payload[position + 8 : position + 40]
    position += 40 + 8
    assert int.from_bytes(payload[position : position + 4], "little") == 5
    length = int.from_bytes(payload[position + 4 : position + 12], "little")
    sealed = payload[position + 12 : position + 12 + length]
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    shared = tfhers.ml_kem_512_decapsulate(own_key()[1], sealed[20 : 20 + 768])
    inner = AESGCM(shared).decrypt(sealed[:12], sealed[20 + 768 + 8 :], None)
    assert inner[:16] == (8).to_bytes(8, "little") + (1234).to_bytes(8, "little")
    assert inner[20:60] == (32).to_bytes(8, "little") + link
    assert payload.endswith((1).to_bytes(4, "little") + (0).to_bytes(4, "little"))


async def test_a_repeat_after_a_restart_has_the_same_core(world: World, key_id: bytes, packed: bytes) -> None:
    """Encapsulation, nonce and signatures follow from the vault's secret: a repeat gives away nothing new."""
    asked = request(world, key_id, packed, packed)
    (shown,) = world.ask(asked)
    first = world.open_answer(await world.process(shown, packed, packed)).core
    world.boot()
    await world.bring_up()
    assert world.open_answer(await world.process(shown, packed, packed)).core.encode() == first.encode()


async def test_randomness_is_never_shared(world: World, key_id: bytes, packed: bytes) -> None:
    """Two ciphertexts of one request, and two requests for one ciphertext, never share nonce or encapsulation."""
    shown = world.ask(request(world, key_id, packed, packed), request(world, key_id, packed, days=9))
    payloads = [
        world.open_answer(await world.process(asked, *data)).core.result["payload"]
        for asked, data in zip(shown, ((packed, packed), (packed,)), strict=True)
    ]
    nonces = set()
    for payload, count in zip(payloads, (2, 1), strict=True):
        position = 8 + 41 + 40 + 8
        for _ in range(count):
            length = int.from_bytes(payload[position + 4 : position + 12], "little")
            sealed = payload[position + 12 : position + 12 + length]
            nonces |= {sealed[:12], sealed[20:52]}
            position += 12 + length + 40 + 4
    assert len(nonces) == 6


async def test_only_the_owner_and_whom_she_granted(world: World, key_id: bytes, packed: bytes) -> None:
    """Bob gets Alice's value with her grant, and with nothing else."""
    start = int(world.now.timestamp()) - 60
    item = world.bind(key_id, packed)

    def by_bob(*grants: Any) -> UserDecrypt:
        return world.bob.request(key_id, item, start=start, terms=TERMS, public_key=own_key()[0], grants=grants)

    later = start + 10_000
    assert await refused(world, by_bob(), packed) == "authorisation"
    own = world.bob.grant(item.handle, world.bob.address, valid_until=later, terms=TERMS)
    assert await refused(world, by_bob(own), packed) == "authorisation"
    expired = world.alice.grant(item.handle, world.bob.address, valid_until=start, terms=TERMS)
    assert await refused(world, by_bob(expired), packed) == "authorisation"
    other = world.alice.grant(bytes(32), world.bob.address, valid_until=later, terms=TERMS)
    assert await refused(world, by_bob(other), packed) == "authorisation"
    grant = world.alice.grant(item.handle, world.bob.address, valid_until=later, terms=TERMS)
    (shown,) = world.ask(by_bob(grant))
    assert world.open_answer(await world.process(shown, packed)).core.result


async def test_a_signature_of_another(world: World, key_id: bytes, packed: bytes) -> None:
    """A request in Alice's name that she did not sign is refused, and so is one changed after she signed."""
    asked = request(world, key_id, packed)
    forged = replace(asked, signature=world.bob.sign(asked, TERMS).signature)
    assert await refused(world, forged, packed) == "authorisation"
    assert await refused(world, replace(asked, days=8), packed) == "authorisation"
    assert await refused(world, replace(asked, public_key=own_key()[0][:-1] + b"\1"), packed) == "authorisation"


async def test_validity_is_judged_on_the_head(world: World, key_id: bytes, packed: bytes) -> None:
    """Too early and too late, by the chain's time."""
    now = int(world.now.timestamp())
    assert await refused(world, request(world, key_id, packed, start=now + 3600), packed) == "request.freshness"
    assert await refused(world, request(world, key_id, packed, start=now - 9 * 86_400), packed) == "request.freshness"


async def test_keys_that_no_client_makes(world: World, key_id: bytes, packed: bytes) -> None:
    """Another envelope, length or a coefficient out of range is refused before anything is opened for it."""
    good = own_key()[0]
    for bad in (good[:-1], good + b"\0", b"\0" + good[1:], good[69:], good[:69] + b"\xff" * 800):
        assert await refused(world, request(world, key_id, packed, public_key=bad), packed) == "user.public_key"
