"""`/healthz` and `/metrics` of a process."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cipherkeep_host import health
from cipherkeep_host.errors import HostError
from prometheus_client import CollectorRegistry, Counter


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for unix sockets."""
    made = Path(tempfile.mkdtemp(prefix="ck-", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


async def test_both_pages_are_served_on_a_socket_and_on_loopback(folder: Path) -> None:
    """Well or not, with details and metrics, and gone when the process is done."""
    registry = CollectorRegistry()
    Counter("things", "Things", registry=registry).inc()
    well = True

    def check() -> health.Health:
        return health.Health(well, {"height": 7})

    path = folder / "health.sock"
    async with (
        health.serve(f"unix://{path}", registry=registry, check=check),
        health.serve("tcp://127.0.0.1:0", registry=registry, check=check) as tcp,
        httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path)), base_url="http://unix") as http,
        httpx.AsyncClient(base_url=tcp.replace("tcp://", "http://")) as other,
    ):
        assert path.stat().st_mode & 0o777 == 0o600
        for client in (http, other):
            well = True
            answer = await client.get("/healthz")
            assert (answer.status_code, answer.json()) == (200, {"ok": True, "height": 7})
            well = False
            assert (await client.get("/healthz")).status_code == 503
            assert "things_total 1.0" in (await client.get("/metrics")).text
            assert (await client.get("/else")).status_code == 404
    assert not path.exists()


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:0", "tcp://127.0.0.1:x", "http://127.0.0.1:1", "127.0.0.1:1", ""])
def test_only_loopback_and_unix_sockets_are_served(address: str) -> None:
    """Nothing listens where others can reach it."""
    with pytest.raises(HostError) as refused:
        health.listen(address)
    assert refused.value.code == "service.address"


def test_a_port_beyond_the_last_and_a_path_too_long_are_refused(folder: Path) -> None:
    """With the address in the sentence."""
    for address in ("tcp://127.0.0.1:70000", f"unix://{folder / ('x' * 120)}"):
        with pytest.raises(HostError) as refused:
            health.listen(address)
        assert refused.value.code == "service.address"
