"""The service over gRPC: every call of the protocol once, its limits, and how refusals travel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from cipherkeep_attestation.chain.fork import verify_fork
from cipherkeep_attestation.chain.header import LightBlock
from cipherkeep_attestation.statements import registration
from cipherkeep_attestation.statements.answer import Answer
from cipherkeep_attestation.statements.request import Keygen
from cipherkeep_enclave import service
from cipherkeep_enclave.limits import EnclaveLimits
from cipherkeep_wire import kms_pb2 as pb
from cipherkeep_wire import kms_pb2_grpc
from cipherkeep_wire.errors import RemoteError, remote_error

from tests.enclave.harness import INSTANCE, TERMS, World


@pytest_asyncio.fixture
async def stub(world: World, folder: Path) -> AsyncIterator[Any]:
    """A client of the world's keeper, over a unix socket."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(tuple(service.handlers(world.keeper)))
    server.add_insecure_port(f"unix:{folder}/s")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{folder}/s") as channel:
        yield kms_pb2_grpc.KmsStub(channel)
    await server.stop(0)


async def refused(call: Any) -> RemoteError:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return remote_error(failure.value)


async def advance(world: World, stub: Any) -> pb.AdvanceReply:
    reply: pb.AdvanceReply = await stub.Advance(
        pb.AdvanceRequest(
            light_blocks=[world.chain.encoded(h) for h in range(world.sent_height + 1, world.chain.height + 1)],
            control=world.control.encode(),
            control_proof=world.chain.prove(INSTANCE, "control", 1).encode(),
            statements=world.statements[world.sent_statements :],
        )
    )
    world.sent_height, world.sent_statements = world.chain.height, len(world.statements)
    return reply


def proof(world: World, collection: str, key: int) -> bytes:
    return world.chain.prove(INSTANCE, collection, key).encode()


async def test_the_whole_protocol(world: World, stub: Any, cached_engine: Any) -> None:
    """Advance, Freshen, Open, Register, Inbox, Process, Material and Status, as a connector calls them."""
    status = await stub.Status(pb.StatusRequest())
    assert (status.head_height, status.open, status.fresh, status.party_index) == (0, False, False, 0)
    world.govern(world.governance.set_coprocessors(world.coprocessors.policy), world.admission())
    world.chain.produce(1, {f"{INSTANCE}/freshness": {1: status.freshness_nonce}})
    world.write_record()
    reply = await advance(world, stub)
    assert (reply.head_height, reply.control_serial) == (world.chain.height, 2)
    await stub.Freshen(pb.FreshenRequest(header_height=world.chain.height, key=1, proof=proof(world, "freshness", 1)))
    opened = await stub.Open(
        pb.OpenRequest(header_height=world.chain.height, record=world.record.encode(), proof=proof(world, "parties", 1))
    )
    assert [item.kind for item in opened.vault.objects] == ["root"]

    registered = await stub.Register(pb.RegisterRequest(block_height=world.chain.height))
    found = registration.read(registered.registration)
    assert found.claims.manifest[0] == 1 and found.claims.party == world.party
    assert found.claims.configuration == world.configuration.encode()
    nonce, public_key, user_data = world.documents[-1]
    assert (nonce, public_key) == (world.chain.header_hash(world.chain.height), found.claims.evidence_key)
    assert user_data == found.claims.user_data()

    statement = world.governance.keygen(TERMS)
    world.govern(statement)
    (asked,) = world.ask(Keygen(statement))
    await advance(world, stub)
    shown = await stub.Inbox(
        pb.InboxRequest(
            height=asked.height,
            header_height=world.chain.height,
            inbox=world.chain.value(INSTANCE, "inbox", asked.height),
            proof=proof(world, "inbox", asked.height),
        )
    )
    assert shown.requests == 1
    done = await stub.Process(
        pb.ProcessRequest(height=asked.height, requests=[pb.RequestBody(counter=asked.counter, body=asked.body)])
    )
    answer = Answer.open(done.outcomes[0].answer, evidence_key=found.claims.evidence_key)
    assert answer.core.refusal is None and {item.kind for item in done.vault.objects} == {"root", "key"}
    chunks = [chunk.data async for chunk in stub.Material(pb.MaterialRequest(key_id=asked.id, kind="public_key"))]
    assert len(b"".join(chunks)) == answer.core.result["material"][0][2]

    status = await stub.Status(pb.StatusRequest())
    assert (status.open, status.fresh, list(status.keys)) == (True, True, [asked.id])
    assert (status.manifest_serial, status.manifest_digest) == answer.context.manifest
    assert (status.evidence_key, status.signing_key) == (found.claims.evidence_key, found.claims.signing_key)
    assert status.head_hash == world.chain.header_hash(world.chain.height)


async def test_a_fork_that_was_seen_is_handed_out_as_evidence(world: World, stub: Any) -> None:
    """What a connector needs to report it: which height is held, and the block against it."""
    await world.bring_up()
    fork = world.chain.fork_at(world.chain.height - 1)
    fork.produce()
    block = fork.encoded(fork.height)
    refusal = await refused(stub.Advance(pb.AdvanceRequest(light_blocks=[block])))
    assert refusal.code == "lightclient.conflict"
    status = await stub.Status(pb.StatusRequest())
    assert (status.frozen, status.fork_other) == ("lightclient.conflict", block)
    assert status.fork_held_height == world.chain.height
    held = world.chain.light_block(status.fork_held_height).header
    conflict = world.keeper.ledger.frozen
    assert conflict is not None and verify_fork(held, LightBlock.decode(status.fork_other)) == conflict.digest


async def test_refusals_travel_with_their_codes(world: World, stub: Any) -> None:
    """Code, sentence, and whether the same call may succeed later."""
    closed = await refused(stub.Process(pb.ProcessRequest(height=1)))
    assert (closed.code, closed.retryable) == ("service.closed", True)
    evidence = await refused(stub.Advance(pb.AdvanceRequest(light_blocks=[b"junk"])))
    assert evidence.code.startswith("protobuf.") and not evidence.retryable
    assert (await refused(stub.Freshen(pb.FreshenRequest()))).code == "service.not_anchored"
    assert (await refused(stub.Inbox(pb.InboxRequest(height=1, header_height=2)))).code == "service.not_anchored"
    assert (await refused(stub.Register(pb.RegisterRequest()))).code == "service.closed"
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        [chunk async for chunk in stub.Material(pb.MaterialRequest(kind="public_key"))]
    assert remote_error(failure.value).code == "service.closed"


async def test_too_much_is_refused_at_once(world: World, stub: Any) -> None:
    """More parts or bytes than a limit allows are refused before any of them is looked at."""
    world.keeper.limits = limits = EnclaveLimits()
    too_many = pb.AdvanceRequest(light_blocks=[b""] * (limits.light_blocks + 1))
    assert (await refused(stub.Advance(too_many))).code == "service.size"
    statements = pb.AdvanceRequest(statements=[b""] * (limits.statements + 1))
    assert (await refused(stub.Advance(statements))).code == "service.size"
    batch = pb.ProcessRequest(requests=[pb.RequestBody()] * (limits.requests + 1))
    assert (await refused(stub.Process(batch))).code == "service.size"
    many = pb.RequestBody(ciphertexts=[b""] * (limits.ciphertexts + 1))
    assert (await refused(stub.Process(pb.ProcessRequest(requests=[many])))).code == "service.size"
    objects = pb.OpenRequest(objects=[pb.SealedObject()] * (limits.objects + 1))
    assert (await refused(stub.Open(objects))).code == "service.size"
    large = pb.OpenRequest(objects=[pb.SealedObject(data=bytes(limits.object_bytes + 1))])
    assert (await refused(stub.Open(large))).code == "service.size"


async def test_more_calls_than_are_served(world: World, stub: Any, cached_engine: Any) -> None:
    """Beyond the bound a call is told to come again; those in flight are answered."""
    await world.bring_up()
    key_id = await world.generate()
    packed = cached_engine.packed(("uint64", 5))
    (asked,) = world.ask(world.public(key_id, *[packed] * 20))
    await world.advance()
    await world.show(asked.height)
    body = pb.RequestBody(counter=asked.counter, body=asked.body, ciphertexts=[packed] * 20)
    calls = [stub.Process(pb.ProcessRequest(height=asked.height, requests=[body])) for _ in range(100)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    codes = [remote_error(r).code for r in results if isinstance(r, grpc.aio.AioRpcError)]
    assert set(codes) <= {"service.busy"} and len(codes) < 100
    assert all(r.outcomes[0].answer for r in results if not isinstance(r, BaseException))
    cores = {
        Answer.open(r.outcomes[0].answer, evidence_key=world.keeper.vault.identity.evidence_key).core.encode()
        for r in results
        if not isinstance(r, BaseException)
    }
    assert len(cores) == 1


async def test_status_is_served_while_a_key_is_made(world: World, stub: Any) -> None:
    """Key generation does not hold the event loop: a health check is answered beside it."""
    await world.bring_up()
    statement = world.governance.keygen(replace(TERMS))
    world.govern(statement)
    (asked,) = world.ask(Keygen(statement))
    await world.advance()
    await world.show(asked.height)
    body = pb.RequestBody(counter=asked.counter, body=asked.body)
    making = asyncio.create_task(_process(stub, asked.height, body))
    loop = asyncio.get_running_loop()
    worst = 0.0
    while not making.done():
        begun = loop.time()
        await stub.Status(pb.StatusRequest())
        worst = max(worst, loop.time() - begun)
        await asyncio.sleep(0.01)
    assert (await making).outcomes[0].answer
    assert worst < 1.0


async def _process(stub: Any, height: int, body: pb.RequestBody) -> pb.ProcessReply:
    reply: pb.ProcessReply = await stub.Process(pb.ProcessRequest(height=height, requests=[body]))
    return reply


async def test_an_unknown_failure_tells_its_type_only(world: World, stub: Any) -> None:
    """What the enclave does not know travels as service.internal; no message of an exception leaves."""

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret in a message")

    world.keeper.advance = broken  # type: ignore[method-assign]
    failure = await refused(stub.Advance(pb.AdvanceRequest()))
    assert failure.code == "service.internal"
    assert "RuntimeError" in str(failure) and "secret" not in str(failure)
