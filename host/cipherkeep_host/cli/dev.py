"""`cipherkeep dev`: start, stop and look at the appliance of this machine."""

from __future__ import annotations

import json
import os
import shlex
import signal
import ssl
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from cipherkeep_attestation.receipts.trust import write_toml

from cipherkeep_host.appliance.plan import Environment, Paths, default_state
from cipherkeep_host.cli import output
from cipherkeep_host.cli.session import configuration_of, environment_of
from cipherkeep_host.errors import HostError

app = typer.Typer(no_args_is_help=True, help="The appliance on this machine: a whole party with an emulated enclave.")
State = Annotated[Path | None, typer.Option("--state", help="Folder of everything that lasts.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]
_STOP_SECONDS = 60.0
STAGES = {
    "chain": "chain: one validator and the application",
    "image": "enclave image staged and measured",
    "services": "key service, store, proxy",
    "enclave": "enclave launched with its configuration",
    "governance": "governance: release, admission, coprocessors",
    "registration": "attested channel, freshness, vault, registration",
    "key": "first key generated inside the enclave",
    "coprocessor": "coprocessor with reference string and server key",
}


def paths_of(state: Path | None) -> Paths:
    """Where the appliance of this state folder lives; `run` is the supervisor's own business."""
    return Paths((state or default_state()).absolute(), Path("/"))


def supervisor_pid(state: Path | None) -> int | None:
    """The process id of the running supervisor."""
    try:
        pid = int(paths_of(state).lock.read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid


@app.command(epilog="Example: cipherkeep dev up --commit-ms 0")
def up(
    state: State = None,
    commit_ms: Annotated[int, typer.Option(help="Wait after each block, in milliseconds.")] = 200,
    foreground: Annotated[bool, typer.Option(help="Stay, and stop with Ctrl-C.")] = False,
) -> None:
    """Start the appliance, or say that it runs."""
    if supervisor_pid(state) is not None:
        output.out.print("The appliance runs already.")
        return
    command = [sys.executable, "-m", "cipherkeep_host.appliance", "--commit-ms", str(commit_ms)]
    command += ["--state", str(paths_of(state).state)]
    if foreground:
        command.append("--with-parent")
    with log_file(paths_of(state)) as log:
        process = subprocess.Popen(  # noqa: S603 (our own module)
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    try:
        follow(process)
        if foreground:
            output.out.print("Press Ctrl-C to stop.")
            process.wait()
    except (KeyboardInterrupt, HostError) as problem:
        process.terminate()
        process.wait()
        if isinstance(problem, HostError):
            output.fail(problem)
        raise typer.Exit(output.INTERRUPTED) from None
    if not foreground:
        hint = "cipherkeep dev status" if state is None else f"cipherkeep dev status --state {shlex.quote(str(state))}"
        output.out.print(f"Running. `{hint}` shows it; `cipherkeep dev down` stops it.")


def log_file(paths: Paths) -> BinaryIO:
    """The supervisor's own log, to append to."""
    paths.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    return (paths.logs / "appliance.log").open("ab")


def follow(process: subprocess.Popen[bytes]) -> None:
    """Show the stages of a start until all serves. `HostError` as the supervisor says it."""
    assert process.stdout is not None
    begun, current = time.monotonic(), ""
    for line in process.stdout:
        event = json.loads(line)
        if "code" in event:
            raise HostError(event["code"], event["detail"])
        if current:
            output.out.print(f"  [green]✓[/green] {STAGES[current]}")
        current = event.get("stage", "")
        if event.get("ready"):
            output.out.print(f"  [dim]ready after {time.monotonic() - begun:.0f} s[/dim]")
            return
    raise HostError("appliance.start", f"the supervisor ended with {process.wait()}")


@app.command(epilog="Example: cipherkeep dev down")
def down(state: State = None) -> None:
    """Stop the appliance. What lasts stays in its state folder."""
    pid = supervisor_pid(state)
    if pid is None:
        output.out.print("No appliance runs here.")
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while supervisor_pid(state) == pid:
        if time.monotonic() > deadline:
            output.fail(HostError("appliance.timeout", f"process {pid} does not end"))
        time.sleep(0.05)
    output.out.print("Stopped.")


def _rows(environment: Environment) -> dict[str, object]:
    names = ("chain_id", "instance", "party", "node", "coprocessor", "store", "attestation", "logs")
    return {name: getattr(environment, name) for name in names}


def _processes(state: Path | None) -> dict[str, int | None]:
    try:
        found: dict[str, int | None] = json.loads(paths_of(state).processes.read_text())
    except (OSError, ValueError):
        return {}
    return found


@app.command(epilog="Example: cipherkeep dev status --json")
def status(state: State = None, as_json: Json = False) -> None:
    """Say what runs, and whether the enclave is cut off from the network."""
    pid = supervisor_pid(state)
    try:
        environment = environment_of(state)
    except HostError as error:
        output.fail(error if pid is None else HostError("appliance.timeout", "still starting"))
    if pid is None:
        output.fail(HostError("appliance.not_running", str(paths_of(state).state)))
    rows = {**_rows(environment), "network_isolated": environment.network_isolated}
    rows["processes"] = {"supervisor": pid, **_processes(state)}
    if as_json:
        output.show_json(rows)
        return
    rows["network_isolated"] = (
        "yes" if environment.network_isolated else "NO: this kernel refused a network namespace for the enclave"
    )
    processes = rows.pop("processes")
    output.show_fields("The appliance runs", rows)
    assert isinstance(processes, dict)
    output.show_fields("Processes", {name: found or "being restarted" for name, found in processes.items()})


@app.command(epilog="Example: cipherkeep dev trust > trust.toml")
def trust(state: State = None) -> None:
    """Print the trust file of this appliance, for `cipherkeep-audit`: chain, instance, and the emulated root."""
    try:
        environment = environment_of(state)
    except HostError as error:
        output.fail(error)
    configuration = configuration_of(environment)
    text = write_toml(
        configuration.root,
        configuration.instance,
        configuration.genesis,
        enclave_root=ssl.DER_cert_to_PEM_cert(Path(environment.enclave_root).read_bytes()),
        comment="What is trusted about one appliance on a laptop. Its root is EMULATED: its owner can forge it.",
    )
    typer.echo(text, nl=False)


@app.command(epilog='Example: eval "$(cipherkeep dev env)"')
def env(state: State = None, as_json: Json = False) -> None:
    """Print every address, id and fingerprint that a client needs."""
    try:
        found = asdict(environment_of(state))
    except HostError as error:
        output.fail(error)
    if as_json:
        output.show_json(found)
        return
    for name, value in found.items():
        text = json.dumps(value) if isinstance(value, (dict, bool)) else str(value)
        typer.echo(f"CIPHERKEEP_{name.upper()}={shlex.quote(text)}")
