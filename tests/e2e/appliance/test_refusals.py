"""Bad input over the whole path: each is refused with its code, by whoever can see it first, and nothing is lost."""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import coincurve
import grpc
import httpx
import pytest
from cipherkeep_attestation import cbor
from cipherkeep_attestation.statements import answer as answers
from cipherkeep_attestation.statements import layout
from cipherkeep_attestation.statements.binding import MAX_CIPHERTEXT, Ciphertext
from cipherkeep_attestation.statements.request import MAX_BATCH, Origin, PublicDecrypt
from cipherkeep_attestation.statements.transaction import Message, Transaction
from cipherkeep_host.cli.session import Session
from cipherkeep_host.cli.values import CONTRACT
from cipherkeep_host.client import contract
from cipherkeep_host.client.user_decryption import UserKey
from cipherkeep_host.coprocessor.signer import Signer, load_key_file
from cipherkeep_host.errors import HostError
from cipherkeep_host.key_files import load_ed25519
from cipherkeep_host.process import parse_address
from cipherkeep_host.store.client import StoreClient
from cipherkeep_wire import kms_pb2, kms_pb2_grpc
from cipherkeep_wire.channel import TlsIdentity
from cipherkeep_wire.channel.identity import SERVER_NAME
from cipherkeep_wire.errors import RemoteError, remote_error
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.e2e.appliance.conftest import Inputs
from tests.e2e.appliance.hosts import host
from tests.e2e.appliance.running import Running, refused, send, until


async def signed(session: Session, inputs: Inputs, unsigned: Ciphertext, signer: Signer | None = None) -> Ciphertext:
    """A binding by a signer: the coprocessor of this appliance, which here says anything."""
    signer = signer or load_key_file(Path(session.environment.keys) / "coprocessor.key")
    domain = (await session.client.key(inputs.key_id)).terms.bindings()
    return replace(unsigned, signatures=(signer.sign(unsigned, key_id=inputs.key_id, domain=domain),))


async def lie(session: Session, inputs: Inputs, **changes: Any) -> Ciphertext:
    """A binding of a new handle that says something else than the first value's."""
    changed = replace(inputs.bound[0], handle=secrets.token_bytes(32), **changes)
    return await signed(session, inputs, changed)


async def refusal(session: Session, inputs: Inputs, *bound: Ciphertext) -> str:
    """The refusal that the enclave signed and the chain agreed on."""
    (asked,) = await send(session, PublicDecrypt(inputs.key_id, bound))
    with pytest.raises(HostError) as caught:
        await session.client.wait(asked.id)
    assert caught.value.code == "client.not_final"
    assert (await session.client.state(asked.id)).record.state == layout.REFUSED
    return caught.value.detail.rpartition(": ")[2]


async def values(session: Session, request_id: bytes) -> list[tuple[str, int]]:
    """What a request opened."""
    return [(name, value) for _, name, value in (await session.client.wait(request_id)).values]


async def put(session: Session, data: bytes) -> bytes:
    """Have the store keep bytes; their digest."""
    async with StoreClient(parse_address(session.environment.store)) as store:
        return await store.put_bytes(data)


# --- refused before they are in a block ---


async def test_an_unknown_key(session: Session, inputs: Inputs) -> None:
    """A request under a key that was never generated is in no block."""
    async with refused("fhevm.key_unknown"):
        await send(session, PublicDecrypt(secrets.token_bytes(32), inputs.bound))
    async with refused("client.key_unknown"):
        await session.client.request_public_decrypt(secrets.token_bytes(32), inputs.handles)


async def test_a_handle_that_nobody_bound(session: Session, inputs: Inputs) -> None:
    """A handle without a ciphertext is refused where its binding is looked for."""
    async with refused("coprocessor.handle"):
        await session.client.request_public_decrypt(inputs.key_id, [secrets.token_bytes(32)])


async def test_missing_foreign_and_changed_bindings(session: Session, inputs: Inputs) -> None:
    """No signature, a stranger's, and the coprocessor's for something else bind nothing."""
    first = inputs.bound[0]
    async with refused("binding.quorum"):
        await send(session, PublicDecrypt(inputs.key_id, (replace(first, signatures=()),)))
    stranger = Signer(coincurve.PrivateKey())
    async with refused("binding.stranger"):
        await send(session, PublicDecrypt(inputs.key_id, (await signed(session, inputs, first, stranger),)))
    for changed in (
        replace(first, digest=secrets.token_bytes(32)),
        replace(first, fhe_type=4),
        replace(first, owner=secrets.token_bytes(20)),
        replace(first, handle=secrets.token_bytes(32)),
    ):
        async with refused("binding.stranger"):
            await send(session, PublicDecrypt(inputs.key_id, (changed,)))


async def test_a_type_and_a_format_that_are_not_decrypted(session: Session, inputs: Inputs) -> None:
    """Even when the coprocessor signs it."""
    async with refused("binding.type"):
        await send(session, PublicDecrypt(inputs.key_id, (await lie(session, inputs, fhe_type=99),)))
    async with refused("binding.format"):
        await send(session, PublicDecrypt(inputs.key_id, (await lie(session, inputs, format=1),)))


async def test_an_oversized_batch(session: Session, inputs: Inputs) -> None:
    """One ciphertext more than a request may have refuses it, before any signature is looked at."""
    many = [replace(inputs.bound[0], handle=secrets.token_bytes(32)) for _ in range(MAX_BATCH + 1)]
    async with refused("request.batch"):
        await send(session, PublicDecrypt(inputs.key_id, tuple(many)))
    async with refused("request.duplicate_handle"):
        await send(session, PublicDecrypt(inputs.key_id, (inputs.bound[0], inputs.bound[0])))


async def test_a_list_proven_for_another_user(session: Session, inputs: Inputs) -> None:
    """node-tfhe's proof is bound to its user and contract: nobody else can have the values bound to himself."""
    names = [name for name, _ in inputs.values]
    other = secrets.token_bytes(20)
    async with refused("coprocessor.proof"):
        await session.client.bind(inputs.key_id, inputs.data, names, user=other, contract_address=CONTRACT)
    async with refused("coprocessor.list"):
        await session.client.bind(inputs.key_id, inputs.data[:-1], names, user=inputs.owner, contract_address=CONTRACT)


async def test_a_computation_that_the_owner_did_not_sign(session: Session, inputs: Inputs) -> None:
    """Results belong to the operands' owner, so only she may have them made."""
    async with refused("coprocessor.owner"):
        await session.client.compute(
            inputs.key_id, "sub", [inputs.handles[0], inputs.handles[3]], owner=coincurve.PrivateKey()
        )
    async with refused("coprocessor.operation"):
        await session.client.compute(inputs.key_id, "add", [inputs.handles[0], inputs.handles[1]], owner=inputs.user)


async def test_a_users_request_that_is_over(session: Session, inputs: Inputs) -> None:
    """Validity is judged at the block's time: what has ended, and what has not begun, is refused."""
    now = 1_700_000_000
    for start, code in ((now, "authorisation.expired"), (now * 2, "authorisation.not_yet")):
        async with refused(code):
            await session.client.request_user_decrypt(
                inputs.key_id,
                inputs.handles,
                user=inputs.user,
                user_key=UserKey.generate(),
                contracts=[CONTRACT],
                start=start,
            )


# --- refused by the enclave, with a signed answer ---


async def test_a_binding_that_names_another_type(session: Session, inputs: Inputs) -> None:
    """A coprocessor's lie about the type passes the chain, which sees no ciphertext, and stops at the enclave."""
    assert await refusal(session, inputs, await lie(session, inputs, fhe_type=4)) == "ciphertext.type"


async def test_a_binding_to_bytes_that_are_no_ciphertext(appliance: Running, session: Session, inputs: Inputs) -> None:
    """Neither junk nor a ciphertext with one changed byte in its header is opened."""
    real = appliance.blob(inputs.bound[0].digest).read_bytes()
    for data in (secrets.token_bytes(3000), real[:-1], bytes((real[0] ^ 1,)) + real[1:]):
        digest = await put(session, data)
        assert await refusal(session, inputs, await lie(session, inputs, digest=digest)) == "ciphertext.format"


async def test_one_bad_request_among_good_ones(session: Session, inputs: Inputs) -> None:
    """Three requests of one block: the one in the middle is refused, the others are answered."""
    good = [PublicDecrypt(inputs.key_id, (item,)) for item in (inputs.bound[0], inputs.bound[3])]
    bad = PublicDecrypt(inputs.key_id, (inputs.bound[0], await lie(session, inputs, fhe_type=4)))
    asked = await send(session, good[0], bad, good[1])
    assert len({item.height for item in asked}) == 1
    assert await values(session, asked[0].id) == [inputs.values[0]]
    assert await values(session, asked[2].id) == [inputs.values[3]]
    with pytest.raises(HostError) as caught:
        await session.client.wait(asked[1].id)
    assert caught.value.code == "client.not_final" and caught.value.detail.endswith(": ciphertext.type")


# --- what is never handed to the enclave ---


async def test_an_oversized_ciphertext_holds_nobody_up(session: Session, inputs: Inputs) -> None:
    """A ciphertext larger than is read stays unanswered, its requester learns why, and others are answered."""
    digest = await put(session, secrets.token_bytes(MAX_CIPHERTEXT + 1))
    before = await failures(session, "store.too_large")
    bad = PublicDecrypt(inputs.key_id, (await lie(session, inputs, digest=digest),))
    asked = await send(session, bad, PublicDecrypt(inputs.key_id, inputs.bound))
    assert await values(session, asked[1].id) == list(inputs.values)
    await more_failures(session, "store.too_large", before)
    assert (await session.client.state(asked[0].id)).record.state == layout.PENDING
    await waits_in_vain(session, asked[0].id, "client.ciphertext_too_large")


async def waits_in_vain(session: Session, request_id: bytes, code: str) -> None:
    """Whoever waits for this request is told why it is not answered."""
    async with refused(code):
        await session.client.wait(request_id, timeout=1)


async def test_a_ciphertext_whose_digest_differs(appliance: Running, session: Session, inputs: Inputs) -> None:
    """Other bytes under a ciphertext's name, or none, are noticed and not opened, and the requester is told; when the
    right ones are back, they are."""
    key_id = inputs.key_id
    bound = await session.client.compute(key_id, "sub", [inputs.handles[3], inputs.handles[0]], owner=inputs.user)
    file = appliance.blob(bound.digest)
    right = file.read_bytes()
    aside = appliance.state / "aside"
    file.rename(aside)
    file.write_bytes(bytes((*right[:-1], right[-1] ^ 1)))
    try:
        before = await failures(session, "store.digest")
        asked = await session.client.request_public_decrypt(key_id, [bound.handle])
        await more_failures(session, "store.digest", before)
        assert (await session.client.state(asked.id)).record.state == layout.PENDING
        await waits_in_vain(session, asked.id, "client.ciphertext_damaged")
        file.unlink()
        await waits_in_vain(session, asked.id, "client.ciphertext_missing")
    finally:
        aside.replace(file)
    assert await values(session, asked.id) == [("uint64", 5)]


async def failures(session: Session, code: str) -> float:
    """How often the connector failed with a code, by its metrics."""
    transport = httpx.AsyncHTTPTransport(uds=session.environment.connector.removeprefix("unix://"))
    async with httpx.AsyncClient(transport=transport, timeout=5) as client:
        text = (await client.get("http://connector/metrics")).text
    name = f'connector_failures_total{{code="{code}"}}'
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


async def more_failures(session: Session, code: str, before: float) -> None:
    """Wait until the connector has failed with a code once more."""

    async def look() -> float | None:
        now = await failures(session, code)
        return now if now > before else None

    await until(look, f"a failure {code}")


# --- repeated ---


async def test_a_repeated_request_attaches_to_the_first_answer(session: Session, inputs: Inputs) -> None:
    """The same request of a foreign contract, sent again before and after its answer, is one request."""
    source = Origin(31_337, CONTRACT, secrets.randbelow(1 << 60))
    body = PublicDecrypt(inputs.key_id, inputs.bound, b"", source)
    first, second = await send(session, body, body)
    assert (first.duplicate, second.duplicate) == (False, True) and second.id == first.id
    answered = await session.client.wait(first.id)
    (third,) = await send(session, body)
    assert (third.duplicate, third.id, third.state) == (True, first.id, layout.FINAL)
    assert (await session.client.wait(third.id)).answer == answered.answer


async def test_a_repeated_transaction_does_nothing(session: Session, inputs: Inputs) -> None:
    """Bytes that were in a block once, and other bytes with a nonce that is used up, come into no other."""
    message = Message(
        session.trust.instance, "public_decrypt", {"request": PublicDecrypt(inputs.key_id, inputs.bound).encode()}
    )
    sent = await session.chain.send([message])
    (data,) = await session.chain.rpc.transactions(sent.height)
    before = await session.chain.last_key(session.trust.instance, layout.REQUESTS)
    async with refused("node.refused"):
        await session.chain.rpc.broadcast(data)
    _, nonce = await session.chain.account()
    key = load_ed25519(Path(session.environment.keys) / "client.key")
    other = Transaction(session.chain.chain_id, session.chain.sender, nonce, (message,), fee_limit=1).sign(key)
    assert (await session.chain.rpc.broadcast(other)).data == b"chain.nonce"
    assert await session.chain.last_key(session.trust.instance, layout.REQUESTS) == before


async def test_a_repeated_answer_changes_nothing(session: Session, inputs: Inputs) -> None:
    """Anyone may bring a party's answer again: it is counted as what it is, and the record stays."""
    (asked,) = await send(session, PublicDecrypt(inputs.key_id, inputs.bound))
    answered = await session.client.wait(asked.id)
    before = (await session.client.state(asked.id)).record
    message = Message(session.trust.instance, "answer", {"answers": [answered.answer, answered.answer]})
    sent = await session.chain.send([message])
    assert cbor.decode(sent.results[0]) == [[asked.id, "counted"], [asked.id, "counted"]]
    assert (await session.client.state(asked.id)).record == before


async def test_an_answer_by_a_stranger(session: Session, inputs: Inputs) -> None:
    """An answer that is not signed with a registered party's key never enters a block."""
    (asked,) = await send(session, PublicDecrypt(inputs.key_id, inputs.bound))
    answered = answers.unverified((await session.client.wait(asked.id)).answer)
    forged = answered.sign(Ed25519PrivateKey.generate())
    async with refused("cose.signature"):
        await session.chain.send([Message(session.trust.instance, "answer", {"answers": [forged]})])
    nobody = answers.Answer(answered.core, replace(answered.context, party=7)).sign(Ed25519PrivateKey.generate())
    async with refused("answer.party"):
        await session.chain.send([Message(session.trust.instance, "answer", {"answers": [nobody]})])


# --- a host that lies to the enclave ---


async def test_a_request_that_is_not_on_the_chain(appliance: Running, session: Session, inputs: Inputs) -> None:
    """Its host may attest and be served, and still gets nothing opened that no proven inbox names."""
    async with refused("client.request_unknown"):
        await session.client.state(secrets.token_bytes(32))
    (asked,) = await send(session, PublicDecrypt(inputs.key_id, inputs.bound[:1]))
    await session.client.wait(asked.id)
    ciphertexts = [appliance.blob(item.digest).read_bytes() for item in inputs.bound]
    body = await contract.body_of(session.node, session.trust.instance, asked.counter)
    async with host(appliance, session) as found:
        await found.show(asked.height)
        other = PublicDecrypt(inputs.key_id, inputs.bound[3:]).encode()
        for counter, data, ciphertext, code in (
            (asked.counter, other, ciphertexts[3], "ledger.body"),
            (asked.counter + 1000, body, ciphertexts[0], "request.not_in_inbox"),
            (asked.counter, body, ciphertexts[3], "binding.digest"),
        ):
            outcome = await found.process(asked.height, counter, data, ciphertext)
            assert (outcome.answer, outcome.code) == (b"", code)
        outcome = await found.process(asked.height, asked.counter, body, *ciphertexts[:1])
        assert outcome.answer


async def test_a_forged_inbox(appliance: Running, session: Session, inputs: Inputs) -> None:
    """An inbox with one request more, or another's bytes, has no proof under any header."""
    (asked,) = await send(session, PublicDecrypt(inputs.key_id, inputs.bound[:1]))
    await session.client.wait(asked.id)
    async with host(appliance, session) as found, found.feed.lock:
        proven, header = await found.feed.show(layout.INBOX, asked.height)
        assert proven.value is not None
        entries = layout.Inbox.decode(proven.value).entries
        more = replace(entries[0], counter=asked.counter + 1, id=secrets.token_bytes(32))
        forged = layout.Inbox((*entries, more)).encode()
        for inbox, height, code in (
            (forged, asked.height, "proof.value"),
            (proven.value, asked.height - 1, "proof.key"),
        ):
            with pytest.raises(RemoteError) as caught:
                await found.enclave.inbox(height=height, header_height=header, inbox=inbox, proof=proven.proof.encode())
            assert caught.value.code == code


async def test_a_client_that_does_not_attest(appliance: Running, session: Session) -> None:
    """Without a handshake there is no call: neither in clear nor with a certificate of one's own."""
    path = appliance.paths.socket("grpc")
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        assert await status_code(channel) == "channel.broken"
    stranger = TlsIdentity.generate("initiator", datetime.now(UTC))
    credentials = grpc.ssl_channel_credentials(
        root_certificates=await asyncio.to_thread(server_certificate, path),
        private_key=stranger.private_key_pem,
        certificate_chain=stranger.certificate_pem,
    )
    options = [("grpc.ssl_target_name_override", SERVER_NAME), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(f"unix:{path}", credentials, options) as channel:
        assert await status_code(channel) == "channel.broken"
    assert (await appliance.health("connector"))["ready"] is True


async def status_code(channel: grpc.aio.Channel) -> str:
    """The code with which the enclave refuses the simplest of its calls."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        stub = kms_pb2_grpc.KmsStub(channel)  # type: ignore[no-untyped-call]  (generated without types)
        await stub.Status(kms_pb2.StatusRequest(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "verif" not in (caught.value.details() or "").lower(), "it is the enclave that hangs up, not this side"
    return remote_error(caught.value).code


def server_certificate(path: Path) -> bytes:
    """The certificate that the enclave shows to anybody who begins TLS, in PEM."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(10)
        line.connect(str(path))
        with context.wrap_socket(line, server_hostname=SERVER_NAME) as shaken:
            found = shaken.getpeercert(binary_form=True)
    assert found is not None
    return ssl.DER_cert_to_PEM_cert(found).encode()
