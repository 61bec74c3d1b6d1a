"""The proxy as a process: what it carries, what it hands out, how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import grpc
import grpc.aio
import httpx
from cipherkeep_attestation.handshake import judge_responder, judge_with
from cipherkeep_wire.transport import connect, listen

from tests.host.proxy.conftest import Proxy, start_proxy, stop_proxy, unix, write_config
from tests.simulators.attestation import IMAGE
from tests.wire.world import World, echo, failure


async def test_the_attested_channel_crosses_the_proxy(world: World, proxy: Proxy) -> None:
    """Handshake, TLS and calls pass through the process and the monitor's hybrid form, large messages too."""
    async with world.serving(), await world.dial(handshake_address=proxy.handshake, grpc_address=proxy.grpc) as channel:
        assert await echo(channel) == b"x"
        big = os.urandom(8 << 20)
        assert await echo(channel, big) == big
        await channel.renew()
        assert await echo(channel) == b"x"


async def test_a_killed_proxy_is_a_clean_error_and_a_new_one_serves(world: World, proxy: Proxy) -> None:
    """kill -9 in the middle of a stream: UNAVAILABLE at once; after a restart the same channel works."""
    async with world.serving():
        channel = await world.dial(handshake_address=proxy.handshake, grpc_address=proxy.grpc)
        parts = channel.grpc.unary_stream("/test.Service/Count")(b"1000")
        assert await parts.read() == b"0"
        proxy.process.kill()

        async def rest() -> None:
            while await parts.read() is not grpc.aio.EOF:
                pass

        async with asyncio.timeout(5):
            assert await failure(rest()) == (grpc.StatusCode.UNAVAILABLE, "")
        await proxy.process.wait()
        again = await start_proxy(proxy.folder)
        try:
            async with asyncio.timeout(10):
                while True:
                    try:
                        assert await echo(channel, wait_for_ready=True) == b"x"
                        break
                    except grpc.aio.AioRpcError as error:
                        assert error.code() is grpc.StatusCode.UNAVAILABLE
                        await asyncio.sleep(0.05)
            await channel.close()
        finally:
            assert await stop_proxy(again) == 0


async def test_the_enclaves_egress_leads_to_one_place(proxy: Proxy) -> None:
    """What the enclave dials at port 7002 ends at the key service's address; no other port leads anywhere."""

    async def kms(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"answer to " + await reader.read())

    async with await listen(unix(proxy.folder / "kms.sock"), kms):
        reader, writer = await connect(proxy.kms)
        writer.write(b"question")
        writer.write_eof()
        assert await reader.read() == b"answer to question"
        writer.transport.abort()
    egress = [path.name for path in proxy.folder.glob("e.vsock_*")]
    assert egress == ["e.vsock_7002"]


async def test_a_missing_enclave_closes_the_connection_and_is_logged(proxy: Proxy) -> None:
    """Nobody waits for an enclave that is not there; the operator reads why."""
    reader, writer = await connect(proxy.grpc)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.transport.abort()
    event = proxy.events()[-1]
    assert (event["event"], event["way"], event["code"]) == ("connection failed", "grpc", "transport.refused")


# --- documents ---


async def test_anyone_gets_a_document_over_his_nonce(world: World, proxy: Proxy) -> None:
    """The answer holds what an auditor judges for himself."""
    nonce = os.urandom(32)
    async with world.serving(), proxy.client() as client:
        answer = await client.post("/attestation", json={"nonce": nonce.hex()})
    assert answer.status_code == 200
    body = answer.json()
    assert body.keys() == {"message", "document", "certificate"}
    judge = judge_with(root=world.platform.root(), kind="enclave", measurements=(IMAGE,), max_age=timedelta(minutes=5))
    statement = judge_responder(bytes.fromhex(body["message"]), nonce=nonce, judge=judge, at=world.clock())
    assert statement.certificate.hex() == body["certificate"]


BAD_REQUESTS = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b'"' + b"0" * 64 + b'"',
    b"\xff" * 10,
    b'{"nonce": 1}',
    b'{"nonce": "' + b"0" * 63 + b'"}',
    b'{"nonce": "' + b"0" * 66 + b'"}',
    b'{"nonce": "' + b"A" * 64 + b'"}',
    b'{"nonce": "' + b"0" * 64 + b'", "nonce": "' + b"0" * 64 + b'"}',
    b'{"nonce": "' + b"0" * 64 + b'", "more": 1}',
    b'{"nonce": NaN}',
    b'{"nonce": "' + b"0" * 64 + b'"} {}',
    b"[" * 4000,
    b'{"nonce": "' + "٠".encode() * 64 + b'"}',
]


async def test_a_request_has_exactly_one_form(proxy: Proxy) -> None:
    """Anything else is 400 with a code, and never reaches the enclave (there is none here: it would be 503)."""
    async with proxy.client() as client:
        for body in BAD_REQUESTS:
            answer = await client.post("/attestation", content=body)
            assert (answer.status_code, answer.json()["code"]) == (400, "proxy.request"), body


async def test_a_long_request_is_not_read(proxy: Proxy) -> None:
    """More than 4 KiB is 413."""
    async with proxy.client() as client:
        answer = await client.post("/attestation", content=b" " * 4097)
        assert (answer.status_code, answer.json()["code"]) == (413, "proxy.request_size")
        assert (await client.get("/attestation")).status_code == 405


async def test_documents_are_limited_per_second(world: World, proxy: Proxy) -> None:
    """A burst gets documents, the rest is told to come back; the enclave's own limit is never reached."""
    async with world.serving(), proxy.client() as client:
        answers = await asyncio.gather(
            *(client.post("/attestation", json={"nonce": os.urandom(32).hex()}) for _ in range(60))
        )
        codes = [answer.status_code for answer in answers]
        assert set(codes) == {200, 429}
        assert 8 <= codes.count(200) <= 30
        await asyncio.sleep(0.2)
        assert (await client.post("/attestation", json={"nonce": "0" * 64})).status_code == 200
    assert world.refusals == []


async def test_without_an_enclave_there_is_no_document(proxy: Proxy) -> None:
    """The answer is 503 with the transport's code, within its deadline."""
    async with proxy.client() as client:
        answer = await client.post("/attestation", json={"nonce": "0" * 64})
    assert (answer.status_code, answer.json()["code"]) == (503, "transport.refused")


async def test_whatever_sits_in_the_enclaves_place_must_speak_its_language(world: World, proxy: Proxy) -> None:
    """Bytes that are no answer of a handshake are 502, not passed on."""

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4)
        writer.write(b"\0\0\0\4abcd")

    async with await listen(world.handshake, nonsense), proxy.client() as client:
        answer = await client.post("/attestation", json={"nonce": "0" * 64})
    assert (answer.status_code, answer.json()["code"]) == (502, "proxy.answer")


async def test_health_and_metrics_are_served(world: World, proxy: Proxy) -> None:
    """Connections are counted by way."""
    async with world.serving(), await world.dial(handshake_address=proxy.handshake, grpc_address=proxy.grpc) as channel:
        await echo(channel)
        async with proxy.client() as client:
            health = (await client.get("/healthz")).json()
            metrics = (await client.get("/metrics")).text
    assert health["ready"] is True
    assert health["open"]["grpc"] == 1
    assert 'cipherkeep_proxy_connections_total{way="handshake"} 1.0' in metrics


# --- how it ends ---


async def test_sigterm_ends_it_with_open_connections(world: World, proxy: Proxy) -> None:
    """An orderly end: exit code 0, within the grace period, and no socket left."""
    async with world.serving():
        channel = await world.dial(handshake_address=proxy.handshake, grpc_address=proxy.grpc)
        started = time.monotonic()
        assert await stop_proxy(proxy) == 0
        assert time.monotonic() - started < 6
        await channel.close()
    left = {path.name for path in proxy.folder.iterdir()}
    assert left == {"e.vsock", "proxy.json", "proxy.log"}


def test_it_does_not_outlive_its_parent(tmp_path: Path) -> None:
    """When whoever started it is killed, the kernel kills the proxy."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="ck-", dir="/tmp") as short:
        config = write_config(Path(short))
        program = (
            "import subprocess, sys, time\n"
            f"child = subprocess.Popen([sys.executable, '-m', 'cipherkeep_host.proxy', '--config', {str(config)!r}],"
            " stderr=subprocess.PIPE, text=True)\n"
            "print(child.pid, child.stderr.readline(), flush=True)\n"
            "time.sleep(60)\n"
        )
        parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert parent.stdout is not None
        pid, line = parent.stdout.readline().split(" ", 1)
        assert json.loads(line)["event"] == "proxy is up"
        parent.kill()
        parent.wait()
        parent.stdout.close()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and _alive(int(pid)):
            time.sleep(0.05)
        assert not _alive(int(pid))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie that nobody has waited for is dead too.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


async def test_a_second_proxy_at_the_same_addresses_is_refused(proxy: Proxy) -> None:
    """It exits with 1 and says which address is taken; the first goes on."""
    second = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cipherkeep_host.proxy", "--config", str(proxy.folder / "proxy.json")),
        stderr=asyncio.subprocess.PIPE,
    )
    _, log = await second.communicate()
    assert second.returncode == 1
    assert json.loads(log.splitlines()[-1])["code"] == "transport.in_use"
    async with proxy.client() as client:
        assert (await client.get("/healthz")).status_code == 200


async def test_it_may_come_up_first_and_serve_on_a_unix_socket(world: World) -> None:
    """The folders of its sockets need not be there yet, and documents can be asked for over a unix socket."""
    run = world.folder / "run"
    run.mkdir()
    config = write_config(run, f"unix://{run}/new/http.sock")
    settings = json.loads(config.read_text().replace(f"{run}/e.vsock#7002", f"{run}/vm/host/e.vsock#7002"))
    config.write_text(json.dumps(settings))
    proxy = await start_proxy(run, config)
    try:
        transport = httpx.AsyncHTTPTransport(uds=f"{run}/new/http.sock")
        async with httpx.AsyncClient(transport=transport, base_url="http://proxy") as client:
            assert (await client.get("/healthz")).json()["ready"] is True
            answer = await client.post("/attestation", json={"nonce": "0" * 64})
            assert answer.json()["code"] == "transport.unreachable"
        assert (run / "vm/host/e.vsock_7002").is_socket()
    finally:
        assert await stop_proxy(proxy) == 0


async def test_a_slow_client_of_the_http_side_holds_nothing(proxy: Proxy) -> None:
    """A body that never comes is 400 after five seconds; others are served meanwhile."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"POST /attestation HTTP/1.1\r\nhost: x\r\ncontent-length: 77\r\n\r\n{")
    async with proxy.client() as client:
        assert (await client.get("/healthz")).status_code == 200
    async with asyncio.timeout(8):
        assert b" 400 " in await reader.readline()
    writer.transport.abort()
