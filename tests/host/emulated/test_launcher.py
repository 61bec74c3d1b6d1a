"""The launcher: boots a measured stand-in for the enclave, takes away what no enclave has, leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cipherkeep_attestation.nitro.verify import Measurements, Policy, verify
from cipherkeep_enclave.nsm import Nsm
from cipherkeep_host.emulated import jail
from cipherkeep_host.emulated.launcher import Launcher, Status
from cipherkeep_host.emulated.pki import emulated_root
from cipherkeep_host.errors import HostError
from cipherkeep_wire.transport import Address, connect

from tests.host.emulated.processes import ended, page, short_folder
from tests.host.emulated.test_image import distribution

# A stand-in for the enclave: serves JSON about itself on port 5000 and asks its NSM for a document on demand. It needs
# the standard library only, so that its closure is itself.
PROGRAM = """
import json, os, signal, socket, subprocess, sys

arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
print("started", flush=True)
child = subprocess.Popen([sys.executable, "-I", "-c", "import time; time.sleep(600)"])


def network():
    try:
        with socket.create_connection(("127.0.0.1", PORT), timeout=5):
            return "reached"
    except OSError as error:
        return type(error).__name__


def document(request):
    with socket.socket(socket.AF_UNIX) as nsm:
        nsm.connect(arguments["--nsm"].removeprefix("unix://"))
        nsm.sendall(len(request).to_bytes(4, "big") + request)
        with nsm.makefile("rb") as stream:
            return stream.read(int.from_bytes(stream.read(4), "big")).hex()


listener = socket.socket(socket.AF_UNIX)
listener.bind(os.path.join(arguments["--vsock"], "5000.sock"))
listener.listen()
while True:
    connection, _ = listener.accept()
    with connection, connection.makefile("rb") as stream:
        line = stream.readline().decode().split()
        if line[0] == "exit":
            os._exit(int(line[1]))
        answer = {
            "argv": sys.argv,
            "environment": dict(os.environ),
            "folder": os.getcwd(),
            "path": sys.path,
            "group": os.getpgrp(),
            "child": child.pid,
            "stdin": os.readlink("/proc/self/fd/0"),
            "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd")),
            "interfaces": [name for _, name in socket.if_nameindex()],
            "network": network(),
            "privileges": [row for row in open("/proc/self/status").read().splitlines() if "NoNewPrivs" in row],
            "document": document(bytes.fromhex(line[1])) if len(line) > 1 else None,
        }
        connection.sendall(json.dumps(answer).encode())
"""


@contextlib.contextmanager
def installed(folder: Path, program: str) -> Any:
    """A site-packages with this program as the enclave."""
    files = {"cipherkeep_enclave/__init__.py": "", "cipherkeep_enclave/__main__.py": program}
    distribution(folder / "site", "cipherkeep-enclave", files)
    yield [str(folder / "site")]


@pytest.fixture
async def neighbour() -> AsyncIterator[int]:
    """A service on the host's loopback that an enclave must not reach."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


@pytest.fixture
async def launcher(state: Path, folder: Path, neighbour: int) -> AsyncIterator[Launcher]:
    """A launcher of the stand-in."""
    with installed(folder, PROGRAM.replace("PORT", str(neighbour))) as path:
        made = Launcher(state=state, run=folder / "run", images=folder / "images", path=path, grace=3)
        yield made
        await made.kill()


async def ask(status: Status, line: str = "about") -> Any:
    """The stand-in's answer, through the vsock device; waits until it listens."""
    for _ in range(400):
        with contextlib.suppress(Exception):
            reader, writer = await connect(Address.parse(f"unix-vsock://{status.host_socket}#5000"), timeout=5)
            writer.write(f"{line}\n".encode())
            answer = json.loads(await asyncio.wait_for(reader.read(-1), 20))
            writer.close()
            return answer
        await asyncio.sleep(0.02)
    raise AssertionError(status.log.read_text())


async def test_a_booted_enclave_has_nothing_but_its_sockets(launcher: Launcher, folder: Path) -> None:
    """Fixed arguments, no environment, no stdin, its own folder and group, few descriptors, nothing else to import."""
    status = await launcher.launch()
    about = await ask(status)
    assert about["argv"][1:] == ["--nsm", f"unix://{folder}/run/nsm.sock", "--vsock", f"{folder}/run/enclave"]
    assert about["environment"].keys() <= {"LC_CTYPE"}  # CPython's own coercion of an empty locale
    assert about["folder"] == f"{folder}/run/scratch"
    assert about["stdin"] == "/dev/null"
    assert len(about["descriptors"]) <= 6  # three standard ones, the listener, this stream, the listing itself
    assert about["group"] == status.pid != os.getpgrp()
    assert about["path"][-1].startswith(str(status.image))
    assert not [entry for entry in about["path"] if entry.startswith(str(folder / "site"))]
    assert about["privileges"] == ["NoNewPrivs:\t1"]


async def test_an_enclave_cannot_reach_the_network(launcher: Launcher) -> None:
    """Where the kernel permits a namespace there is no interface but a dead loopback; the status says which it is."""
    status = await launcher.launch()
    about = await ask(status)
    assert status.network_isolated is (about["network"] != "reached")
    if status.network_isolated:
        assert about["interfaces"] == ["lo"]


async def test_its_documents_carry_the_measured_image(launcher: Launcher, state: Path) -> None:
    """What the launcher reports is what a verifier finds in the document of the running enclave."""
    from cipherkeep_attestation.cbor import decode, encode

    status = await launcher.launch()
    nothing = {"user_data": None, "nonce": b"n" * 32, "public_key": None}
    about = await ask(status, f"about {encode({'Attestation': nothing}).hex()}")
    answer: Any = decode(bytes.fromhex(about["document"]))
    document = answer["Attestation"]["document"]
    policy = Policy(
        measurements=(Measurements(status.pcrs),), nonce=b"n" * 32, public_key=None, max_age=timedelta(minutes=1)
    )
    found = verify(document, root=emulated_root(state), policy=policy, at=datetime.now(UTC))
    assert found.module_id == status.module_id


async def test_an_edited_enclave_file_boots_with_another_pcr0(launcher: Launcher, folder: Path) -> None:
    """The next launch measures what it runs."""
    before = (await launcher.launch()).pcrs
    await launcher.stop()
    with (folder / "site" / "cipherkeep_enclave" / "__main__.py").open("a") as file:
        file.write("# edited\n")
    after = (await launcher.launch()).pcrs
    assert before[0] != after[0]
    assert launcher.measure() == after


async def test_a_crashed_enclave_boots_the_same_image(launcher: Launcher, folder: Path) -> None:
    """An edit waits for the next launch; a staged image that somebody changed does not boot again."""
    with pytest.raises(HostError) as refused:
        await launcher.relaunch()
    assert refused.value.code == "emulator.not_running"
    status = await launcher.launch()
    with (folder / "site" / "cipherkeep_enclave" / "__main__.py").open("a") as file:
        file.write("# edited\n")
    await launcher.kill()
    again = await launcher.relaunch()
    assert again.pcrs == status.pcrs and again.pid != status.pid
    await launcher.kill()
    staged = next(again.image.rglob("cipherkeep_enclave/__main__.py"))
    staged.chmod(0o600)
    with staged.open("a") as file:
        file.write("# changed\n")
    with pytest.raises(HostError) as refused:
        await launcher.relaunch()
    assert refused.value.code == "emulator.image_changed"


async def test_each_launch_is_a_fresh_boot(launcher: Launcher, folder: Path) -> None:
    """PCR16 is zero again, the module id is new, and nothing of the scratch folder is left."""
    status = await launcher.launch()
    await ask(status)
    with Nsm(f"unix://{folder}/run/nsm.sock") as nsm:
        nsm.extend_pcr(16, b"configuration")
    (folder / "run" / "scratch" / "left").write_text("over")
    await launcher.kill()
    again = await launcher.launch()
    with Nsm(f"unix://{folder}/run/nsm.sock") as nsm:
        assert nsm.describe_pcr(16).value == bytes(48)
        assert nsm.describe().module_id == again.module_id != status.module_id
    assert list((folder / "run" / "scratch").iterdir()) == []


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_nothing_is_left_behind(launcher: Launcher, folder: Path, way: str) -> None:
    """Enclave, its workers and its NSM are gone, and so are the sockets."""
    status = await launcher.launch()
    about = await ask(status)
    await (launcher.stop() if way == "stop" else launcher.kill())
    for pid in (status.pid, status.nsm_pid, about["child"]):
        assert ended(pid)
    assert launcher.status is None
    assert not status.host_socket.exists()
    assert not (folder / "run" / "nsm.sock").exists()


async def test_an_enclave_that_ignores_sigterm_is_killed(state: Path, folder: Path) -> None:
    """After the grace period."""
    program = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('on', flush=True)\ntime.sleep(600)\n"
    )
    with installed(folder, program) as path:
        launcher = Launcher(state=state, run=folder / "run", images=folder / "images", path=path, grace=0.3)
        status = await launcher.launch()
        for _ in range(200):
            if status.log.read_text():
                break
            await asyncio.sleep(0.02)
        await asyncio.wait_for(launcher.stop(), 10)
        assert ended(status.pid)


async def test_an_enclave_that_ends_is_noticed(launcher: Launcher) -> None:
    """Its exit status comes back; the launcher can launch again after a stop."""
    status = await launcher.launch()
    await ask(status)
    _, writer = await connect(Address.parse(f"unix-vsock://{status.host_socket}#5000"), timeout=5)
    writer.write(b"exit 7\n")
    assert await asyncio.wait_for(launcher.wait(), 20) == 7
    writer.close()
    await launcher.stop()
    await launcher.launch()


def test_it_never_outlives_the_launchers_process(state: Path, folder: Path) -> None:
    """When the launcher is killed, the kernel kills enclave and NSM."""
    with installed(folder, "import time\ntime.sleep(600)\n") as path:
        program = (
            "import asyncio\nfrom pathlib import Path\n"
            "from cipherkeep_host.emulated.launcher import Launcher\n"
            "async def main():\n"
            f"    launcher = Launcher(state=Path({str(state)!r}), run=Path({str(folder / 'run')!r}),\n"
            f"                        images=Path({str(folder / 'images')!r}), path={path!r})\n"
            "    status = await launcher.launch()\n"
            "    print(status.pid, status.nsm_pid, flush=True)\n"
            "    await asyncio.sleep(600)\n"
            "asyncio.run(main())\n"
        )
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            pids = [int(pid) for pid in parent.stdout.readline().split()]
            parent.kill()
        assert len(pids) == 2
        assert all(ended(pid) for pid in pids)


async def test_one_launcher_runs_one_enclave(launcher: Launcher) -> None:
    """A second launch is refused and does not disturb the first; waiting for none is refused too."""
    with pytest.raises(HostError) as refusal:
        await launcher.wait()
    assert refusal.value.code == "emulator.not_running"
    status = await launcher.launch()
    with pytest.raises(HostError) as refusal:
        await launcher.launch()
    assert refusal.value.code == "emulator.running"
    assert (await ask(status))["group"] == status.pid


async def test_it_says_how_its_enclave_is(launcher: Launcher, folder: Path) -> None:
    """Whether one runs, which, and how many were launched; the NSM answers for itself while it is there."""
    assert launcher.health() == {"ready": False}
    status = await launcher.launch()
    assert launcher.health() == {
        "ready": True,
        "pid": status.pid,
        "nsm_pid": status.nsm_pid,
        "module_id": status.module_id,
        "network_isolated": status.network_isolated,
    }
    assert json.loads(page(status.nsm_health, "/healthz")[1])["module_id"] == status.module_id
    await launcher.kill()
    assert launcher.health() == {"ready": False}
    assert not status.nsm_health.exists()
    await launcher.relaunch()
    value = launcher.registry.get_sample_value
    assert (value("launcher_launches_total", {"outcome": "started"}), value("launcher_running")) == (2, 1)


async def test_a_machine_that_does_not_start_leaves_nothing(folder: Path) -> None:
    """Without an emulated root the NSM ends; the refusal names its log, and nothing runs on."""
    with installed(folder, PROGRAM) as path, short_folder() as empty:
        launcher = Launcher(state=empty, run=folder / "run", images=folder / "images", path=path)
        with pytest.raises(HostError) as refusal:
            await launcher.launch()
        assert refusal.value.code == "emulator.start"
        assert refusal.value.detail == str(folder / "run" / "log" / "nsm.log")
        assert "emulator.state_missing" in (folder / "run" / "log" / "nsm.log").read_text()
        assert launcher.status is None
        assert launcher.registry.get_sample_value("launcher_launches_total", {"outcome": "failed"}) == 1
        assert not (folder / "run" / "host" / "e.vsock").exists()


async def test_logs_are_for_their_owner_only(launcher: Launcher) -> None:
    """What the enclave prints goes to a file of mode 0600, which a second boot appends to."""
    for _ in range(2):
        status = await launcher.launch()
        await ask(status)
        await launcher.kill()
    assert status.log.read_text().count("started") == 2
    assert stat.S_IMODE(status.log.stat().st_mode) == 0o600


class Refusing:
    """A kernel that permits no namespace."""

    def unshare(self, flags: int) -> int:
        """Always an error."""
        return -1


def test_a_kernel_that_permits_no_namespace_is_not_taken_for_one_that_does() -> None:
    """The launcher reports what it got, not what it asked for."""
    assert jail.isolate(Refusing()) is False  # type: ignore[arg-type]
