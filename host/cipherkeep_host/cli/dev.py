"""`cipherkeep dev`: start, stop and look at the appliance of this machine."""

from __future__ import annotations

import json
import os
import shlex
import ssl
import subprocess
import sys
import time
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from cipherkeep_attestation.receipts.trust import write_toml

from cipherkeep_host.appliance import lock
from cipherkeep_host.appliance.plan import Environment, Paths
from cipherkeep_host.cli import output
from cipherkeep_host.cli.session import configuration_of, environment_of, paths_of
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


@app.command(epilog="Example: cipherkeep dev up --commit-ms 0")
def up(
    state: State = None,
    commit_ms: Annotated[int, typer.Option(help="Wait after each block, in milliseconds.")] = 200,
    foreground: Annotated[bool, typer.Option(help="Stay, and stop with Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Start the appliance, or say that it runs."""
    begun, found = time.monotonic(), _holder(state)
    if found is not None:
        _say(as_json, {"started": False, "supervisor": found}, "The appliance runs already.")
        return
    command = [sys.executable, "-m", "cipherkeep_host.appliance", "--commit-ms", str(commit_ms)]
    command += ["--state", str(paths_of(state).state)]
    if foreground:
        command += ["--with-parent", str(os.getpid())]
    with log_file(paths_of(state)) as log:
        process = subprocess.Popen(  # noqa: S603 (our own module)
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    hint = "cipherkeep dev status" if state is None else f"cipherkeep dev status --state {shlex.quote(str(state))}"
    text = "Press Ctrl-C to stop." if foreground else f"Running. `{hint}` shows it; `cipherkeep dev down` stops it."
    try:
        follow(process, quiet=as_json)
        seconds = round(time.monotonic() - begun, 1)
        _say(as_json, {"started": True, "supervisor": process.pid, "seconds": seconds}, text)
        if foreground:
            process.wait()
    except (KeyboardInterrupt, HostError) as problem:
        process.terminate()
        process.wait()
        if isinstance(problem, HostError):
            output.fail(problem)
        raise typer.Exit(output.INTERRUPTED) from None


def _holder(state: Path | None) -> int | None:
    """The process id of the running supervisor."""
    try:
        return lock.holder(paths_of(state).lock)
    except HostError as error:
        output.fail(error)


def _say(as_json: bool, fields: dict[str, object], text: str) -> None:
    output.show_json(fields) if as_json else output.out.print(text)


def log_file(paths: Paths) -> BinaryIO:
    """The supervisor's own log, to append to."""
    paths.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    return (paths.logs / "appliance.log").open("ab")


def follow(process: subprocess.Popen[bytes], *, quiet: bool = False) -> None:
    """Show the stages of a start until all serves, unless `quiet`. `HostError` as the supervisor says it."""
    assert process.stdout is not None
    begun, current = time.monotonic(), ""
    for line in process.stdout:
        event = json.loads(line)
        if "code" in event:
            raise HostError(event["code"], event["detail"])
        if current and not quiet:
            output.out.print(f"  [green]✓[/green] {STAGES[current]}")
        current = event.get("stage", "")
        if event.get("ready"):
            if not quiet:
                output.out.print(f"  [dim]ready after {time.monotonic() - begun:.0f} s[/dim]")
            return
    raise HostError("appliance.start", f"the supervisor ended with {process.wait()}")


@app.command(epilog="Example: cipherkeep dev down")
def down(state: State = None, as_json: Json = False) -> None:
    """Stop the appliance. What lasts stays in its state folder."""
    path = paths_of(state).lock
    try:
        pid = lock.end_holder(path)
        deadline = time.monotonic() + _STOP_SECONDS
        while pid is not None and lock.holder(path) == pid:
            if time.monotonic() > deadline:
                raise HostError("appliance.timeout", f"process {pid} does not end")
            time.sleep(0.05)
    except HostError as error:
        output.fail(error)
    text = "No appliance runs here." if pid is None else "Stopped."
    _say(as_json, {"stopped": pid is not None, "supervisor": pid}, text)


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
    pid = _holder(state)
    try:
        environment = environment_of(state)
    except HostError as error:
        output.fail(error if pid is None else HostError("appliance.timeout", "still starting"))
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
def trust(state: State = None, as_json: Json = False) -> None:
    """Print the trust file of this appliance, for `cipherkeep-audit`: chain, instance, and the emulated root.

    The file is TOML; with --json the same is printed as one JSON object, to be read and not to be audited with.
    """
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
    if as_json:
        output.show_json(tomllib.loads(text))
        return
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
