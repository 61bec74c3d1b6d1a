"""Heavy calls let other Python threads run; and the test would notice if they did not."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import pytest
from insecure_keys import SEED, Keys

import tfhers


def others_run_during(call: Callable[[], object]) -> bool:
    """Whether a thread that only waits for the GIL gets it while `call` lasts.

    Threads do not take turns meanwhile, so that the other one comes first only if `call` itself lets go. Clocks are not
    compared: the other thread's step lies between two steps of this one, or after both.
    """
    steps: list[str] = []
    gate = threading.Lock()

    def other() -> None:
        with gate:
            steps.append("other")

    gate.acquire()
    thread = threading.Thread(target=other)
    thread.start()
    time.sleep(0.02)  # it waits at the gate
    interval = sys.getswitchinterval()
    sys.setswitchinterval(600)
    try:
        gate.release()
        steps.append("before")
        call()
        steps.append("after")
    finally:
        sys.setswitchinterval(interval)
    thread.join()
    return steps == ["before", "other", "after"]


def test_a_call_that_keeps_the_gil_is_noticed() -> None:
    """The standard library's `sum` keeps it: nobody else runs meanwhile."""
    assert not any(others_run_during(lambda: sum(range(5_000_000))) for _ in range(3))


CALLS: dict[str, Callable[[Keys], Callable[[], object]]] = {
    "making a client key": lambda keys: lambda: tfhers.ClientKey.from_seed(SEED),
    "making a public key": lambda keys: keys.client.compact_public_key,
    "encrypting": lambda keys: lambda: keys.public.encrypt([("uint64", 1)]),
    "expanding": lambda keys: _expanding(keys),
    "computing": lambda keys: _computing(keys, keys.server),
    "computing in a pool of the key's own": lambda keys: _computing(keys, _pooled(keys)),
}


@pytest.mark.parametrize("name", CALLS)
def test_other_threads_run_during_heavy_calls(keys: Keys, name: str) -> None:
    """One call in ten is enough: on a busy machine the other thread may wake too late for a short one."""
    call = CALLS[name](keys)
    assert any(others_run_during(call) for _ in range(10))


def _pooled(keys: Keys) -> tfhers.ServerKey:
    return tfhers.ServerKey.load(keys.server_file.read_bytes(), threads=2)


def _expanding(keys: Keys) -> Callable[[], object]:
    data = keys.public.encrypt([("uint8", 1)])
    return lambda: tfhers.expand(data, keys.server)


def _computing(keys: Keys, server: tfhers.ServerKey) -> Callable[[], object]:
    a = tfhers.expand(keys.public.encrypt([("uint8", 1)]), server)[0]
    return lambda: tfhers.add(a, a, server)
