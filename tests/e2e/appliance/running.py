"""A running appliance as tests see it: its client, its processes, and what they need to kill and to wait."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from cipherkeep_attestation import cbor
from cipherkeep_attestation.statements.request import Request
from cipherkeep_attestation.statements.transaction import Message
from cipherkeep_host.appliance.governance import Council
from cipherkeep_host.appliance.plan import Environment, Paths
from cipherkeep_host.chain.client import ChainClient
from cipherkeep_host.cli.session import Session, open_session
from cipherkeep_host.client.library import Asked
from cipherkeep_host.errors import HostError
from cipherkeep_host.key_files import load_ed25519

START = 400.0  # seconds; alone it takes 15, on a busy machine and with a cold cache several times that
STOP = 60.0  # seconds
AGAIN = 90.0  # seconds until a killed process is there again and serves


def started(pid: int) -> str | None:
    """When a process began, which tells it from a later one of the same id; None when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def descendants(pid: int) -> dict[int, str]:
    """All processes below one, with when each began."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            if (begun := started(child)) is not None:
                found[child] = begun
                waiting.append(child)
    return found


def naming(text: str) -> list[str]:
    """The command lines of all processes that name this text."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if text in line:
                    found.append(f"{entry.name}: {line[:200]}")
    return found


@dataclass
class Running:
    """The appliance whose supervisor is `process`."""

    state: Path
    process: subprocess.Popen[bytes]
    stages: list[str]
    environment: Environment
    seen: dict[int, str] = field(default_factory=dict)  # every process that was ever found below the supervisor

    @property
    def paths(self) -> Paths:
        """Where its files lie."""
        return Paths(self.state, Path(self.environment.connector.removeprefix("unix://")).parent)

    def session(self) -> AbstractAsyncContextManager[Session]:
        """A client of it."""
        return open_session(self.state)

    def blob(self, digest: bytes) -> Path:
        """The file in which the store keeps a blob."""
        found = list((self.state / "store" / "blobs").rglob(digest.hex()))
        assert len(found) == 1, digest.hex()
        return found[0]

    # --- processes ---

    def pids(self) -> dict[str, int | None]:
        """Process ids by name, as the supervisor wrote them down."""
        self.seen |= descendants(self.process.pid)
        found: dict[str, int | None] = json.loads(self.paths.processes.read_text())
        return found

    def pid(self, name: str) -> int:
        """The process id of a part that runs."""
        found = self.pids()[name]
        assert found is not None and started(found) is not None, f"{name} does not run"
        return found

    def kill(self, name: str) -> int:
        """SIGKILL; returns the id of the process that is no more."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    @contextlib.contextmanager
    def halted(self, name: str) -> Iterator[int]:
        """Stop a process for the length of the context; it may be killed meanwhile."""
        pid = self.pid(name)
        begun = started(pid)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield pid
        finally:
            if started(pid) == begun:
                os.kill(pid, signal.SIGCONT)

    async def restarted(self, name: str, killed: int) -> int:
        """Wait until another process does the work of a killed one."""

        def another() -> int | None:
            found = self.pids().get(name)
            return found if found not in (None, killed) else None

        pid: int = await until(another, f"{name} to be started again")
        return pid

    async def up(self) -> None:
        """Wait until requests are carried: the connector has brought the enclave up, and the store serves."""
        await self.healthy("connector", lambda body: body.get("ready") is True)
        await self.healthy("store", lambda _: True)

    async def health(self, name: str) -> dict[str, Any]:
        """What a part's /healthz says; an empty answer while it cannot be reached."""
        transport = httpx.AsyncHTTPTransport(uds=str(self.paths.socket(name)))
        async with httpx.AsyncClient(transport=transport, timeout=5) as client:
            try:
                body: dict[str, Any] = (await client.get("http://part/healthz")).json()
            except (httpx.HTTPError, OSError, ValueError):
                return {}
            return body

    async def metric(self, name: str, metric: str) -> float:
        """The sum of a part's metric over its labels."""
        transport = httpx.AsyncHTTPTransport(uds=str(self.paths.socket(name)))
        async with httpx.AsyncClient(transport=transport, timeout=5) as client:
            text = (await client.get("http://part/metrics")).text
        lines = (line.partition("{")[0].split()[0:1] + line.split()[-1:] for line in text.splitlines())
        return sum(float(value) for found, value in lines if found == metric)

    async def healthy(self, name: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until /healthz answers and says what is wanted."""
        said: list[dict[str, Any]] = [{}]

        async def look() -> dict[str, Any] | None:
            said[0] = await self.health(name)
            return said[0] if said[0] and wanted(said[0]) else None

        try:
            found: dict[str, Any] = await until(look, f"{name} to be as it should")
        except AssertionError as failure:
            raise AssertionError(f"{failure}; it says {said[0]}") from None
        return found

    # --- the end ---

    def stop(self) -> None:
        """End it as an operator does, and find nothing left of it."""
        self.seen |= descendants(self.process.pid)
        run = self.paths.run
        self.process.terminate()
        try:
            status = self.process.wait(STOP)
        finally:
            left = {pid: begun for pid, begun in self.seen.items() if started(pid) == begun}
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()
        assert not left, f"processes outlived the appliance: {left}"
        assert status == 0
        for text in (str(self.state), str(run)):
            assert not naming(text)
        assert not run.exists()
        assert not self.paths.environment.exists()


async def until(look: Callable[[], Any], what: str, *, seconds: float = AGAIN) -> Any:
    """What `look` gives, at once or when awaited, once that is something."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        found = look()
        if inspect.isawaitable(found):
            found = await found
        if found is not None:
            return found
        await asyncio.sleep(0.03)
    raise AssertionError(f"waited {seconds:g} seconds for {what}")


def start(state: Path, *arguments: str) -> Running:
    """Start an appliance and wait until it serves; what it logs goes to a file in its state folder."""
    (state / "logs").mkdir(parents=True, mode=0o700, exist_ok=True)
    command = [sys.executable, "-m", "cipherkeep_host.appliance", "--state", str(state)]
    command += ["--with-parent", str(os.getpid()), *arguments]
    with (state / "logs" / "appliance.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    stages: list[str] = []
    try:
        for line in _lines(process, START):
            event = json.loads(line)
            assert "code" not in event, f"the appliance did not start: {event}"
            if event.get("ready"):
                return Running(state, process, stages, Environment.read(Path(event["environment"])))
            stages.append(event["stage"])
        raise AssertionError(f"the appliance ended with {process.wait()}: {(state / 'logs' / 'appliance.log')}")
    except BaseException:
        process.terminate()
        try:
            process.wait(STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise


def _lines(process: subprocess.Popen[bytes], seconds: float) -> Iterator[bytes]:
    assert process.stdout is not None
    descriptor, data = process.stdout.fileno(), b""
    ends = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while selector.select(max(0.0, ends - time.monotonic())):
            piece = os.read(descriptor, 4096)
            if not piece:
                return
            *whole, data = (data + piece).split(b"\n")
            yield from whole
    raise AssertionError(f"the appliance did not come up within {seconds:g} seconds")


# --- what the library of clients would not do ---


async def send(session: Session, *requests: Request) -> list[Asked]:
    """Put requests into one transaction and thus one block, whatever they are worth."""
    messages = [Message(session.trust.instance, item.operation, {"request": item.encode()}) for item in requests]
    sent = await session.chain.send(messages)
    schema = {"counter": cbor.uint(least=1), "duplicate": cbor.boolean, "id": cbor.raw(32), "state": cbor.text(16)}
    found = [cbor.fields(cbor.decode(data), **schema) for data in sent.results]
    return [Asked(row["id"], row["counter"], row["state"], row["duplicate"], sent.height) for row in found]


def council(session: Session) -> Council:
    """Governance of this instance, with its key."""
    keys = Path(session.environment.keys)
    operator = ChainClient(session.chain.rpc, chain_id=session.chain.chain_id, key=load_ed25519(keys / "operator.key"))
    genesis = session.configuration.genesis.digest()
    return Council(operator, session.trust.instance, genesis, [load_ed25519(keys / "governor.key")])


@contextlib.asynccontextmanager
async def refused(code: str) -> AsyncIterator[None]:
    """The block ends with the chain's refusal of a transaction, for this rule, or a host error of this code."""
    try:
        yield
    except HostError as error:
        found = getattr(error, "rule", error.code)
        assert found == code, f"{found} instead of {code}: {error}"
        assert error.sentence and error.hint
    else:
        raise AssertionError(f"not refused; {code} was expected")
