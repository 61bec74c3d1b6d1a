"""The only place that starts, feeds, times and kills the coprocessor's worker.

One worker, one job at a time: TFHE uses all cores for one job. A job that ends the worker, or takes longer than its
time, is tried once more; then it is poison, remembered by its digest, and refused from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sys
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from cipherkeep_attestation.errors import Malformed

from cipherkeep_host.coprocessor import frames
from cipherkeep_host.errors import HOST_RULES, HostError

_log = structlog.get_logger()
_POISONS = 10_000  # digests remembered; the oldest are forgotten


def worker_command(*, public_key: Path, server_key: Path, crs: Path) -> list[str]:
    """What runs the worker over these files."""
    files = ["--public-key", str(public_key), "--server-key", str(server_key), "--crs", str(crs)]
    return [sys.executable, "-I", "-m", "cipherkeep_host.coprocessor.worker", *files]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how much."""

    start: float = 120.0  # seconds until a worker has loaded its keys; 10 on two idle cores
    job: float = 60.0  # seconds of one job; the largest list takes 20 on two cores
    waiting: int = 32  # jobs that wait


@dataclass(frozen=True, slots=True)
class Value:
    """A ciphertext: its type, the form that is computed on, and the form that is decrypted."""

    type: str
    expanded: bytes
    packed: bytes


class _EndedError(Exception):
    """The worker ended, or was killed because it took too long."""


class Supervisor:
    """Runs jobs in a worker that it replaces when it must."""

    def __init__(self, command: Sequence[str], *, limits: Limits) -> None:
        self._command = list(command)
        self._limits = limits
        self._lock = asyncio.Lock()
        self._waiting = 0
        self._process: asyncio.subprocess.Process | None = None
        self._failed: OrderedDict[bytes, int] = OrderedDict()
        self.kills = 0

    @property
    def pid(self) -> int | None:
        """The worker's process id while it runs."""
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

    async def start(self) -> None:
        """Start the worker and wait until it has loaded its keys. `HostError("coprocessor.key")` when it cannot."""
        async with self._lock:
            await self._ensure()

    async def close(self) -> None:
        """Kill the worker."""
        await self._kill()

    async def expand(self, data: bytes, *, metadata: bytes, most: int) -> list[Value]:
        """Verify a proven list and expand it."""
        return await self._run({"op": "expand", "list": data, "metadata": metadata, "values": most})

    async def compute(self, name: str, operands: list[tuple[str, bytes]]) -> Value:
        """Compute on expanded ciphertexts (type, bytes)."""
        rows = [{"type": kind, "expanded": data} for kind, data in operands]
        return (await self._run({"op": "compute", "name": name, "operands": rows}))[0]

    async def _run(self, job: dict[str, Any]) -> list[Value]:
        frame = frames.pack(job)
        digest = hashlib.sha256(frame).digest()
        if self._waiting >= self._limits.waiting:
            raise HostError("coprocessor.busy", f"{self._waiting} wait")
        self._waiting += 1
        try:
            async with self._lock:
                while self._failed.get(digest, 0) < 2:
                    try:
                        return _values(await self._once(frame))
                    except _EndedError:
                        self._failed[digest] = self._failed.get(digest, 0) + 1
                        if len(self._failed) > _POISONS:
                            self._failed.popitem(last=False)
        finally:
            self._waiting -= 1
        raise HostError("coprocessor.poison", digest.hex())

    async def _once(self, frame: bytes) -> dict[str, Any]:
        process = await self._ensure()
        try:
            async with asyncio.timeout(self._limits.job):
                return await _exchange(process, frame)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, Malformed, ValueError) as problem:
            await self._kill()
            self.kills += 1
            _log.warning("worker ended", problem=type(problem).__name__, returncode=process.returncode)
            raise _EndedError from None
        except BaseException:
            # Cancelled in the middle of an exchange: what comes next on the pipe would belong to the wrong job.
            await self._kill()
            raise

    async def _ensure(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={},
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self._limits.start):
                await _receive(process)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, Malformed, ValueError):
            await self._kill()
            raise HostError("coprocessor.key", "the worker cannot load the published material") from None
        except BaseException:
            await self._kill()
            raise
        return process

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        # Unread output would keep the transport from closing.
        assert process.stdin is not None
        process.stdin.close()
        await process.communicate() if process.returncode is None else await process.wait()


async def _exchange(process: asyncio.subprocess.Process, frame: bytes) -> dict[str, Any]:
    assert process.stdin is not None
    process.stdin.write(frame)
    await process.stdin.drain()
    return await _receive(process)


async def _receive(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    size = int.from_bytes(await process.stdout.readexactly(4), "big")
    if size > frames.MAX_FRAME:
        raise ValueError("a frame beyond the limit")
    data = await process.stdout.readexactly(size)
    return await asyncio.to_thread(frames.unpack, data)


def _values(result: dict[str, Any]) -> list[Value]:
    code = result.get("error")
    if code is not None:
        known = code if isinstance(code, str) and code in HOST_RULES else "coprocessor.worker"
        raise HostError(known, str(result.get("detail", ""))[:300])
    return [Value(item["type"], item["expanded"], item["packed"]) for item in result.get("values", [])]
