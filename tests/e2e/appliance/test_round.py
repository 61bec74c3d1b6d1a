"""One whole round: encrypted by node-tfhe, opened for everyone and for one user, judged by others' clients."""

from __future__ import annotations

import time

import coincurve
from cipherkeep_attestation.statements import eip712, layout
from cipherkeep_attestation.statements.binding import Grant
from cipherkeep_host.appliance.plan import GATEWAY_CHAIN_ID, HOST_CHAIN_ID
from cipherkeep_host.cli.evidence import attestation
from cipherkeep_host.cli.session import Session
from cipherkeep_host.cli.values import CONTRACT
from cipherkeep_host.client.user_decryption import UserKey

from tests.e2e.appliance import strangers
from tests.e2e.appliance.conftest import Inputs
from tests.e2e.appliance.running import Running, refused, send


async def registered_signers(session: Session) -> list[str]:
    """Addresses of the keys with which the parties registered, proven and then made an address by eth-keys."""
    last = await session.chain.last_key(session.trust.instance, layout.PARTIES)
    found = []
    for index in range(1, last + 1):
        value = (await session.chain.prove(session.trust.instance, layout.PARTIES, index)).value
        assert value is not None
        signing_key = layout.PartyRecord.decode(value).signing_key
        assert signing_key is not None
        found.append(strangers.party_address(signing_key.hex()))
    return found


async def user_answer(
    session: Session, inputs: Inputs, user: coincurve.PrivateKey, grants: tuple[Grant, ...] = ()
) -> list[tuple[int, int]]:
    """Ask for a user decryption with keys and signature of strangers' making; what node-tkms opens."""
    pair = strangers.keypair()
    terms = (await session.client.key(inputs.key_id)).terms
    asked = strangers.user_request(
        secret=user.secret,
        chain_id=HOST_CHAIN_ID,
        contract=terms.decryption.verifying_contract,
        key_id=inputs.key_id,
        ciphertexts=inputs.bound,
        public_key=bytes.fromhex(pair["publicKey"]),
        contracts=[CONTRACT],
        start=int(time.time()) - 60,
        grants=grants,
    )
    (sent,) = await send(session, asked)
    verified = await session.client.wait(sent.id)
    opened = strangers.open_answer(
        verified,
        terms=terms,
        user=strangers.address(user.secret),
        pair=pair,
        signers=await registered_signers(session),
    )
    return strangers.numbers(opened)


def expected(inputs: Inputs) -> list[tuple[int, int]]:
    """(number of the type, value), by the numbers of fhEVM's types."""
    numbers = {"bool": 0, "uint64": 5, "uint160": 7}
    return [(numbers[name], value) for name, value in inputs.values]


async def test_all_parts_are_started_in_order(appliance: Running, session: Session) -> None:
    """Chain and measured image come first, the coprocessor, which needs a key, last."""
    assert appliance.stages == [
        "chain",
        "image",
        "services",
        "enclave",
        "governance",
        "registration",
        "key",
        "coprocessor",
    ]
    assert len(await session.client.keys()) >= 1


async def test_the_enclave_attests_to_whoever_asks(appliance: Running, session: Session) -> None:
    """A document over a fresh nonce holds the image that the launcher measured and the configuration of this chain."""
    found = await attestation(appliance.environment)
    assert found["PCR0 (image)"] == appliance.environment.pcrs["0"]
    assert found["configuration"] == appliance.environment.configuration_digest
    assert found["insecure settings"] == "insecure_allow_all, insecure_any_host_measurement"


async def test_a_strangers_values_are_opened_for_everyone(session: Session, inputs: Inputs) -> None:
    """What node-tfhe encrypted comes back, and eth-account finds the registered key under fhEVM's typed data."""
    asked = await session.client.request_public_decrypt(inputs.key_id, inputs.handles)
    verified = await session.client.wait(asked.id)
    assert [(name, value) for _, name, value in verified.values] == list(inputs.values)
    assert verified.core.result is not None
    result = verified.core.result["decrypted"]
    assert [int.from_bytes(result[at : at + 32], "big") for at in range(0, len(result), 32)] == [
        value for _, value in inputs.values
    ]
    typed = {
        "chain_id": GATEWAY_CHAIN_ID,
        "contract": (await session.client.key(inputs.key_id)).terms.decryption.verifying_contract,
        "handles": inputs.handles,
        "result": result,
        "extra_data": b"",
        "signature": verified.core.signatures["eip712"],
    }
    signers = await registered_signers(session)
    assert strangers.public_signer(**typed) in signers
    changed = bytes((*result[:-1], result[-1] ^ 1))
    assert strangers.public_signer(**{**typed, "result": changed}) not in signers
    assert strangers.public_signer(**{**typed, "chain_id": HOST_CHAIN_ID}) not in signers


async def test_a_user_opens_her_values_with_the_strangers_client(session: Session, inputs: Inputs) -> None:
    """node-tkms, with verification on, opens what the enclave re-encrypted to a key that node-tkms made."""
    assert await user_answer(session, inputs, inputs.user) == expected(inputs)


async def test_a_granted_user_opens_them_too(session: Session, inputs: Inputs) -> None:
    """The owner signs a grant for each handle; with these another user has them re-encrypted to her own key."""
    other = coincurve.PrivateKey()
    address = bytes.fromhex(strangers.address(other.secret)[2:])
    domain = (await session.client.key(inputs.key_id)).terms.bindings()
    grants = []
    for handle in inputs.handles:
        unsigned = Grant(handle, address, int(time.time()) + 3600, b"")
        signature = eip712.sign(unsigned.signed_digest(domain), inputs.user)
        grants.append(Grant(handle, address, unsigned.valid_until, signature))
    assert await user_answer(session, inputs, other, tuple(grants)) == expected(inputs)


async def test_an_ungranted_user_is_refused_by_the_contract(session: Session, inputs: Inputs) -> None:
    """Without the owner's grant a request is in no block, and the refusal says by which rule."""
    other = coincurve.PrivateKey()
    async with refused("authorisation.not_granted"):
        await session.client.request_user_decrypt(
            inputs.key_id, inputs.handles, user=other, user_key=UserKey.generate(), contracts=[CONTRACT]
        )


async def test_what_is_computed_on_ciphertexts_is_opened(session: Session, inputs: Inputs) -> None:
    """The sum, the comparison and the choice that it makes are those of the values."""
    first, _, _, second = inputs.handles
    small, large = inputs.values[0][1], inputs.values[3][1]
    client, key_id, owner = session.client, inputs.key_id, inputs.user
    total = await client.compute(key_id, "add", [first, second], owner=owner)
    less = await client.compute(key_id, "lt", [first, second], owner=owner)
    chosen = await client.compute(key_id, "select", [less.handle, first, second], owner=owner)
    asked = await client.request_public_decrypt(key_id, [total.handle, less.handle, chosen.handle])
    verified = await client.wait(asked.id)
    values = [(name, value) for _, name, value in verified.values]
    assert values == [("uint64", (small + large) % (1 << 64)), ("bool", 1), ("uint64", small)]


async def test_a_value_encrypted_here_is_opened(session: Session, inputs: Inputs) -> None:
    """The bindings' own encryption makes lists that the coprocessor takes."""
    values = [("uint8", 255), ("uint128", (1 << 127) + 5)]
    bound = await session.client.encrypt(inputs.key_id, values, user=inputs.owner, contract_address=CONTRACT)
    asked = await session.client.request_public_decrypt(inputs.key_id, [item.handle for item in bound])
    verified = await session.client.wait(asked.id)
    assert [(name, value) for _, name, value in verified.values] == values


async def test_a_request_shows_its_way_into_the_chain(session: Session, inputs: Inputs) -> None:
    """Its state is proven from the trust root on: pending or final, with the digest of the one answer that counted."""
    asked = await session.client.request_public_decrypt(inputs.key_id, inputs.handles[:1])
    verified = await session.client.wait(asked.id)
    state = await session.client.state(asked.id)
    assert state.record.state == layout.FINAL
    assert state.record.answers == ((1, verified.vouchers[0].answer_hash),)
    assert state.record.height == asked.height < state.header_height
