"""The store: what it takes, what it refuses, what survives."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from cipherkeep_host.errors import HostError
from cipherkeep_host.store.blobs import Folder, Limits
from cipherkeep_host.store.client import StoreClient, http_client
from cipherkeep_wire.transport import Address, listen


def name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def incoming(folder: Path) -> list[Path]:
    """What is being written there, or was left behind."""
    return list(folder.glob(".incoming*"))


async def code_of(call: Any) -> str:
    with pytest.raises(HostError) as refusal:
        await call
    return refusal.value.code


async def test_what_is_stored_comes_back(client: StoreClient) -> None:
    """A blob is found under its digest, and storing it twice is storing it once."""
    digest = await client.put_bytes(b"ciphertext")
    assert await client.put_bytes(b"ciphertext") == digest == hashlib.sha256(b"ciphertext").digest()
    assert await client.get_bytes(digest, limit=100) == b"ciphertext"
    assert await client.has(digest)
    assert not await client.has(bytes(32))


async def test_large_files_are_streamed(client: StoreClient, folder: Path) -> None:
    """A file of several megabytes goes in and comes out unchanged, and its client keeps no temporary file."""
    path, back = folder / "large", folder / "back"
    path.write_bytes(os.urandom(5 << 20))
    digest = await client.put_file(path)
    await client.get_to_file(digest, back, limit=5 << 20)
    assert back.read_bytes() == path.read_bytes()
    assert not incoming(folder)


@pytest.mark.parametrize("size", [3_000, 3 << 20])
async def test_a_damaged_blob_is_healed_by_storing_it_again(store: Any, client: StoreClient, size: int) -> None:
    """Other bytes, as many, fewer or more, are replaced by the right ones, and no blob is counted twice."""
    data = os.urandom(size)
    digest = await client.put_bytes(data)
    file = next(path for path in (store.data / "blobs").rglob(digest.hex()))
    for damaged in (bytes(size), data[:-1], data + b"\0"):
        file.chmod(0o600)
        file.write_bytes(damaged)
        assert await code_of(client.get_bytes(digest, limit=size + 1)) == "store.digest"
        assert await client.put_bytes(data) == digest
        assert await client.get_bytes(digest, limit=size) == data
    async with http_client(store.address) as http:
        assert (await http.get("/healthz")).json()["blobs"] == 1
        answer = await http.put(f"/blobs/{digest.hex()}", content=data)
        assert answer.status_code == 200


async def test_many_small_blobs_come_at_once(client: StoreClient) -> None:
    """Those that are there and small; the others are left out."""
    small = [b"blob %d" % number for number in range(100)]
    digests = [await client.put_bytes(data) for data in small]
    large = await client.put_bytes(bytes(65 << 10))
    found = await client.get_many([*digests, large, bytes(32)])
    assert found == dict(zip(digests, small, strict=True))
    assert await client.get_many([]) == {}


async def test_too_many_digests_are_refused(store: Any) -> None:
    """A call is bounded, and names digests or nothing."""
    async with http_client(store.address) as http:
        for body in (bytes(20_000), b"\xa0", b"", b"\x81\x41\x00"):
            answer = await http.post("/blobs", content=body)
            assert answer.json()["code"] in ("store.too_large", "store.name")


async def test_an_empty_blob_is_a_blob(client: StoreClient) -> None:
    """Nothing has a digest too."""
    digest = await client.put_bytes(b"")
    assert await client.get_bytes(digest, limit=0) == b""


async def test_bytes_of_another_digest_are_refused(store: Any, client: StoreClient) -> None:
    """A blob that is not what its name says is not stored, and leaves nothing behind."""
    async with http_client(store.address) as http:
        answer = await http.put(f"/blobs/{'0' * 64}", content=b"something else")
    assert (answer.status_code, answer.json()["code"]) == (422, "store.digest")
    assert answer.json()["sentence"] and answer.json()["hint"]
    assert not await client.has(bytes(32))
    assert not list((store.data / "incoming").iterdir())


@pytest.mark.parametrize("name", ["abc", "A" * 64, "../../etc/passwd", "g" * 64, "0" * 63, "0" * 65, "%2e%2e"])
async def test_only_digests_are_names(store: Any, name: str) -> None:
    """No name leads outside of the folder."""
    async with http_client(store.address) as http:
        for method in ("GET", "PUT", "HEAD"):
            answer = await http.request(method, f"/blobs/{name}", content=b"x" if method == "PUT" else None)
            assert answer.status_code in (400, 404)


@pytest.mark.parametrize("store", [("--blob", "1000", "--quota", "2500")], indirect=True)
async def test_limits_are_kept_and_nothing_is_dropped(store: Any, client: StoreClient) -> None:
    """Too large and too much are refused by their codes; what was there stays readable."""
    first, second = os.urandom(1000), os.urandom(1000)
    digests = [await client.put_bytes(first), await client.put_bytes(second)]
    assert await code_of(client.put_bytes(os.urandom(1001))) == "store.too_large"
    assert await code_of(client.put_bytes(os.urandom(501))) == "store.full"
    await client.put_bytes(os.urandom(500))
    assert await client.put_bytes(first) == digests[0]
    assert [await client.get_bytes(digest, limit=1000) for digest in digests] == [first, second]


@pytest.mark.parametrize("store", [("--blob", "1000")], indirect=True)
async def test_a_size_that_is_announced_wrongly_is_refused(store: Any) -> None:
    """No length, a chunked body and a huge length are refused before anything is read."""

    async def raw(head: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(store.address.path)
        writer.write(b"PUT /blobs/" + b"0" * 64 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + head + b"\r\n\r\n")
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return answer

    assert b"store.length_required" in await raw(b"Transfer-Encoding: chunked")
    assert b"store.too_large" in await raw(b"Content-Length: 99999999999999")


async def test_a_reader_compares_the_digest(folder: Path) -> None:
    """A store that lies is caught by its client, in memory and on disk."""

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nlie")
        await writer.drain()

    address = Address("unix", str(folder / "liar.sock"))
    async with await listen(address, lie), StoreClient(address) as client:
        assert await code_of(client.get_bytes(bytes(32), limit=10)) == "store.digest"
        assert await code_of(client.get_to_file(bytes(32), folder / "out", limit=10)) == "store.digest"
        assert await code_of(client.get_bytes(bytes(32), limit=2)) == "store.too_large"
        assert await code_of(client.get_many([bytes(32)])) in ("store.answer", "store.digest")
    assert not (folder / "out").exists()
    assert not incoming(folder)


async def test_a_reader_is_bounded_without_a_length(folder: Path) -> None:
    """An endless answer is cut at the reader's limit."""

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            writer.write(bytes(65536))
            await writer.drain()

    address = Address("unix", str(folder / "liar.sock"))
    async with await listen(address, endless), StoreClient(address) as client:
        assert await code_of(client.get_bytes(bytes(32), limit=1 << 20)) == "store.too_large"


async def test_unknown_and_unreachable_are_told_apart(store: Any, client: StoreClient) -> None:
    """A missing blob and a missing store have different codes."""
    assert await code_of(client.get_bytes(bytes(32), limit=1)) == "store.unknown"
    store.kill()
    assert await code_of(client.get_bytes(bytes(32), limit=1)) == "store.unreachable"


async def test_a_kill_in_the_middle_leaves_no_partial_blob(store: Any, client: StoreClient) -> None:
    """kill -9 while a blob comes in leaves whole blobs only, and the next start sweeps the rest."""
    kept = await client.put_bytes(b"kept")
    data = os.urandom(8 << 20)
    half_sent = asyncio.Event()

    async def slowly() -> Any:
        yield data[: 4 << 20]
        half_sent.set()
        await asyncio.sleep(60)
        yield data[4 << 20 :]

    async with http_client(store.address) as http:
        url = f"/blobs/{name_of(data)}"
        sending = asyncio.create_task(http.put(url, content=slowly(), headers={"content-length": str(len(data))}))
        await half_sent.wait()
        for _ in range(200):
            if any(path.stat().st_size for path in (store.data / "incoming").iterdir()):
                break
            await asyncio.sleep(0.02)
        store.kill()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    assert list((store.data / "incoming").iterdir())
    await store.start()
    assert not list((store.data / "incoming").iterdir())
    assert not await client.has(hashlib.sha256(data).digest())
    assert await client.get_bytes(kept, limit=10) == b"kept"
    async with http_client(store.address) as http:
        assert (await http.get("/healthz")).json()["blobs"] == 1


async def test_what_was_acknowledged_survives_a_kill(store: Any, client: StoreClient) -> None:
    """Every blob whose storing was answered is there after kill -9, whole."""
    answered: list[bytes] = []

    async def fill() -> None:
        while True:
            answered.append(await client.put_bytes(os.urandom(3000)))

    filling = [asyncio.create_task(fill()) for _ in range(4)]
    while len(answered) < 40:  # noqa: ASYNC110  (four tasks fill one list)
        await asyncio.sleep(0.01)
    store.kill()
    await asyncio.gather(*filling, return_exceptions=True)
    await store.start()
    for digest in answered:
        assert hashlib.sha256(await client.get_bytes(digest, limit=3000)).digest() == digest


async def test_two_stores_do_not_share_a_folder(store: Any) -> None:
    """A second process on the same folder would sweep what the first one writes: it is refused."""
    with pytest.raises(HostError) as refusal:
        Folder(store.data, Limits())
    assert refusal.value.code == "store.locked"


async def test_the_process_ends_in_order(store: Any) -> None:
    """SIGTERM ends it with exit code 0; a second process at a living address is refused."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.connect(store.address.path)
    assert store.stop() == 0


async def test_metrics_and_health_are_served(store: Any, client: StoreClient) -> None:
    """Both answer, and count what is stored."""
    await client.put_bytes(b"1234")
    async with http_client(store.address) as http:
        assert (await http.get("/healthz")).json() == {"ready": True, "blobs": 1, "bytes": 4, "quota": 8 << 30}
        assert "store_bytes 4.0" in (await http.get("/metrics")).text
