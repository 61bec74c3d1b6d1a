"""Processes of the chain that end at any moment: nothing is lost, nothing happens twice, nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from cipherkeep_host.chain.home import make_home
from cipherkeep_host.chain.node import Node
from cipherkeep_host.chain.rpc import RpcClient
from cipherkeep_host.child_process import ChildProcess
from cipherkeep_host.errors import HostError

from tests.host.chain.conftest import APP_STATE, APPLICATION, CHAIN_ID, StartNode
from tests.host.chain.support import add, call, client_of, eventually, light_client, now


@pytest.mark.parametrize("seed", range(6))
async def test_a_chain_survives_kill_9_of_either_process_at_any_moment(start_node: StartNode, seed: int) -> None:
    """Killed at random moments under load and started again, the chain goes on, and each transaction counts once."""
    node = await start_node()
    chance = random.Random(seed)
    async with RpcClient(node.rpc_address) as rpc:
        client = client_of(rpc)
        sends = [asyncio.create_task(client.send([add(1)], within=60)) for _ in range(30)]
        for _ in range(4):
            await asyncio.sleep(chance.uniform(0.0, 0.15))
            victims = chance.choice(["application", "engine", "both"])
            if victims != "engine":
                await node.application.kill()
            if victims != "application":
                await node.engine.kill()
            await node.kill()
            await node.start()
            await node.wait_ready()
        sent = await asyncio.gather(*sends)
        assert len({one.hash for one in sent}) == 30
        found = await client.prove("one", "total", 1)
        assert found.value == b"35"
        assert await client.last_key("one", "log") == 30
        # What the light client saw before and sees after is one chain.
        verifier = await light_client(rpc)
        for height in range(2, found.block.header.height + 1):
            verifier.step(await rpc.light_block(height), now=now())


async def test_a_supervised_node_comes_back(start_node: StartNode) -> None:
    """When one process is killed, both are started again without anybody's help; each has its own count of ends."""
    node = await start_node()
    supervisor = asyncio.create_task(node.supervise())
    async with RpcClient(node.rpc_address) as rpc:
        client = client_of(rpc)
        await client.send([add(1)])
        for kill in range(3):
            os.kill(node.application.pid, signal.SIGKILL)
            assert (await client.send([add(1)])).results == (b"%d" % (7 + 2 * kill),)
            os.kill(node.engine.pid, signal.SIGKILL)
            assert (await client.send([add(1)])).results == (b"%d" % (8 + 2 * kill),)
    supervisor.cancel()
    with pytest.raises(asyncio.CancelledError):
        await supervisor


# --- one process alone, while the other does what only happens at a start ---

VICTIMS = ("application", "engine")


async def killed_while_starting(node: Node, victim: str, *, pauses: Sequence[float]) -> None:
    """Once while the application is held before it answers the engine's first question; then later and later."""
    for number, pause in enumerate((0.3, *pauses)):
        await node.start()
        if number == 0:
            node.application.signal(signal.SIGSTOP)
        await asyncio.sleep(pause)
        os.kill(getattr(node, victim).pid, signal.SIGKILL)
        await node.kill()


@pytest.mark.parametrize("victim", VICTIMS)
async def test_killed_while_the_chain_is_made(folder: Path, victim: str) -> None:
    """Before, in and after InitChain and block 1: the chain is made once, from the same genesis."""
    home = folder / "validator"
    make_home(home, chain_id=CHAIN_ID, app_state=APP_STATE)
    node = Node(home, application=APPLICATION)
    await killed_while_starting(node, victim, pauses=(0.08, 0.16, 0.24))
    await node.start()
    await node.wait_ready()
    async with RpcClient(node.rpc_address) as rpc:
        await counted(rpc, 1, before=0)
    await node.kill()


@pytest.mark.parametrize("victim", VICTIMS)
async def test_killed_while_blocks_are_replayed(start_node: StartNode, folder: Path, victim: str) -> None:
    """An application that is behind its engine is brought up by replay; killed in it, it goes on, and nothing counts
    twice."""
    node = await start_node()
    async with RpcClient(node.rpc_address) as rpc:
        await counted(rpc, 1, before=0)
    await node.kill()
    state, old = node.home / "application", folder / "old"
    shutil.copytree(state, old)
    await node.start()
    await node.wait_ready()
    async with RpcClient(node.rpc_address) as rpc:
        await counted(rpc, 20, before=1)
        first = await rpc.light_block(2)
    await node.kill()
    shutil.rmtree(state)
    shutil.copytree(old, state)
    await killed_while_starting(node, victim, pauses=(0.1, 0.2))
    await node.start()
    await node.wait_ready()
    async with RpcClient(node.rpc_address) as rpc:
        await counted(rpc, 1, before=21)
        assert await rpc.light_block(2) == first


async def counted(rpc: RpcClient, times: int, *, before: int) -> None:
    """Count so often, one transaction each; with what was counted before, nothing is missing and nothing is double."""
    client = client_of(rpc)
    await asyncio.gather(*(client.send([add(1)]) for _ in range(times)))
    assert (await client.prove("one", "total", 1)).value == b"%d" % (5 + before + times)
    assert await client.last_key("one", "log") == before + times


async def test_a_defect_in_a_handler_halts_before_the_block_is_committed(start_node: StartNode) -> None:
    """An exception that is no refusal ends the process with its own exit status, and the state stays as it was."""
    node = await start_node()
    async with RpcClient(node.rpc_address) as rpc:
        client = client_of(rpc)
        before = await client.send([add(1)])
        with pytest.raises(HostError):
            await client.send([call("explode")], within=2)
    assert await asyncio.wait_for(node.application.wait(), 10) == 3
    assert "broken on request" in node.application.tail(8000)
    await node.kill()
    # Started again it meets the same block and halts again: it is not skipped.
    with pytest.raises(HostError) as refused:
        await node.start()
        await node.wait_ready(height=before.height + 2, within=10)
    assert refused.value.code == "node.start"


async def test_a_node_that_halts_again_and_again_is_given_up(folder: Path) -> None:
    """After five restarts in a minute supervision ends with an error instead of going on for ever."""
    home = folder / "validator"
    make_home(home, chain_id=CHAIN_ID, app_state=APP_STATE)
    node = Node(home, application=(sys.executable, "-c", "import sys, time; sys.exit(3)"))
    with pytest.raises(HostError) as refused:
        await asyncio.wait_for(node.supervise(), 60)
    assert refused.value.code in ("node.start", "node.crash_loop")
    assert not any(process.alive for process in node.processes)


async def test_no_process_outlives_the_one_that_started_it(folder: Path) -> None:
    """When the starter is killed with SIGKILL, application and engine end too."""
    home = folder / "validator"
    make_home(home, chain_id=CHAIN_ID, app_state=APP_STATE)
    code = (
        "import asyncio, pathlib, sys\n"
        "from cipherkeep_host.chain.node import Node\n"
        "async def main():\n"
        f"    node = Node(pathlib.Path({str(home)!r}), application={APPLICATION!r})\n"
        "    await node.start()\n"
        "    await node.wait_ready()\n"
        "    print(node.application.pid, node.engine.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    starter = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
    assert starter.stdout is not None
    pids = [int(text) for text in (await asyncio.wait_for(starter.stdout.readline(), 30)).split()]
    assert len(pids) == 2
    starter.kill()
    await starter.wait()
    await eventually(lambda: not any(_runs(pid) for pid in pids))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_process_that_ignores_sigterm_is_killed(folder: Path) -> None:
    """Asked to end and not ending within the grace period, a process is killed."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    process = ChildProcess("stubborn", [sys.executable, "-c", code], log=folder / "log")
    await process.start()
    await eventually(lambda: "up" in process.tail())
    await process.stop(grace=0.3)
    assert await process.wait() == -signal.SIGKILL


async def test_a_stopped_node_ends_cleanly_and_starts_again(start_node: StartNode) -> None:
    """SIGTERM ends both processes with status 0, and a later start goes on at the same state."""
    node = await start_node()
    async with RpcClient(node.rpc_address) as rpc:
        await client_of(rpc).send([add(1)])
    await node.stop()
    assert await node.application.wait() == 0
    await node.start()
    await node.wait_ready()
    async with RpcClient(node.rpc_address) as rpc:
        assert (await client_of(rpc).prove("one", "total", 1)).value == b"6"
