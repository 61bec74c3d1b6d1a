"""Streams between host and enclave: addresses, the hybrid form, frames, listeners, relays."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cipherkeep_wire.transport import (
    Address,
    Stream,
    TransportError,
    connect,
    forward,
    listen,
    read_frame,
    relay,
    write_frame,
)
from hypothesis import given
from hypothesis import strategies as st

MIB = 1 << 20


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose paths are short enough for unix sockets."""
    with tempfile.TemporaryDirectory(prefix="ck-", dir="/tmp") as path:
        yield Path(path)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends back what comes, passes the end on."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


@contextlib.asynccontextmanager
async def stream_pair(folder: Path, name: str) -> AsyncIterator[tuple[Stream, Stream]]:
    """The two ends of one connection over a unix socket."""
    accepted: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result((reader, writer))
        await over.wait()

    async with await listen(Address("unix", str(folder / name)), hold) as listener:
        near = await connect(listener.address)
        try:
            yield near, await accepted
        finally:
            over.set()
            near[1].transport.abort()


@contextlib.asynccontextmanager
async def opened(address: Address) -> AsyncIterator[Stream]:
    """A connection that is closed at the end of its block."""
    stream = await connect(address)
    try:
        yield stream
    finally:
        stream[1].transport.abort()


def code_of(refusal: pytest.ExceptionInfo[TransportError]) -> str:
    """The code of a refusal that pytest caught."""
    return refusal.value.code


# --- addresses ---


@pytest.mark.parametrize(
    "text",
    [
        "vsock://16:5001",
        "vsock://4294967295:4294967294",
        "unix:///tmp/a b.sock",
        "unix-vsock:///tmp/e.vsock#5002",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:65535",
    ],
)
def test_an_address_reads_back_as_written(text: str) -> None:
    """Each of the four forms has one spelling."""
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unix://relative",
        "unix://",
        "unix:///a#1",
        "unix:///a\n",
        "unix:///" + "x" * 107,
        "unix:///" + "x" * 300,
        "unix-vsock:///a",
        "unix-vsock:///a#0",
        "unix-vsock:///a#05",
        "unix-vsock:///a#4294967295",
        "vsock://3:0",
        "vsock://4294967296:1",
        "vsock://-1:1",
        "vsock://3:1 ",
        "tcp://0.0.0.0:1",
        "tcp://localhost:1",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:+1",
        "tcp://127.0.0.1:١",
        "http://127.0.0.1:1",
    ],
)
def test_anything_else_is_no_address(text: str) -> None:
    """A host name, a relative path, an odd number: refused, never guessed at."""
    with pytest.raises(TransportError) as refusal:
        Address.parse(text)
    assert code_of(refusal) == "transport.address"


@given(st.text(max_size=40))
def test_whatever_parses_has_one_spelling(text: str) -> None:
    """Reading an address and writing it gives the same text, or it is refused."""
    for prefix in ("", "unix:///", "unix-vsock:///a#", "vsock://", "tcp://127.0.0.1:"):
        with contextlib.suppress(TransportError):
            assert str(Address.parse(prefix + text)) == prefix + text


# --- connecting and listening ---


async def test_unix_and_tcp_carry_bytes(folder: Path) -> None:
    """What one end writes the other reads, over both kinds of socket."""
    for address in (Address("unix", str(folder / "s")), Address("tcp")):
        async with await listen(address, echo) as listener, opened(listener.address) as (reader, writer):
            writer.write(b"hello")
            writer.write_eof()
            assert await reader.read() == b"hello"


async def test_nobody_listening_is_said(folder: Path) -> None:
    """A missing socket and a closed port have the same code."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        for address in (Address("unix", str(folder / "none")), Address("tcp", port=unused.getsockname()[1])):
            with pytest.raises(TransportError) as refusal:
                await connect(address)
            assert code_of(refusal) == "transport.unreachable"


async def test_a_socket_belongs_to_its_owner_only(folder: Path) -> None:
    """Other users of the machine cannot open the socket, and its file goes with the listener."""
    path = folder / "s"
    async with await listen(Address("unix", str(path)), echo):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_a_live_socket_is_never_taken_over(folder: Path) -> None:
    """A second listener is refused while the first lives; the file a dead one left is replaced."""
    address = Address("unix", str(folder / "s"))
    async with await listen(address, echo):
        with pytest.raises(TransportError) as refusal:
            await listen(address, echo)
        assert code_of(refusal) == "transport.in_use"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(address.path)
    dead.close()
    async with await listen(address, echo) as listener, opened(listener.address):
        pass


async def test_a_plain_file_in_the_way_stays(folder: Path) -> None:
    """Only sockets are ever removed."""
    (folder / "s").write_text("precious")
    with pytest.raises(TransportError) as refusal:
        await listen(Address("unix", str(folder / "s")), echo)
    assert code_of(refusal) == "transport.in_use"
    assert (folder / "s").read_text() == "precious"


async def test_a_full_listener_turns_newcomers_away(folder: Path) -> None:
    """Beyond its bound a listener closes what it accepts, and serves again when there is room."""
    async with contextlib.AsyncExitStack() as stack:
        listener = await listen(Address("unix", str(folder / "s")), echo, connections=2)
        await stack.enter_async_context(listener)
        async with opened(listener.address) as (reader, writer):
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            second, _ = await stack.enter_async_context(opened(listener.address))
            third, _ = await stack.enter_async_context(opened(listener.address))
            assert await third.read() == b""
            assert listener.turned_away == 1
            writer.write_eof()
            assert await reader.read() == b""
            await asyncio.sleep(0.05)
            assert listener.open_connections == 1
            fourth, writer = await stack.enter_async_context(opened(listener.address))
            writer.write(b"y")
            assert await fourth.readexactly(1) == b"y"
            assert not second.at_eof()


# --- the hybrid form ---


async def test_the_hybrid_form_asks_for_a_port(folder: Path) -> None:
    """CONNECT goes out, OK comes back, and payload that follows OK in the same packet is not lost."""
    lines = []

    async def monitor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        writer.write(b"OK 1073741824\npayload")

    monitored = await listen(Address("unix", str(folder / "e.vsock")), monitor)
    async with monitored, opened(Address("unix-vsock", str(folder / "e.vsock"), port=5001)) as (reader, _):
        assert await reader.read() == b"payload"
    assert lines == [b"CONNECT 5001\n"]


@pytest.mark.parametrize("answer", [b"", b"OK", b"OK \n", b"ok 1\n", b"OK 1 2\n", b"NO 1\n", b"O" * 1000, b"\n"])
async def test_a_monitor_that_does_not_say_ok_is_refused(folder: Path, answer: bytes) -> None:
    """Silence, another word or an endless line: no stream is handed out."""

    async def monitor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)

    async with await listen(Address("unix", str(folder / "e.vsock")), monitor):
        with pytest.raises(TransportError) as refusal:
            await connect(Address("unix-vsock", str(folder / "e.vsock"), port=1))
    assert code_of(refusal) == "transport.refused"


async def test_a_monitor_that_says_nothing_is_left(folder: Path) -> None:
    """The deadline covers the whole of connecting, the monitor's answer included."""

    async def monitor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with await listen(Address("unix", str(folder / "e.vsock")), monitor):
        with pytest.raises(TransportError) as refusal:
            await connect(Address("unix-vsock", str(folder / "e.vsock"), port=1), timeout=0.1)
    assert code_of(refusal) == "transport.timeout"


async def test_listening_in_the_hybrid_form_means_the_path_with_the_port(folder: Path) -> None:
    """The monitor delivers an enclave's connections at `<path>_<port>`."""
    listener = await listen(Address("unix-vsock", str(folder / "e.vsock"), port=7002), echo)
    async with listener, opened(Address("unix", str(folder / "e.vsock_7002"))) as (reader, writer):
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"


# --- frames ---


async def test_frames_carry_what_they_say(folder: Path) -> None:
    """Frames of every size up to the maximum arrive whole and in order."""
    async with stream_pair(folder, "s") as ((_, writer), (reader, _)):
        for size in (0, 1, 1000, 70_000):
            sending = asyncio.create_task(write_frame(writer, bytes(size), maximum=70_000, timeout=5))
            assert await read_frame(reader, maximum=70_000, timeout=5) == bytes(size)
            await sending


async def test_an_oversize_frame_is_refused_by_its_length_alone(folder: Path) -> None:
    """Four bytes that announce 4 GiB are enough to refuse; not a byte of it is waited for."""
    async with stream_pair(folder, "s") as ((_, writer), (reader, _)):
        writer.write(b"\xff\xff\xff\xff")
        with pytest.raises(TransportError) as refusal:
            await read_frame(reader, maximum=1000, timeout=5)
        assert code_of(refusal) == "transport.frame_size"
        with pytest.raises(TransportError) as refusal:
            await write_frame(writer, bytes(1001), maximum=1000, timeout=5)
        assert code_of(refusal) == "transport.frame_size"


async def test_a_frame_that_trickles_in_meets_the_deadline(folder: Path) -> None:
    """A byte now and then does not move the deadline."""
    async with stream_pair(folder, "s") as ((_, writer), (reader, _)):

        async def trickle() -> None:
            for byte in bytes([0, 0, 0, 100]) + bytes(100):
                writer.write(bytes([byte]))
                await asyncio.sleep(0.02)

        drip = asyncio.create_task(trickle())
        with pytest.raises(TransportError) as refusal:
            await read_frame(reader, maximum=1000, timeout=0.2)
        assert code_of(refusal) == "transport.timeout"
        drip.cancel()


async def test_a_frame_cut_short_is_no_frame(folder: Path) -> None:
    """An end inside the length or the body gives no bytes."""
    for cut in (b"", b"\0\0", b"\0\0\0\5abc"):
        async with stream_pair(folder, "s") as ((_, writer), (reader, _)):
            writer.write(cut)
            writer.write_eof()
            with pytest.raises(TransportError) as refusal:
                await read_frame(reader, maximum=1000, timeout=5)
            assert code_of(refusal) == "transport.closed"


async def test_a_reader_who_never_reads_meets_the_deadline(folder: Path) -> None:
    """Writing to somebody who does not read ends in time, with bounded memory."""
    async with stream_pair(folder, "s") as ((_, writer), _):
        with pytest.raises(TransportError) as refusal:
            for _ in range(100):
                await write_frame(writer, bytes(MIB), maximum=MIB, timeout=0.2)
        assert code_of(refusal) == "transport.timeout"


# --- relays ---


async def drain(reader: asyncio.StreamReader) -> int:
    """Reads to the end and counts."""
    count = 0
    while data := await reader.read(1 << 18):
        count += len(data)
    return count


async def pour(writer: asyncio.StreamWriter, count: int) -> None:
    """Writes `count` bytes and ends the stream."""
    chunk = bytes(1 << 18)
    for _ in range(count // len(chunk)):
        writer.write(chunk)
        await writer.drain()
    writer.write_eof()


async def test_both_ways_at_once_never_deadlock(folder: Path) -> None:
    """64 MiB in each direction at the same time pass through bounded buffers."""
    size = 64 * MIB
    async with stream_pair(folder, "a") as (left, a), stream_pair(folder, "b") as (right, b):
        relaying = asyncio.create_task(relay(a, b))
        async with asyncio.timeout(60):
            results = await asyncio.gather(
                pour(left[1], size), pour(right[1], size), drain(left[0]), drain(right[0]), relaying
            )
    assert results[2:] == [size, size, (size, size)]


async def test_a_half_closed_stream_still_brings_the_answer(folder: Path) -> None:
    """The end of a question is passed on, and the answer comes back after it."""
    async with stream_pair(folder, "a") as (left, a), stream_pair(folder, "b") as (right, b):
        relaying = asyncio.create_task(relay(a, b))
        left[1].write(b"question")
        left[1].write_eof()
        assert await right[0].read() == b"question"
        right[1].write(b"answer")
        right[1].write_eof()
        assert await left[0].read() == b"answer"
        assert await relaying == (8, 6)


async def test_an_idle_relay_is_cut(folder: Path) -> None:
    """Traffic keeps a relay alive past its idle time; silence ends it, for both sides."""
    async with stream_pair(folder, "a") as (left, a), stream_pair(folder, "b") as (right, b):
        relaying = asyncio.create_task(relay(a, b, idle_timeout=0.3))
        for _ in range(5):
            await asyncio.sleep(0.15)
            left[1].write(b"x")
            assert await right[0].readexactly(1) == b"x"
        with pytest.raises(TransportError) as refusal:
            await relaying
        assert code_of(refusal) == "transport.timeout"
        assert await left[0].read() == b""
        assert await right[0].read() == b""


async def test_a_peer_that_does_not_read_is_cut(folder: Path) -> None:
    """A stuck reader holds a relay no longer than the idle time, and no more than its buffers."""
    async with stream_pair(folder, "a") as (left, a), stream_pair(folder, "b") as (_, b):
        relaying = asyncio.create_task(relay(a, b, idle_timeout=0.3))
        pouring = asyncio.create_task(pour(left[1], 64 * MIB))
        with pytest.raises(TransportError) as refusal:
            await relaying
        assert code_of(refusal) == "transport.timeout"
        with contextlib.suppress(OSError):
            await pouring


async def test_a_broken_side_ends_the_other(folder: Path) -> None:
    """When one side vanishes the other sees the end at once."""
    async with stream_pair(folder, "a") as (left, a), stream_pair(folder, "b") as (right, b):
        relaying = asyncio.create_task(relay(a, b))
        left[1].write(b"x")
        assert await right[0].readexactly(1) == b"x"
        left[1].transport.abort()
        async with asyncio.timeout(5):
            assert await right[0].read() == b""
        right[1].write_eof()
        with contextlib.suppress(TransportError):
            await relaying


async def test_a_cancelled_relay_closes_both_streams(folder: Path) -> None:
    """Cancelling leaves neither tasks nor open streams."""
    before = len(asyncio.all_tasks())
    async with stream_pair(folder, "a") as (left, a), stream_pair(folder, "b") as (right, b):
        relaying = asyncio.create_task(relay(a, b))
        await asyncio.sleep(0.05)
        relaying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await relaying
        assert await left[0].read() == b""
        assert await right[0].read() == b""
    assert len(asyncio.all_tasks()) == before


async def test_forwarding_joins_two_addresses(folder: Path) -> None:
    """What is dialled at one address is served at the other, until either end closes."""
    server = await listen(Address("unix", str(folder / "inside")), echo)
    async with server, await forward(Address("tcp"), server.address) as front, opened(front.address) as stream:
        stream[1].write(b"x" * 1000)
        stream[1].write_eof()
        assert await stream[0].read() == b"x" * 1000


async def test_forwarding_to_nobody_closes_the_connection(folder: Path) -> None:
    """When the far end cannot be had, the near end is closed and not left waiting."""
    nowhere = Address("unix", str(folder / "nowhere"))
    async with await forward(Address("tcp"), nowhere) as front, opened(front.address) as (reader, _):
        with contextlib.suppress(OSError):
            assert await reader.read() == b""


@given(st.lists(st.binary(max_size=50), max_size=8), st.lists(st.integers(1, 7), min_size=1, max_size=20))
def test_frames_survive_any_fragmentation(frames: list[bytes], sizes: list[int]) -> None:
    """However the bytes are cut on their way, the same frames come out, and then the end."""

    async def run() -> None:
        reader = asyncio.StreamReader()
        data = b"".join(len(frame).to_bytes(4) + frame for frame in frames)
        position = 0
        while position < len(data):
            size = sizes[position % len(sizes)]
            reader.feed_data(data[position : position + size])
            position += size
        reader.feed_eof()
        for frame in frames:
            assert await read_frame(reader, maximum=50, timeout=1) == frame
        with pytest.raises(TransportError) as refusal:
            await read_frame(reader, maximum=50, timeout=1)
        assert code_of(refusal) == "transport.closed"

    asyncio.run(run())
