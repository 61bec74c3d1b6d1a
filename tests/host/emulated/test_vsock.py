"""The emulated vsock device: both directions in the hybrid form, half-close, and dialling into nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cipherkeep_host.emulated.vsock import VsockDevice, enclave_folder, host_socket
from cipherkeep_wire.transport import Address, TransportError, connect, listen


@pytest.fixture
async def run(folder: Path) -> AsyncIterator[Path]:
    """The run folder of an open device."""
    device = VsockDevice(folder)
    await device.open()
    yield folder
    await device.close()
    assert not host_socket(folder).exists()


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers everything it reads, once the other side has finished, in upper case."""
    data = await reader.read(-1)
    writer.write(data.upper())
    await writer.drain()


async def ask(address: str, data: bytes) -> bytes:
    """Send, half-close, read to the end."""
    reader, writer = await connect(Address.parse(address), timeout=5)
    writer.write(data)
    await writer.drain()
    writer.write_eof()
    answer = await reader.read(-1)
    writer.close()
    return answer


async def test_the_host_dials_the_enclave(run: Path) -> None:
    """CONNECT on the host's socket reaches the enclave's listener, and a half-close is passed on."""
    async with await listen(Address.parse(f"unix://{enclave_folder(run)}/5000.sock"), shout):
        assert await ask(f"unix-vsock://{host_socket(run)}#5000", b"hello") == b"HELLO"


async def test_the_enclave_dials_the_host(run: Path) -> None:
    """The host listens where a VM monitor would deliver; the enclave dials in the same form."""
    async with await listen(Address.parse(f"unix-vsock://{host_socket(run)}#8000"), shout):
        assert await ask(f"unix-vsock://{enclave_folder(run)}/out.sock#8000", b"out") == b"OUT"


async def test_a_long_stream_arrives_whole(run: Path) -> None:
    """Sixteen megabytes pass through bounded buffers."""
    data = bytes(range(97, 123)) * (16 * (1 << 20) // 26)
    async with await listen(Address.parse(f"unix://{enclave_folder(run)}/5000.sock"), shout):
        assert await ask(f"unix-vsock://{host_socket(run)}#5000", data) == data.upper()


async def test_streams_do_not_mix(run: Path) -> None:
    """Fifty at once, each with its own answer."""
    async with await listen(Address.parse(f"unix://{enclave_folder(run)}/5000.sock"), shout):
        address = f"unix-vsock://{host_socket(run)}#5000"
        answers = await asyncio.gather(*(ask(address, f"n{number}".encode()) for number in range(50)))
    assert answers == [f"N{number}".encode() for number in range(50)]


async def test_a_port_nobody_listens_on_refuses(run: Path) -> None:
    """No OK, and the device goes on."""
    with pytest.raises(TransportError) as refusal:
        await connect(Address.parse(f"unix-vsock://{host_socket(run)}#4999"), timeout=5)
    assert refusal.value.code == "transport.refused"
    async with await listen(Address.parse(f"unix://{enclave_folder(run)}/5000.sock"), shout):
        assert await ask(f"unix-vsock://{host_socket(run)}#5000", b"x") == b"X"


@pytest.mark.parametrize(
    "line",
    [
        b"CONNECT\n",
        b"CONNECT 0\n",
        b"CONNECT 05000\n",
        b"CONNECT -1\n",
        b"CONNECT 4294967296\n",
        b"CONNECT ../5000\n",
        b"connect 5000\n",
        b"CONNECT 5000\r\n",
        b"C" * 100,
        b"",
    ],
)
async def test_a_line_out_of_form_ends_the_stream(run: Path, line: bytes) -> None:
    """A port is a number and never part of a path."""
    async with await listen(Address.parse(f"unix://{enclave_folder(run)}/5000.sock"), shout):
        reader, writer = await asyncio.open_unix_connection(str(host_socket(run)))
        writer.write(line)
        writer.write_eof()
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(-1), 10) == b""
        writer.close()


async def test_closing_cuts_streams(folder: Path) -> None:
    """When the machine stops, whoever still talks reads an end."""
    device = VsockDevice(folder)
    await device.open()
    async with await listen(Address.parse(f"unix://{enclave_folder(folder)}/5000.sock"), shout):
        reader, writer = await connect(Address.parse(f"unix-vsock://{host_socket(folder)}#5000"), timeout=5)
        await device.close()
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(-1), 10) == b""
        writer.close()
