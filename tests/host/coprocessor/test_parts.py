"""Handles, requests, keys and the table: the parts that need no ciphertexts."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import coincurve
import httpx
import pytest
from cipherkeep_attestation import cbor
from cipherkeep_attestation.statements import eip712
from cipherkeep_attestation.statements.binding import Ciphertext
from cipherkeep_host.coprocessor import bindings, handles, signer
from cipherkeep_host.coprocessor.requests import MAX_LIST, Compute, Inputs
from cipherkeep_host.coprocessor.server import Service
from cipherkeep_host.coprocessor.table import Entry, Table
from cipherkeep_host.errors import HostError
from hypothesis import given
from hypothesis import strategies as st

ACL = b"\xac" * 20
KEY_ID = b"\x4b" * 32


def bound(number: int) -> Ciphertext:
    return Ciphertext(number.to_bytes(32, "big"), 5, 0, bytes(32), b"\xa1" * 20, (bytes(64) + b"\x1b",))


def test_handles_have_todays_layout() -> None:
    """21 bytes of hash, place, chain, type, version; computed ones have ff as place. Everything goes into the hash."""
    hashed = handles.list_hash(b"list")
    handle = handles.input_handle(hashed, 3, 5, acl=ACL, chain_id=31337)
    expected = eip712.keccak256(
        b"ZK-w_hdl" + eip712.keccak256(b"ZK-w_rctlist") + b"\x03" + ACL + (31337).to_bytes(32, "big")
    )
    assert handle == expected[:21] + b"\x03" + (31337).to_bytes(8, "big") + b"\x05\x00"
    results = {
        handles.computed_handle(operation, operands, 5, acl=acl, chain_id=chain_id)
        for operation, operands, acl, chain_id in (
            ("add", [b"a" * 32, b"b" * 32], ACL, 1),
            ("add", [b"b" * 32, b"a" * 32], ACL, 1),
            ("sub", [b"a" * 32, b"b" * 32], ACL, 1),
            ("add", [b"a" * 32, b"b" * 32], bytes(20), 1),
            ("add", [b"a" * 32, b"b" * 32], ACL, 2),
        )
    }
    assert len(results) == 5
    assert all(item[21] == 0xFF and item[30:] == b"\x05\x00" for item in results)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_readers(data: bytes) -> None:
    """Whatever is sent is read or refused by the one code."""
    for reader in (Inputs.decode, Compute.decode):
        try:
            reader(data)
        except HostError as refusal:
            assert refusal.code == "coprocessor.request"


def test_requests_are_read_strictly() -> None:
    """Round trips hold; other lengths, fields, operations and numbers of operands are refused."""
    asked = Inputs(b"list", b"u" * 20, b"c" * 20)
    assert Inputs.decode(asked.encode()) == asked
    computed = Compute("select", (bytes(32), b"\1" * 32, b"\2" * 32), bytes(65))
    assert Compute.decode(computed.encode()) == computed
    wrong = [
        {"contract": b"c" * 19, "list": b"l", "user": b"u" * 20},
        {"contract": b"c" * 20, "list": b"", "user": b"u" * 20},
        {"contract": b"c" * 20, "list": b"l", "user": b"u" * 20, "more": 1},
    ]
    for fields in wrong:
        with pytest.raises(HostError):
            Inputs.decode(cbor.encode(fields))
    for operation, count in (("mul", 2), ("add", 3), ("select", 2), ("add", 1)):
        with pytest.raises(HostError):
            Compute.decode(Compute(operation, (bytes(32),) * count, bytes(65)).encode())


def client_of(service: Service) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(service.app()), base_url="http://test")


async def test_what_is_too_large_is_refused_before_it_is_read() -> None:
    """By its announcement, and without one."""
    service = Service()
    service._need = lambda: type("Loaded", (), {"coprocessor": None})()  # type: ignore[method-assign,assignment]
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1 << 18
            yield bytes(1 << 18)

    async with client_of(service) as client:
        answer = await client.post("/inputs", content=bytes(MAX_LIST + 1000))
        assert (answer.status_code, answer.json()["code"]) == (413, "coprocessor.too_large")
        answer = await client.post("/inputs", content=endless())
        assert (answer.status_code, answer.json()["code"]) == (413, "coprocessor.too_large")
    assert sent <= 2 * MAX_LIST


async def test_it_says_what_it_waits_for() -> None:
    """Before its key is loaded, calls are answered with a code and /healthz says why."""
    async with client_of(Service(waits_for="the key's record on the chain")) as client:
        assert (await client.get("/crs")).json()["code"] == "coprocessor.starting"
        answer = await client.get("/healthz")
        assert (answer.status_code, answer.json()["waits_for"]) == (503, "the key's record on the chain")


def test_bindings_travel_as_json() -> None:
    """What goes in comes out; anything else is refused."""
    item = bound(1)
    row = bindings.to_json(item)
    assert bindings.of_json(row) == item
    for name in row:
        with pytest.raises(HostError):
            bindings.of_json({**row, name: "zz"})
        with pytest.raises(HostError):
            bindings.of_json({key: value for key, value in row.items() if key != name})


def test_a_signer_shows_its_address_only() -> None:
    """The key shows nowhere."""
    key = coincurve.PrivateKey()
    shown = repr(signer.Signer(key))
    assert eip712.checksum(signer.Signer(key).address) in shown
    assert key.secret.hex() not in shown


def test_a_table_is_of_one_key_and_one_process(tmp_path: Path) -> None:
    """Another key's table, or one that is in use, is refused."""
    table = Table(tmp_path, key_id=KEY_ID)
    with pytest.raises(HostError):
        Table(tmp_path, key_id=KEY_ID)
    table.close()
    with pytest.raises(HostError):
        Table(tmp_path, key_id=bytes(32))
    Table(tmp_path, key_id=KEY_ID).close()


def test_a_handle_never_changes(tmp_path: Path) -> None:
    """Adding it again keeps the first binding and the first ciphertext."""
    table = Table(tmp_path, key_id=KEY_ID)
    first = bound(1)
    table.add([Entry(first, b"expanded")])
    other = Ciphertext(first.handle, 0, 0, b"\1" * 32, bytes(20), (bytes(64) + b"\x1c",))
    table.add([Entry(other, b"other")])
    assert table.find(first.handle) == first
    assert table.expanded(first.handle) == b"expanded"
    table.close()


def test_a_handle_is_found_once_it_is_durable(tmp_path: Path) -> None:
    """Between a row's writing and its COMMIT, which kill -9 may come before, nobody is told of the binding."""
    table = Table(tmp_path, key_id=KEY_ID)
    before: list[Ciphertext | None] = []

    def look(statement: str) -> None:
        if statement == "COMMIT":
            before.append(table.find(bound(1).handle))

    table._database.set_trace_callback(look)
    table.add([Entry(bound(1), b"expanded")])
    assert before == [None]
    assert table.find(bound(1).handle) == bound(1)
    table.close()


_FILL = """
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from cipherkeep_attestation.statements.binding import Ciphertext
from cipherkeep_host.coprocessor.table import Entry, Table
table = Table(Path(sys.argv[1]), key_id=b"K" * 32)
number = table.count()
while True:
    number += 1
    handle = number.to_bytes(32, "big")
    table.add([Entry(Ciphertext(handle, 5, 0, bytes(32), bytes(20), (bytes(65),)), handle * 100)])
    print(number, flush=True)
"""


async def test_what_was_kept_survives_a_kill(tmp_path: Path) -> None:
    """kill -9 while it writes: every handle that was acknowledged is there, with its ciphertext."""
    last = 0
    for _ in range(3):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _FILL, str(tmp_path), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(20):
            last = int(await process.stdout.readline())
        process.kill()
        await process.communicate()
        table = Table(tmp_path, key_id=b"K" * 32)
        assert table.count() >= last
        for number in range(1, table.count() + 1):
            handle = number.to_bytes(32, "big")
            assert table.find(handle) is not None
            assert table.expanded(handle) == handle * 100
        table.close()
    assert not [path for path in (tmp_path / "expanded").iterdir() if path.name.startswith(".")]
