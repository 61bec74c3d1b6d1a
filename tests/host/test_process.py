"""How a process of the host listens, serves, logs and ends."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from cipherkeep_host import process
from cipherkeep_host.errors import HostError
from cipherkeep_wire.transport import Address
from prometheus_client import CollectorRegistry, Counter
from starlette.applications import Starlette


async def test_both_pages_are_served_on_a_socket_and_on_loopback(folder: Path) -> None:
    """Well or not, with details and metrics, and gone when the process is done."""
    registry = CollectorRegistry()
    Counter("things", "Things", registry=registry).inc()
    well = True

    async def state() -> dict[str, object]:
        return {"ready": well, "height": 7}

    path, stop = folder / "health.sock", asyncio.Event()
    app = Starlette(routes=process.health_routes(registry, state))
    unix, tcp = (process.bind(process.parse_address(text)) for text in (f"unix://{path}", "tcp://127.0.0.1:0"))
    port = tcp.getsockname()[1]
    serving = [asyncio.create_task(process.serve_http(app, listener, stop)) for listener in (unix, tcp)]
    async with (
        httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path)), base_url="http://unix") as http,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as other,
    ):
        assert path.stat().st_mode & 0o777 == 0o600
        for client in (http, other):
            well = True
            answer = await client.get("/healthz")
            assert (answer.status_code, answer.json()) == (200, {"ready": True, "height": 7})
            well = False
            assert (await client.get("/healthz")).status_code == 503
            assert "things_total 1.0" in (await client.get("/metrics")).text
            assert (await client.get("/else")).status_code == 404
    stop.set()
    await asyncio.gather(*serving)
    assert not path.exists()


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:0", "tcp://127.0.0.1:x", "http://127.0.0.1:1", "127.0.0.1:1", ""])
def test_only_loopback_and_unix_sockets_are_served(address: str) -> None:
    """Nothing listens where others can reach it."""
    with pytest.raises(HostError) as refused:
        process.parse_address(address)
    assert refused.value.code == "process.listen"


def test_a_port_beyond_the_last_and_a_path_too_long_are_refused(folder: Path) -> None:
    """With the address in the sentence, whether it was read from a text or not."""
    for address in ("tcp://127.0.0.1:70000", f"unix://{folder / ('x' * 120)}", "vsock://3:5000"):
        with pytest.raises(HostError) as refused:
            process.parse_address(address)
        assert refused.value.code == "process.listen"
        assert address[:100] in refused.value.detail
    with pytest.raises(HostError) as refused:
        process.bind(Address("unix", path=str(folder / ("x" * 120))))
    assert refused.value.code == "process.address_in_use"


def test_a_dead_socket_is_replaced_and_a_living_one_is_not(folder: Path) -> None:
    """A second process does not take the first one's clients; one after kill -9 is not stopped by what was left."""
    address = process.parse_address(f"unix://{folder}/a.sock")
    with process.bind(address) as living:
        with pytest.raises(HostError) as refused:
            process.bind(address)
        assert refused.value.code == "process.address_in_use"
        assert living.getsockname() == f"{folder}/a.sock"
    assert (folder / "a.sock").exists()
    with process.bind(address), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(f"{folder}/a.sock")


def test_a_folder_that_cannot_be_made_is_named(folder: Path) -> None:
    """A file where the socket's folder should be is a refusal with a code, not a traceback."""
    (folder / "file").write_bytes(b"")
    with pytest.raises(HostError) as refused:
        process.bind(process.parse_address(f"unix://{folder}/file/a.sock"))
    assert refused.value.code == "process.address_in_use"


def _child(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)


def test_a_refusal_ends_a_process_with_its_code_in_the_log(folder: Path) -> None:
    """Exit status 1 and one line of JSON that says what to look at."""
    done = _child(
        "import sys\n"
        "from cipherkeep_host import process\n"
        "async def main():\n"
        "    process.parse_address('nowhere')\n"
        "sys.exit(process.run('one', main))\n"
    )
    (line,) = [json.loads(text) for text in done.stderr.splitlines()]
    assert done.returncode == 1
    assert (line["process"], line["code"], line["detail"]) == ("one", "process.listen", "nowhere")


def test_logs_show_neither_bytes_nor_local_variables() -> None:
    """Bytes are shown as a length, and a traceback without what its functions held."""
    done = _child(
        "import structlog\n"
        "from cipherkeep_host import process\n"
        "process.configure_logs('one')\n"
        "held = 'value'.replace('v', 'secret-v')\n"
        "try:\n"
        "    raise ValueError('wrong')\n"
        "except ValueError as error:\n"
        "    structlog.get_logger().error('failed', exc_info=error, key=b'0123456789')\n"
    )
    line = json.loads(done.stderr)
    assert line["key"] == "<10 bytes>"
    assert line["exception"][0]["exc_value"] == "wrong"
    assert "secret-value" not in done.stderr


def test_a_process_whose_parent_is_another_does_not_start() -> None:
    """The parent's id is given by the parent: a process that was left behind before it looked ends at once."""
    done = _child("from cipherkeep_host import process\nprocess.die_with_parent(1)\nprint('runs')\n")
    assert done.returncode == 1
    assert "runs" not in done.stdout
    assert "parent 1" in done.stderr
