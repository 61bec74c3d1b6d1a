"""The application's socket: order, bounds, and the end of everything when a handler is defective."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from cipherkeep_attestation.chain.header import Timestamp
from cipherkeep_host.chain import abci, stubs
from cipherkeep_host.chain.abci import CONNECTIONS, MAX_FRAME, Server, frame
from cipherkeep_host.chain.calls import Answer, Info, Verdict
from cipherkeep_host.errors import HostError

MESSAGES = stubs.messages()


class Recorder:
    """An application that notes what it is asked, and breaks on one transaction."""

    def __init__(self) -> None:
        self.checked: list[bytes] = []
        self.committed = 0

    def info(self) -> Info:
        return Info(1, "recorder", 7, b"\x07" * 32)

    def init_chain(self, chain_id: str, time: Timestamp, app_state: bytes, initial_height: int) -> bytes:
        return b"\x01" * 32

    def check_tx(self, tx: bytes, *, recheck: bool) -> Verdict:
        if tx == b"break":
            raise RuntimeError("a defect")
        self.checked.append(tx)
        return Verdict(0, tx[::-1], "log")

    def prepare_proposal(self, txs: Sequence[bytes], max_bytes: int) -> list[bytes]:
        return list(txs)[:1]

    def process_proposal(self, txs: Sequence[bytes]) -> bool:
        return len(txs) == 1

    def finalize_block(
        self, height: int, time: Timestamp, block_hash: bytes, txs: Sequence[bytes]
    ) -> tuple[list[Verdict], bytes]:
        return [Verdict(data=tx) for tx in txs], time.encode().ljust(32, b"\x00")

    def commit(self) -> None:
        self.committed += 1

    def query(self, path: str, data: bytes, height: int) -> Answer:
        return Answer(3, b"", 9, path)


@pytest_asyncio.fixture
async def server(folder: Path) -> AsyncIterator[Server]:
    """Listening."""
    made = Server(folder / "app.sock", Recorder())
    await made.start()
    yield made
    await made.close()


def request(**body: object) -> bytes:
    return bytes(MESSAGES.Request(**body).SerializeToString())


def check(tx: bytes) -> bytes:
    return request(check_tx=MESSAGES.RequestCheckTx(tx=tx))


async def answers(reader: asyncio.StreamReader, count: int) -> list[object]:
    found = []
    for _ in range(count):
        length = shift = 0
        while True:
            byte = (await asyncio.wait_for(reader.readexactly(1), 5))[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        found.append(MESSAGES.Response.FromString(await reader.readexactly(length)))
    return found


async def test_answers_come_in_order_however_the_bytes_arrive(server: Server) -> None:
    """Many frames in one piece, and one frame byte by byte."""
    reader, writer = await asyncio.open_unix_connection(str(server.path))
    txs = [b"%d" % n * 50 for n in range(200)]
    writer.write(b"".join(frame(check(tx)) for tx in txs))
    assert [one.check_tx.data for one in await answers(reader, 200)] == [tx[::-1] for tx in txs]  # type: ignore[attr-defined]
    for byte in frame(check(b"slow" * 60)):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    assert (await answers(reader, 1))[0].check_tx.data == b"wols" * 60  # type: ignore[attr-defined]
    writer.close()


async def test_every_call_reaches_the_application_and_comes_back(server: Server) -> None:
    """Each request has its own response with the application's values."""
    reader, writer = await asyncio.open_unix_connection(str(server.path))
    m = MESSAGES
    requests = [
        request(echo=m.RequestEcho(message="hello")),
        request(flush=m.RequestFlush()),
        request(info=m.RequestInfo()),
        request(init_chain=m.RequestInitChain(chain_id="c", initial_height=1)),
        request(prepare_proposal=m.RequestPrepareProposal(txs=[b"a", b"b"])),
        request(process_proposal=m.RequestProcessProposal(txs=[b"a", b"b"])),
        request(finalize_block=m.RequestFinalizeBlock(height=8, txs=[b"a"])),
        request(commit=m.RequestCommit()),
        request(query=m.RequestQuery(path="/p")),
        request(list_snapshots=m.RequestListSnapshots()),
        request(offer_snapshot=m.RequestOfferSnapshot()),
        request(load_snapshot_chunk=m.RequestLoadSnapshotChunk()),
        request(apply_snapshot_chunk=m.RequestApplySnapshotChunk()),
    ]
    writer.write(b"".join(map(frame, requests)))
    found: list = await answers(reader, len(requests))
    assert found[0].echo.message == "hello"
    assert (found[2].info.last_block_height, found[2].info.last_block_app_hash) == (7, b"\x07" * 32)
    assert found[3].init_chain.app_hash == b"\x01" * 32
    assert list(found[4].prepare_proposal.txs) == [b"a"]
    assert found[5].process_proposal.status == 2
    assert [one.data for one in found[6].finalize_block.tx_results] == [b"a"]
    assert found[7].WhichOneof("value") == "commit"
    assert (found[8].query.code, found[8].query.log, found[8].query.height) == (3, "/p", 9)
    assert not found[9].list_snapshots.snapshots
    assert (found[10].offer_snapshot.result, found[12].apply_snapshot_chunk.result) == (3, 2)
    writer.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\x7f",  # a frame of 256 MiB
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        frame(b"\xff\xff\xff"),  # no protobuf
        frame(b""),  # no request
        b"GET / HTTP/1.1\r\n\r\n" * 10,
    ],
)
async def test_what_is_no_request_ends_its_connection_and_no_other(server: Server, data: bytes) -> None:
    """Noise and a length beyond the bound close the connection before anything is set aside for them."""
    good_reader, good_writer = await asyncio.open_unix_connection(str(server.path))
    reader, writer = await asyncio.open_unix_connection(str(server.path))
    writer.write(data)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await asyncio.wait_for(reader.readexactly(1), 5)
    good_writer.write(frame(check(b"fine")))
    assert (await answers(good_reader, 1))[0].check_tx.data == b"enif"  # type: ignore[attr-defined]
    assert not server.halted.done()
    good_writer.close()
    writer.close()


async def test_a_defect_answers_nobody_any_more(server: Server) -> None:
    """All connections end, what came after in the same piece is not carried out, and the server says why."""
    reader, writer = await asyncio.open_unix_connection(str(server.path))
    _, other = await asyncio.open_unix_connection(str(server.path))
    writer.write(b"".join(frame(check(tx)) for tx in (b"first", b"break", b"never")))
    error = await asyncio.wait_for(server.halted, 5)
    assert isinstance(error, RuntimeError)
    application = server.dispatcher._application
    assert isinstance(application, Recorder)
    assert application.checked == [b"first"]
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await asyncio.wait_for(reader.readexactly(1), 5)
    late_reader, late = await asyncio.open_unix_connection(str(server.path))
    late.write(frame(check(b"late")))
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError, BrokenPipeError)):
        await asyncio.wait_for(late_reader.readexactly(1), 5)
    assert application.checked == [b"first"]
    for one in (writer, other, late):
        one.close()


async def test_connections_have_a_bound(server: Server) -> None:
    """One more than the bound is closed at once; when one ends there is room again."""
    pairs = [await asyncio.open_unix_connection(str(server.path)) for _ in range(CONNECTIONS)]
    await asyncio.sleep(0.05)
    reader, writer = await asyncio.open_unix_connection(str(server.path))
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await asyncio.wait_for(reader.readexactly(1), 5)
    assert len(server.connections) == CONNECTIONS
    for one in (*(pair[1] for pair in pairs), writer):
        one.close()


async def test_the_socket_is_the_owners_alone(server: Server) -> None:
    """Nobody else on the machine may drive the application."""
    assert server.path.stat().st_mode & 0o777 == 0o600


def test_a_frame_of_the_largest_block_fits() -> None:
    """A block of the consensus parameters' size, with its votes and evidence, is below the bound."""
    assert MAX_FRAME - abci.MAX_BLOCK >= 1 << 20


def test_missing_stubs_and_engine_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without set-up there is a sentence instead of an import error."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(HostError) as refused:
        stubs.messages()
    assert refused.value.code == "chain.stubs_missing"
    with pytest.raises(HostError) as refused:
        stubs.consensus_engine()
    assert refused.value.code == "node.binary_missing"
