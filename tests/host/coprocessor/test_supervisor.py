"""The worker's supervisor, over a stand-in worker that misbehaves on demand."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cipherkeep_host.coprocessor.supervisor import Limits, Supervisor
from cipherkeep_host.errors import HostError

# Answers with the list itself; the first byte of the list says what to do.
STAND_IN = """
import os, sys, time
from cipherkeep_host.coprocessor import frames
out = sys.stdout.buffer
def send(data):
    out.write(data)
    out.flush()
if "--never" in sys.argv:
    raise SystemExit(1)
send(frames.pack({"values": []}))
while (job := frames.read(sys.stdin.buffer)) is not None:
    data = job["list"]
    what = data[:1]
    if what == b"d":
        os.abort()
    if what == b"h":
        time.sleep(60)
    if what == b"g":
        send((5).to_bytes(4, "big") + b"noise")
        continue
    if what == b"b":
        send((1 << 31).to_bytes(4, "big"))
        continue
    if what == b"o" and not os.path.exists(sys.argv[1]):
        open(sys.argv[1], "w").close()
        os.abort()
    if what == b"e":
        send(frames.pack({"error": "coprocessor.proof", "detail": "no"}))
        continue
    send(frames.pack({"values": [{"type": "bool", "expanded": data, "packed": data}]}))
"""


def supervisor(folder: Path, *arguments: str, **limits: Any) -> Supervisor:
    script = folder / "stand_in.py"
    script.write_text(STAND_IN)
    command = [sys.executable, "-I", str(script), str(folder / "once"), *arguments]
    return Supervisor(command, limits=Limits(**{"start": 30, "job": 1.0, **limits}))


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Supervisor]:
    """A supervisor whose worker runs."""
    made = supervisor(tmp_path)
    await made.start()
    yield made
    await made.close()


async def expand(worker: Supervisor, data: bytes) -> bytes:
    return (await worker.expand(data, metadata=bytes(92), most=1))[0].packed


async def code_of(call: Any) -> str:
    with pytest.raises(HostError) as refusal:
        await call
    return refusal.value.code


@pytest.mark.parametrize("poison", [b"dies", b"hangs", b"garbles", b"boasts"])
async def test_what_takes_the_worker_down_twice_is_poison(worker: Supervisor, poison: bytes) -> None:
    """It is tried again once, in a new worker, then refused without trying; others are served."""
    assert await code_of(expand(worker, poison)) == "coprocessor.poison"
    assert worker.kills == 2
    assert await code_of(expand(worker, poison)) == "coprocessor.poison"
    assert worker.kills == 2
    assert await expand(worker, b"fine") == b"fine"


async def test_what_takes_it_down_once_is_tried_again(worker: Supervisor) -> None:
    """A worker that was killed for other reasons does not condemn its job."""
    assert await expand(worker, b"once") == b"once"
    assert worker.kills == 1


async def test_a_job_that_waits_survives_its_neighbours_death(worker: Supervisor) -> None:
    """The queue goes on in the next worker."""
    jobs = [expand(worker, b"dies"), expand(worker, b"first"), expand(worker, b"second")]
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert isinstance(results[0], HostError)
    assert results[1:] == [b"first", b"second"]


async def test_a_killed_worker_is_replaced(worker: Supervisor) -> None:
    """kill -9 between two jobs costs nothing."""
    pid = worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert await expand(worker, b"fine") == b"fine"
    assert worker.pid != pid


async def test_a_caller_who_leaves_takes_no_answer_of_another(worker: Supervisor) -> None:
    """A cancelled job's worker is replaced, so that its late answer reaches nobody."""
    leaving = asyncio.create_task(expand(worker, b"hangs"))
    await asyncio.sleep(0.2)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert await expand(worker, b"fine") == b"fine"


async def test_errors_of_the_input_kill_nothing(worker: Supervisor) -> None:
    """A wrong proof is an answer like any other."""
    assert await code_of(expand(worker, b"error")) == "coprocessor.proof"
    assert worker.kills == 0


async def test_the_queue_is_bounded(tmp_path: Path) -> None:
    """Beyond its places a job is refused at once."""
    worker = supervisor(tmp_path, waiting=2)
    await worker.start()
    jobs = [asyncio.create_task(expand(worker, b"hangs %d" % number)) for number in range(2)]
    await asyncio.sleep(0.1)
    assert await code_of(expand(worker, b"fine")) == "coprocessor.busy"
    for job in jobs:
        job.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)
    await worker.close()


async def test_a_worker_that_cannot_load_is_said_so(tmp_path: Path) -> None:
    """Public material that does not load is an error of its own."""
    worker = supervisor(tmp_path, "--never")
    assert await code_of(worker.start()) == "coprocessor.key"
    assert worker.pid is None
