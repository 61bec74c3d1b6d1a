"""Inputs and computations, with real ciphertexts and proofs."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from cipherkeep_attestation.statements.binding import verify_binding
from cipherkeep_attestation.statements.governance import Coprocessors
from cipherkeep_host.coprocessor import bindings, handles

from tests.host.coprocessor.conftest import ALICE, BOB, KEY_ID, SIGNER, Served
from tests.simulators.coprocessor import TERMS

POLICY = Coprocessors((SIGNER.address,), 1)


async def test_inputs_become_bound_handles(served: Served) -> None:
    """Each value of a proven list gets its handle, a binding that its owner can use, and a packed form in the store.

    The same list again has the same answer; computations work on it for its owner, and for nobody else; a wrong user,
    contract or a damaged list is refused by its code; all of it is there after a restart.
    """
    data = served.prove(("uint64", 41), ("bool", 1), ("uint64", 1))
    answer = await served.send(data)
    assert answer.status_code == 200, answer.text
    rows = answer.json()["bindings"]
    bound = [bindings.of_json(row) for row in rows]
    hashed = handles.list_hash(data)
    for index, (item, fhe_type) in enumerate(zip(bound, (5, 0, 5), strict=True)):
        assert item.handle == handles.input_handle(hashed, index, fhe_type, acl=TERMS.acl, chain_id=TERMS.host_chain_id)
        assert item.owner == ALICE.address
        verify_binding(item, key_id=KEY_ID, domain=TERMS.bindings(), coprocessors=POLICY)
    assert [await served.value(row) for row in rows] == [("uint64", 41), ("bool", 1), ("uint64", 1)]
    assert (await served.send(data)).json() == answer.json()

    await _computations(served, [item.handle for item in bound])
    await _wrong_inputs(served, data)
    await _others(served, [item.handle for item in bound])
    await _restart(served, rows)


async def _computations(served: Served, named: list[bytes]) -> None:
    a, flag, b = named
    added = (await served.compute("add", a, b)).json()
    assert await served.value(added) == ("uint64", 42)
    assert added["owner"] == ALICE.address.hex()
    verify_binding(bindings.of_json(added), key_id=KEY_ID, domain=TERMS.bindings(), coprocessors=POLICY)
    less = (await served.compute("lt", a, b)).json()
    assert await served.value(less) == ("bool", 0)
    chosen = (await served.compute("select", flag, a, bytes.fromhex(added["handle"]))).json()
    assert await served.value(chosen) == ("uint64", 41)
    assert (await served.compute("add", a, b)).json() == added
    for operation, operands in (("add", (a, flag)), ("select", (a, a, b)), ("add", (flag, flag)), ("lt", (flag, flag))):
        refused = await served.compute(operation, *operands)
        assert (refused.status_code, refused.json()["code"]) == (400, "coprocessor.operation")
    found = await served.http.get(f"/ciphertexts/{added['handle']}")
    assert found.json() == added
    unknown = await served.http.get(f"/ciphertexts/{'0' * 64}")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "coprocessor.handle")


async def _wrong_inputs(served: Served, data: bytes) -> None:
    """The proof is over user and contract: neither can be exchanged. Nor can bytes of the list."""
    refused = await served.send(data, user=BOB)
    assert (refused.status_code, refused.json()["code"]) == (403, "coprocessor.proof")
    fresh = served.prove(("bool", 1))
    refused = await served.send(fresh, contract=b"\xcc" * 20)
    assert (refused.status_code, refused.json()["code"]) == (403, "coprocessor.proof")
    for wrong in (b"no list", fresh[:-1], fresh + b"\0", fresh[:200] + bytes(8) + fresh[208:]):
        refused = await served.send(wrong)
        assert refused.json()["code"] in ("coprocessor.list", "coprocessor.proof"), refused.text
    assert served.worker.kills == 0


async def _others(served: Served, named: list[bytes]) -> None:
    """A stranger computes nothing on what is not his, and nobody mixes owners."""
    refused = await served.compute("add", named[0], named[2], by=BOB)
    assert (refused.status_code, refused.json()["code"]) == (403, "coprocessor.owner")
    bobs = (await served.send(served.prove(("uint64", 7), user=BOB), user=BOB)).json()["handles"][0]
    for signer in (ALICE, BOB):
        refused = await served.compute("add", named[0], bytes.fromhex(bobs), by=signer)
        assert (refused.status_code, refused.json()["code"]) == (403, "coprocessor.owner")
    assert (await served.compute("add", named[0], b"\x01" * 32)).json()["code"] == "coprocessor.handle"


async def _restart(served: Served, rows: list[dict[str, Any]]) -> None:
    """Handles, bindings and expanded ciphertexts are there after a restart; the worker is killed on the way."""
    pid = served.worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await served.__aexit__()
    served.stop, served.tasks = asyncio.Event(), []
    await served.__aenter__()
    for row in rows:
        assert (await served.http.get(f"/ciphertexts/{row['handle']}")).json() == row
    a, _, b = (bytes.fromhex(row["handle"]) for row in rows)
    assert await served.value((await served.compute("sub", a, b)).json()) == ("uint64", 40)
    assert served.worker.pid != pid
