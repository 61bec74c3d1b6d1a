"""Public decryption: the right values, signed as strangers verify it, refused for every reason there is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from cipherkeep_attestation.statements import eip712
from cipherkeep_attestation.statements.answer import REFUSALS
from cipherkeep_attestation.statements.binding import MAX_CIPHERTEXT
from cipherkeep_attestation.statements.request import PublicDecrypt
from cipherkeep_enclave.engine import open_packed
from cipherkeep_enclave.keeper import Body
from cipherkeep_enclave.operations import opening
from eth_account import Account
from eth_account.messages import encode_typed_data

from tests.enclave.harness import TERMS, World
from tests.simulators.coprocessor import secp256k1

VALUES = {
    "bool": (0, 1),
    "uint8": (2, 0xA5),
    "uint16": (3, 0xBEEF),
    "uint32": (4, 0xDEADBEEF),
    "uint64": (5, 2**64 - 3),
    "uint128": (6, 2**127 + 5),
    "uint160": (7, 0x1234567890ABCDEF1234567890ABCDEF12345678),
    "uint256": (8, 2**255 + 19),
}


@pytest.fixture
def packed(cached_engine: Any) -> bytes:
    """A packed uint64 of 1234."""
    data: bytes = cached_engine.packed(("uint64", 1234))
    return data


@pytest_asyncio.fixture
async def key_id(world: World, cached_engine: Any) -> bytes:
    """A key on the chain, in an open vault."""
    await world.bring_up()
    return await world.generate()


async def refused(world: World, request: PublicDecrypt, *data: bytes) -> str:
    """The code of the signed refusal."""
    (asked,) = world.ask(request)
    answer = world.open_answer(await world.process(asked, *data))
    assert answer.core.result is None and not answer.core.signatures
    assert answer.core.refusal in REFUSALS
    return answer.core.refusal


async def test_every_type_is_decrypted(world: World, key_id: bytes, cached_engine: Any) -> None:
    """One word for each value, in the order of the request: a batch of all eight types."""
    data = [cached_engine.packed((name, value)) for name, (_, value) in VALUES.items()]
    items = tuple(
        world.bind(key_id, item, number=number, fhe_type=fhe_type)
        for number, (item, (fhe_type, _)) in enumerate(zip(data, VALUES.values(), strict=True), 1)
    )
    (asked,) = world.ask(PublicDecrypt(key_id, items))
    answer = world.open_answer(await world.process(asked, *data))
    assert answer.core.result == {"decrypted": b"".join(v.to_bytes(32, "big") for _, v in VALUES.values())}
    assert answer.core.digests == tuple(item.digest for item in items)
    assert (answer.context.party, answer.context.head_height) == (1, world.chain.height)


async def test_a_stranger_accepts_the_signature(world: World, key_id: bytes, packed: bytes) -> None:
    """eth-account recovers the registered signing key from the typed data that fhEVM's contracts hash."""
    request = replace(world.public(key_id, packed, packed), extra_data=b"\x01\x02")
    (asked,) = world.ask(request)
    answer = world.open_answer(await world.process(asked, packed, packed))
    domain = TERMS.decryption
    message = encode_typed_data(
        domain_data={
            "name": domain.name,
            "version": domain.version,
            "chainId": domain.chain_id,
            "verifyingContract": "0x" + domain.verifying_contract.hex(),
        },
        message_types={
            "PublicDecryptVerification": [
                {"name": "ctHandles", "type": "bytes32[]"},
                {"name": "decryptedResult", "type": "bytes"},
                {"name": "extraData", "type": "bytes"},
            ]
        },
        message_data={
            "ctHandles": [item.handle for item in request.ciphertexts],
            "decryptedResult": answer.core.result["decrypted"],
            "extraData": b"\x01\x02",
        },
    )
    signer = Account.recover_message(message, signature=answer.core.signatures["eip712"])
    assert signer == eip712.checksum(world.keeper.vault.identity.address)


async def test_a_repeat_after_a_restart_has_the_same_core(world: World, key_id: bytes, packed: bytes) -> None:
    """Another boot, restored from what the host stored, gives the same core; only the context tells them apart."""
    (asked,) = world.ask(world.public(key_id, packed))
    first = world.open_answer(await world.process(asked, packed))
    again = world.open_answer(await world.process(asked, packed))
    world.boot()
    await world.bring_up()
    later = world.open_answer(await world.process(asked, packed))
    assert first.core.encode() == again.core.encode() == later.core.encode()
    assert later.context.boot != first.context.boot and later.context.sequence == 1


async def test_answers_of_a_boot_form_a_chain(world: World, key_id: bytes, packed: bytes) -> None:
    """Each answer names the one before it by hash, so that a withheld one shows."""
    from cipherkeep_attestation.statements.answer import answer_hash

    shown = world.ask(*[replace(world.public(key_id, packed), extra_data=bytes([n])) for n in range(3)])
    outcomes = [await world.process(asked, packed) for asked in shown]
    answers = [world.open_answer(outcome) for outcome in outcomes]
    first = answers[0].context.sequence
    assert [answer.context.sequence for answer in answers] == [first, first + 1, first + 2]
    assert [answer.context.previous for answer in answers[1:]] == [answer_hash(o.answer) for o in outcomes[:2]]


# --- refusals: votes ---


async def test_an_unknown_key(world: World, key_id: bytes, packed: bytes) -> None:
    """No key of that id is held here."""
    assert await refused(world, world.public(bytes(32), packed), packed) == "key.unknown"


async def test_a_key_of_another_instance(world: World, key_id: bytes, packed: bytes) -> None:
    """A key whose record names another instance serves no request of this one."""
    vault = world.keeper.vault
    held = vault._keys[key_id]
    vault._keys[key_id] = replace(held, record=replace(held.record, instance="two"))
    assert await refused(world, world.public(key_id, packed), packed) == "key.other_instance"
    vault._keys[key_id] = replace(held, record=replace(held.record, genesis=bytes(32)))
    assert await refused(world, world.public(key_id, packed), packed) == "key.other_instance"


async def test_a_retired_key(world: World, key_id: bytes, packed: bytes) -> None:
    """Once governance has retired a key, nothing is decrypted with it."""
    world.govern(world.governance.retire(key_id))
    assert await refused(world, world.public(key_id, packed), packed) == "key.retired"


async def test_missing_foreign_and_too_few_bindings(world: World, key_id: bytes, packed: bytes) -> None:
    """A ciphertext that not enough coprocessors of the current set vouch for is not opened, whatever the chain says."""
    keys = world.coprocessors.keys
    for signers in (
        [],
        keys[:1],
        [keys[0], keys[0]],
        [secp256k1("stranger"), secp256k1("other")],
        [keys[0], secp256k1("x")],
    ):
        request = world.public(key_id, packed, signers=signers)
        assert await refused(world, request, packed) == "binding", len(signers)


async def test_a_binding_for_another_key_or_acl(world: World, key_id: bytes, packed: bytes) -> None:
    """Bindings name the key and the host chain's contract."""
    for terms in (replace(TERMS, acl=b"\x01" * 20), replace(TERMS, host_chain_id=1)):
        assert await refused(world, world.public(key_id, packed, terms=terms), packed) == "binding"
    other = replace(world.public(bytes(32), packed), key_id=key_id)
    assert await refused(world, other, packed) == "binding"


async def test_coprocessors_that_were_replaced(world: World, key_id: bytes, packed: bytes) -> None:
    """The set in force is the newest that governance named."""
    request = world.public(key_id, packed)
    policy = replace(world.coprocessors.policy, signers=(*world.coprocessors.policy.signers[2:], b"\x01" * 20))
    world.govern(world.governance.set_coprocessors(replace(policy, threshold=1)))
    assert await refused(world, request, packed) == "binding"


async def test_without_the_insecure_setting_nobody_is_allowed_all(tmp_path: Any, cached_engine: Any) -> None:
    """An `insecure_` authoriser works only where the measured configuration names it: such a key is not even made."""
    world = World(tmp_path, insecure=())
    try:
        await world.bring_up()
        statement = world.governance.keygen(TERMS)
        world.govern(statement)
        from cipherkeep_attestation.statements.request import Keygen

        (asked,) = world.ask(Keygen(statement))
        assert world.open_answer(await world.process(asked)).core.refusal == "key.authoriser"
    finally:
        world.keeper.close()


async def test_wrong_types_and_formats(world: World, key_id: bytes, packed: bytes, cached_engine: Any) -> None:
    """Another type than bound, two values in one list, and bytes that are no list, are told apart and refused."""
    assert await refused(world, world.public(key_id, packed, fhe_type=4), packed) == "ciphertext.type"
    two = cached_engine.packed(("uint64", 1), ("uint64", 2))
    assert await refused(world, world.public(key_id, two), two) == "ciphertext.format"
    for junk in (b"", b"\0" * 100, packed[:-1], packed + b"\0", packed[:50] + b"\xff" * 20 + packed[70:]):
        assert await refused(world, world.public(key_id, junk), junk) == "ciphertext.format"
    assert await refused(world, world.public(key_id, packed, fhe_type=9), packed) == "binding"


async def test_an_oversized_ciphertext(
    world: World, key_id: bytes, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is larger than any packed list is refused unread, even if coprocessors signed for it: one byte too many."""
    read: list[int] = []

    def watch(secret: Any, data: bytes, expected: str) -> int:
        read.append(len(data))
        return open_packed(secret, data, expected)

    monkeypatch.setattr(opening, "open_packed", watch)
    largest = packed.ljust(MAX_CIPHERTEXT, b"\0")
    for data in (largest, largest + b"\0"):
        assert await refused(world, world.public(key_id, data), data) == "ciphertext.format"
    assert read == [MAX_CIPHERTEXT]


async def test_one_bad_ciphertext_refuses_all_of_its_request(world: World, key_id: bytes, packed: bytes) -> None:
    """A request is answered whole or not at all."""
    junk = b"junk"
    assert await refused(world, world.public(key_id, packed, junk, packed), packed, junk, packed) == "ciphertext.format"


async def test_bytes_that_are_no_request(world: World, key_id: bytes) -> None:
    """A lying validator's inbox may hold anything; it is refused by a vote."""
    for body in (b"", b"\xa0", b"anything"):
        (asked,) = world.ask(body)
        assert world.open_answer(await world.process(asked)).core.refusal == "request.malformed"


# --- errors: no votes ---


async def test_a_hosts_mistakes_are_no_votes(world: World, key_id: bytes, packed: bytes) -> None:
    """Wrong bytes, missing bytes, another body, a counter of no request: nothing is signed."""
    (asked,) = world.ask(world.public(key_id, packed))
    other = world.public(key_id, packed, packed).encode()
    cases = {
        "binding.digest": await world.process(asked, packed[:-1] + b"\1"),
        "ledger.ciphertexts": await world.process(asked),
        "ledger.body": await world.process(asked, packed, body=other),
        "request.not_in_inbox": await world.process(replace(asked, counter=99), packed),
    }
    for code, outcome in cases.items():
        assert (outcome.code, outcome.answer) == (code, b"")


async def test_one_bad_request_among_good_ones(world: World, key_id: bytes, packed: bytes) -> None:
    """A block's batch survives its worst request: the others are answered, each by itself."""
    requests = [replace(world.public(key_id, packed), extra_data=bytes([n])) for n in range(4)]
    shown = world.ask(*requests, b"no request at all")
    await world.advance()
    await world.show(shown[0].height)
    data = {0: (packed,), 1: (b"other",), 2: (), 3: (packed,), 4: ()}
    bodies = [Body(asked.counter, asked.body, data[n]) for n, asked in enumerate(shown)]
    outcomes, _ = await world.keeper.process(shown[0].height, bodies)
    assert [outcome.code for outcome in outcomes] == ["", "binding.digest", "ledger.ciphertexts", "", ""]
    assert world.open_answer(outcomes[4]).core.refusal == "request.malformed"
    assert all(world.open_answer(outcomes[n]).core.result for n in (0, 3))


async def test_a_large_batch_is_opened_beside_the_event_loop(world: World, key_id: bytes, packed: bytes) -> None:
    """128 ciphertexts in one request are answered, and come out as when they are opened one by one."""
    (asked,) = world.ask(world.public(key_id, *[packed] * 128))
    answer = world.open_answer(await world.process(asked, *[packed] * 128))
    assert answer.core.result == {"decrypted": (1234).to_bytes(32, "big") * 128}
