"""The only place that starts an emulated enclave: its image, its NSM, its vsock device, and the process itself.

    launcher = Launcher(state=state, run=run, images=images)
    status = await launcher.launch()      # status.host_socket is where the host dials
    await launcher.stop()

Below `run` (a short path: unix sockets live there) the launcher makes `host/` and `enclave/` (see `vsock`), `nsm.sock`
and `nsm-health.sock`, `scratch/` (the enclave's working folder) and `log/`. The enclave gets no environment, no stdin,
no network where the kernel permits, and dies with the launcher's process. To be used from the main thread's event
loop: the kernel counts the thread that starts a process as its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from prometheus_client import CollectorRegistry, Counter, Gauge

from cipherkeep_host.emulated import image as images_of
from cipherkeep_host.emulated import jail
from cipherkeep_host.emulated.nsm import new_module_id
from cipherkeep_host.emulated.vsock import VsockDevice, enclave_folder, host_socket
from cipherkeep_host.errors import HostError

MODULE = "cipherkeep_enclave"
START_TIMEOUT = 30.0  # seconds until the NSM listens and the enclave's process is prepared; a loaded machine is slow
GRACE = 10.0  # seconds between SIGTERM and SIGKILL


@dataclass(frozen=True, slots=True)
class Status:
    """A running emulated enclave."""

    pid: int
    nsm_pid: int
    module_id: str
    pcrs: Mapping[int, bytes]  # PCR0 to PCR2
    network_isolated: bool  # False: the kernel refused a network namespace, the enclave could reach the network
    host_socket: Path  # hybrid vsock: dial with CONNECT, listen on this path + `_PORT`
    log: Path
    image: Path
    nsm_health: Path  # unix socket of the NSM's /healthz and /metrics


class Launcher:
    """Runs one emulated enclave at a time; each launch is a fresh boot with a fresh NSM."""

    def __init__(
        self,
        *,
        state: Path,
        run: Path,
        images: Path,
        path: Sequence[str] | None = None,
        grace: float = GRACE,
    ) -> None:
        """`state` holds the emulated PKI; `path` is where distributions are looked for, `sys.path` by default."""
        self._state = state.absolute()
        self._run = run.absolute()
        self._images = images.absolute()
        self._path = path
        self._grace = grace
        self._device = VsockDevice(self._run)
        self._nsm: asyncio.subprocess.Process | None = None
        self._enclave: asyncio.subprocess.Process | None = None
        self._held = -1
        self._image: images_of.Image | None = None
        self.status: Status | None = None
        self.registry = CollectorRegistry()
        self._launches = Counter("launcher_launches", "Launches, by outcome", ["outcome"], registry=self.registry)
        running = Gauge("launcher_running", "Whether an enclave was launched and not stopped", registry=self.registry)
        running.set_function(lambda: float(self.status is not None))

    def health(self) -> dict[str, object]:
        """How the enclave is, for the `/healthz` of the process that launches it; its metrics are in `registry`."""
        status = self.status
        if status is None:
            return {"ready": False}
        names = ("pid", "nsm_pid", "module_id", "network_isolated")
        return {"ready": True, **{name: getattr(status, name) for name in names}}

    def measure(self) -> Mapping[int, bytes]:
        """PCR0 to PCR2 of the enclave that `launch` would start now."""
        return images_of.stage(self._images, path=self._path).pcrs

    async def launch(self) -> Status:
        """Stage and measure the image, then boot it. `HostError` when a part does not start, with its log's path.

        Returns when the enclave's process runs, which is before it serves.
        """
        if self.status is not None:
            raise HostError("emulator.running")
        return await self._boot(await asyncio.to_thread(images_of.stage, self._images, path=self._path))

    async def relaunch(self) -> Status:
        """Boot the image of the last launch once more, whatever was edited since: a host restarts from an image."""
        if self.status is not None:
            raise HostError("emulator.running")
        if self._image is None:
            raise HostError("emulator.not_running")
        await asyncio.to_thread(images_of.check, self._image)
        return await self._boot(self._image)

    async def _boot(self, image: images_of.Image) -> Status:
        self._image = image
        self._held = images_of.hold(image)
        module_id = new_module_id()
        try:
            (self._run / "log").mkdir(parents=True, exist_ok=True, mode=0o700)
            self._clear()
            await self._device.open()
            nsm = await self._start_nsm(image, module_id)
            enclave, isolated = await self._start_enclave(image)
        except BaseException:
            self._launches.labels("failed").inc()
            await self._end()
            raise
        self._launches.labels("started").inc()
        self.status = Status(
            pid=enclave.pid,
            nsm_pid=nsm.pid,
            module_id=module_id,
            pcrs=image.pcrs,
            network_isolated=isolated,
            host_socket=host_socket(self._run),
            log=self._run / "log" / "enclave.log",
            image=image.folder,
            nsm_health=self._nsm_health,
        )
        return self.status

    async def wait(self) -> int:
        """Wait until the enclave's process or its NSM's ends by itself; returns the exit status (negative: the signal).

        No enclave is without its NSM: whoever waits here launches both anew.
        """
        if self._enclave is None or self._nsm is None:
            raise HostError("emulator.not_running")
        ends = [asyncio.create_task(process.wait()) for process in (self._enclave, self._nsm)]
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ends:
                task.cancel()
        return next(iter(done)).result()

    async def stop(self) -> None:
        """SIGTERM, a grace period, SIGKILL to what is left of the enclave's process group; then its machine."""
        if self._enclave is not None and self._enclave.returncode is None:
            self._enclave.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._enclave.wait(), self._grace)
        await self._end()

    async def kill(self) -> None:
        """SIGKILL, as a crash or a power cut would: nothing of the enclave gets a chance to finish."""
        await self._end()

    def _clear(self) -> None:
        """Leave nothing of an earlier boot: an enclave has no disk."""
        for folder in (enclave_folder(self._run), self._run / "scratch"):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)

    async def _start_nsm(self, image: images_of.Image, module_id: str) -> asyncio.subprocess.Process:
        log = self._run / "log" / "nsm.log"
        arguments = ["--socket", str(self._nsm_socket), "--state", str(self._state), "--module-id", module_id]
        arguments += ["--health", f"unix://{self._nsm_health}"]
        for index, value in image.pcrs.items():
            arguments += [f"--pcr{index}", value.hex()]
        with _append(log) as output:
            self._nsm = process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "cipherkeep_host.emulated.nsm", *arguments, "--parent", str(os.getpid())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                env={},
                cwd="/",
                start_new_session=True,
            )
        assert process.stdout is not None
        if not await _within(process.stdout.readline()):
            raise HostError("emulator.start", str(log))
        return process

    @property
    def _nsm_socket(self) -> Path:
        return self._run / "nsm.sock"

    @property
    def _nsm_health(self) -> Path:
        return self._run / "nsm-health.sock"

    async def _start_enclave(self, image: images_of.Image) -> tuple[asyncio.subprocess.Process, bool]:
        log = self._run / "log" / "enclave.log"
        # Fixed, so that an operator of an emulated enclave cannot pass it anything that is not measured.
        program = [str(image.python), "-I", "-m", MODULE]
        program += ["--nsm", f"unix://{self._nsm_socket}", "--vsock", str(enclave_folder(self._run))]
        reader, writer = os.pipe()
        try:
            with _append(log) as output:
                self._enclave = process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-I", "-S", jail.__file__, str(os.getpid()), str(writer), *program),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={},
                    cwd=self._run / "scratch",
                    start_new_session=True,
                    pass_fds=(writer,),
                )
            os.close(writer)
            writer = -1
            report = await _within(_read_byte(reader))
        finally:
            os.close(reader)
            if writer >= 0:
                os.close(writer)
        if report not in (b"0", b"1"):
            raise HostError("emulator.start", str(log))
        return process, report == b"1"

    async def _end(self) -> None:
        for process in (self._enclave, self._nsm):
            if process is not None:
                # The group outlives its leader while workers run; it is theirs alone (start_new_session).
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        self._enclave = self._nsm = None
        await self._device.close()
        for socket in (self._nsm_socket, self._nsm_health):
            socket.unlink(missing_ok=True)
        if self._held >= 0:
            os.close(self._held)
            self._held = -1
        self.status = None


def _append(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab")


async def _within(answer: Awaitable[bytes]) -> bytes:
    """What arrives in time, or nothing."""
    try:
        return await asyncio.wait_for(answer, START_TIMEOUT)
    except TimeoutError:
        return b""


async def _read_byte(descriptor: int) -> bytes:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, 1)
