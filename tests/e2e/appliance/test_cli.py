"""What the command line prints and how it exits, as its users and their scripts see it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from cipherkeep_attestation.statements import layout
from cipherkeep_host.cli import output
from cipherkeep_host.cli.session import Session
from cipherkeep_host.errors import HostError

from tests.e2e.appliance import strangers
from tests.e2e.appliance.conftest import Inputs
from tests.e2e.appliance.running import Running, started

PROGRAM = Path(sys.executable).parent / "cipherkeep"
SECONDS = 180.0
COMMANDS = (
    "dev up",
    "dev down",
    "dev status",
    "dev trust",
    "dev env",
    "key generate",
    "key list",
    "key show",
    "encrypt",
    "decrypt",
    "user-decrypt",
    "request show",
    "party list",
    "party show",
    "attest",
)


def run(*arguments: str, state: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The program with its output piped."""
    command = [str(PROGRAM), *arguments, *(() if state is None else ("--state", str(state)))]
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, env=environment
    )


def answer(appliance: Running, *arguments: str) -> Any:
    """The JSON that a command prints, and nothing else, when all is well."""
    done = run(*arguments, "--json", state=appliance.state)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def problem(appliance: Running, *arguments: str) -> tuple[int, str]:
    """(exit code, code of the rule) of a command that fails; its error is one JSON object on stderr."""
    done = run(*arguments, state=appliance.state)
    assert done.stdout == ""
    said = json.loads(done.stderr)
    assert set(said) == {"code", "sentence", "detail", "hint"}
    assert said["sentence"].endswith(".") and said["hint"]
    return done.returncode, said["code"]


# --- without an appliance ---


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str) -> None:
    """Every command says how it is used, by an example that names it, and that it takes --json."""
    done = run(*command.split(), "--help")
    assert done.returncode == 0 and "--json" in done.stdout
    assert "Example:" in done.stdout and f"cipherkeep {command}" in done.stdout.partition("Example:")[2]


def test_help_names_the_exit_codes() -> None:
    """The first page that anyone reads lists them."""
    done = run("--help")
    assert "0 done, 1 refused or not proven, 2 wrong usage, 3 nothing to talk to, 4 not in time" in done.stdout


@pytest.mark.parametrize("arguments", [(), ("dev",), ("decrypt",), ("attest", "--nonsense"), ("request", "show")])
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    """Exits with 2, prints no result, and says what is expected."""
    done = run(*arguments)
    assert done.returncode == 2
    assert "Usage" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments", [("attest",), ("key", "list"), ("decrypt", "ab" * 32), ("dev", "status"), ("dev", "env")]
)
def test_nothing_to_talk_to(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Exits with 3, and the hint says how an appliance is started."""
    done = run(*arguments, state=tmp_path)
    said = json.loads(done.stderr)
    assert (done.returncode, said["code"]) == (3, "appliance.not_running")
    assert "cipherkeep dev up" in said["hint"]


def test_down_without_an_appliance_is_done(tmp_path: Path) -> None:
    """What is asked for is the case: that is no failure."""
    done = run("dev", "down", state=tmp_path)
    assert (done.returncode, done.stdout) == (0, "No appliance runs here.\n")
    done = run("dev", "down", "--json", state=tmp_path)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"stopped": False, "supervisor": None})


def test_what_cannot_be_reached_exits_with_3(tmp_path: Path) -> None:
    """Also when a supervisor lives whose proxy gives no document: nothing was refused, nobody answered."""
    with pytest.raises(typer.Exit) as ended:
        output.fail(HostError("cli.attestation"))
    assert ended.value.exit_code == 3


# --- the appliance ---


def test_a_second_start_says_that_it_runs(appliance: Running) -> None:
    """`dev up` over a running appliance changes nothing."""
    before = appliance.pids()
    done = run("dev", "up", state=appliance.state)
    assert (done.returncode, done.stdout) == (0, "The appliance runs already.\n")
    assert answer(appliance, "dev", "up") == {"started": False, "supervisor": appliance.process.pid}
    assert appliance.pids() == before


def test_status_names_every_process(appliance: Running) -> None:
    """Each part with its process id, and whether the enclave is cut off from the network."""
    found = answer(appliance, "dev", "status")
    assert set(found["processes"]) == {
        "supervisor",
        "application",
        "node",
        "aws-kms",
        "store",
        "proxy",
        "nsm",
        "enclave",
        "connector",
        "coprocessor",
    }
    assert all(started(pid) for pid in found["processes"].values())
    assert found["network_isolated"] in (True, False)
    text = run("dev", "status", state=appliance.state).stdout
    assert f"enclave      {found['processes']['enclave']}" in text
    assert f"chain_id          {found['chain_id']}" in text


# Each process by its name in `dev env`, and something that only it counts.
PAGES = {
    "appliance": 'appliance_process_up{process="enclave"} 1.0',
    "application": "",
    "attestation": "",
    "connector": "",
    "coprocessor": "",
    "kms": "emulated_kms_calls",
    "nsm": 'nsm_requests_total{outcome="Attestation"}',
    "store": "",
}


@pytest.mark.parametrize("name", PAGES)
async def test_a_process_says_how_it_is(appliance: Running, name: str) -> None:
    """`/healthz` and `/metrics` of every process, at the addresses of `dev env`."""
    await appliance.up()
    if name == "appliance":
        said = await appliance.healthy("appliance", lambda body: body["ready"])
        assert said["launcher"]["ready"] and said["processes"]["enclave"] == said["launcher"]["pid"]
        assert set(said["restarts"]) == {"aws-kms", "store", "proxy", "connector", "coprocessor", "enclave"}
    path = getattr(appliance.environment, name).removeprefix("unix://")
    scheme = "https" if name == "kms" else "http"
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=path, verify=False)) as client:
        assert (await client.get(f"{scheme}://part/healthz")).json()["ready"] is True
        assert PAGES[name] in (await client.get(f"{scheme}://part/metrics")).text


async def test_the_consensus_engine_says_how_it_is(appliance: Running) -> None:
    """Its health by JSON-RPC, its metrics at an address of their own; both on loopback."""
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{appliance.environment.node}/health")).status_code == 200
        assert "cometbft_consensus_height" in (await client.get(appliance.environment.node_metrics)).text


def test_the_environment_can_be_read_by_a_shell(appliance: Running) -> None:
    """What `dev env` prints are assignments, whatever stands in the values."""
    found = answer(appliance, "dev", "env")
    lines = run("dev", "env", state=appliance.state).stdout
    script = f'{lines}\nprintf %s "$CIPHERKEEP_NODE|$CIPHERKEEP_CHAIN_ID|$CIPHERKEEP_PCRS"'
    shell = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, timeout=20)
    node, chain_id, pcrs = shell.stdout.split("|")
    assert (node, chain_id, json.loads(pcrs)) == (found["node"], found["chain_id"], found["pcrs"])


def test_the_trust_file_is_toml_and_json(appliance: Running) -> None:
    """The file that auditors give to their program, and the same as an object."""
    found = answer(appliance, "dev", "trust")
    assert found == tomllib.loads(run("dev", "trust", state=appliance.state).stdout)
    assert "BEGIN CERTIFICATE" in json.dumps(found)


# --- what can be proven ---


def test_attest(appliance: Running) -> None:
    """The image's measurements and the configuration; that the root is an emulated one is said in capitals."""
    found = answer(appliance, "attest")
    assert found["PCR0 (image)"] == appliance.environment.pcrs["0"]
    assert found["configuration"] == appliance.environment.configuration_digest
    assert "EMULATED" in found["vouched for by"]
    text = run("attest", state=appliance.state)
    assert text.returncode == 0 and text.stdout.startswith("The enclave's document is in order\n")


def test_keys(appliance: Running) -> None:
    """A list, and each by the first digits of its id."""
    rows = answer(appliance, "key", "list")
    assert set(rows[0]) == {
        "id",
        "served",
        "parameters",
        "authorisers",
        "material",
        "request_block",
        "proven_under_header",
        "answered_by",
    }
    assert {item["kind"] for item in rows[0]["material"]} == {"public_key", "server_key"}
    shown = answer(appliance, "key", "show", rows[0]["id"][:12])
    assert {**shown, "proven_under_header": 0} == {**rows[0], "proven_under_header": 0}
    text = run("key", "list", state=appliance.state).stdout
    (line,) = (line for line in text.splitlines() if line.startswith(rows[0]["id"]))
    assert rows[0]["served"] is True and line.split()[-1] == "yes"
    assert problem(appliance, "key", "show", "00" * 32) == (1, "client.key_unknown")


def test_parties(appliance: Running) -> None:
    """Who holds keys, in which image and configuration."""
    (row,) = answer(appliance, "party", "list")
    assert (row["index"], row["name"]) == (1, appliance.environment.party)
    assert row["configuration"] == appliance.environment.configuration_digest
    assert strangers.party_address(row["signing_key"]).startswith("0x")
    assert answer(appliance, "party", "show", "party-1")["evidence_key"] == row["evidence_key"]
    assert row["evidence_key"] in run("party", "list", state=appliance.state).stdout
    assert problem(appliance, "party", "show", "party-2") == (1, "cli.party")


# --- values ---


def test_values_from_end_to_end(appliance: Running) -> None:
    """Encrypted, opened for everyone, opened for their owner alone, and each request proven."""
    bound = answer(appliance, "encrypt", "uint64:42", "bool:true", "address:0x" + "Ab" * 20)
    assert [set(row) for row in bound] == [{"handle", "type", "digest", "owner"}] * 3
    assert [row["type"] for row in bound] == ["uint64", "bool", "uint160"]
    handles = [row["handle"] for row in bound]
    expected = [42, 1, int("ab" * 20, 16)]
    opened = answer(appliance, "decrypt", *handles)
    assert set(opened) == {"request", "values", "request_block", "proven_under_header", "signed_by"}
    assert [(row["handle"], row["value"]) for row in opened["values"]] == list(zip(handles, expected, strict=True))
    assert [row["typed_data"] for row in opened["signed_by"]] == ["PublicDecryptVerification"]
    private = answer(appliance, "user-decrypt", *handles)
    assert [row["value"] for row in private["values"]] == expected
    assert [row["typed_data"] for row in private["signed_by"]] == ["UserDecryptResponseVerification"]
    for found, operation in ((opened, "public_decrypt"), (private, "user_decrypt")):
        shown = answer(appliance, "request", "show", found["request"])
        assert (shown["operation"], shown["state"]) == (operation, layout.FINAL)
        assert shown["block"] == found["request_block"] < shown["proven_under"]["height"]
        assert set(shown["proof"]) == {"key", "value", "proof"}
    text = run("decrypt", handles[0], state=appliance.state)
    assert text.returncode == 0
    assert text.stdout.splitlines()[0] == "Opened for everyone"
    assert text.stdout.splitlines()[2].split() == ["uint64", "42", handles[0]]


@pytest.mark.parametrize(
    "value", ["42", "uint64", "uint64:x", "uint8:256", "uint64:-1", "bool:2", "float:1", "address:0x12"]
)
def test_a_bad_value(appliance: Running, value: str) -> None:
    """What is no value of its type is wrong usage; nothing was sent."""
    assert problem(appliance, "encrypt", value) == (2, "cli.value")


def test_bad_handles_ids_and_files(appliance: Running, tmp_path: Path) -> None:
    """Each is told apart: of wrong form, unknown to the coprocessor, unknown to the chain."""
    key = tmp_path / "user.key"
    key.write_text("not a key")
    unknown = "ab" * 32
    assert problem(appliance, "decrypt", "zz") == (2, "cli.handle")
    assert problem(appliance, "decrypt", unknown) == (1, "coprocessor.handle")
    assert problem(appliance, "decrypt", unknown, "--key", unknown) == (1, "client.key_unknown")
    assert problem(appliance, "user-decrypt", unknown, "--user-key", str(key)) == (2, "cli.user_key")
    assert problem(appliance, "request", "show", unknown) == (1, "client.request_unknown")
    assert problem(appliance, "request", "show", "not-hex") == (1, "client.request_unknown")


async def test_not_in_time(appliance: Running, session: Session, inputs: Inputs) -> None:
    """Exits with 4 while nobody carries requests; the request is not lost, and is answered later."""
    before = await session.chain.last_key(session.trust.instance, layout.REQUESTS)
    with appliance.halted("connector"):
        assert problem(appliance, "decrypt", inputs.handles[0].hex(), "--timeout", "1") == (4, "client.timeout")
    record = await session.chain.prove(session.trust.instance, layout.REQUESTS, before + 1)
    assert record.value is not None
    verified = await session.client.wait(layout.RequestRecord.decode(record.value).id)
    assert verified.values[0][2] == inputs.values[0][1]


async def test_a_request_that_a_ciphertext_keeps_open(appliance: Running, session: Session, inputs: Inputs) -> None:
    """`decrypt` and `request show` name what keeps it, with a hint; when the bytes are back, it is answered."""
    bound = await session.client.compute(
        inputs.key_id, "sub", [inputs.handles[0], inputs.handles[3]], owner=inputs.user
    )
    file, aside = appliance.blob(bound.digest), appliance.state / "aside"
    file.rename(aside)
    try:
        asked = ("decrypt", bound.handle.hex(), "--timeout", "1")
        assert await asyncio.to_thread(problem, appliance, *asked) == (4, "client.ciphertext_missing")
        last = await session.chain.last_key(session.trust.instance, layout.REQUESTS)
        record = await session.chain.prove(session.trust.instance, layout.REQUESTS, last)
        assert record.value is not None
        request_id = layout.RequestRecord.decode(record.value).id
        shown = await asyncio.to_thread(answer, appliance, "request", "show", request_id.hex())
        assert shown["state"] == layout.PENDING
        assert shown["obstacle"]["code"] == "client.ciphertext_missing" and shown["obstacle"]["hint"]
        text = (await asyncio.to_thread(run, "request", "show", request_id.hex(), state=appliance.state)).stdout
        assert "client.ciphertext_missing" in text and shown["obstacle"]["hint"] in text
    finally:
        aside.rename(file)
    assert (await session.client.wait(request_id)).values[0][2] == 2**64 - 5
    assert (await asyncio.to_thread(answer, appliance, "request", "show", request_id.hex()))["obstacle"] is None


def test_another_users_values(appliance: Running, inputs: Inputs) -> None:
    """The test user of this machine does not own what somebody else encrypted."""
    assert problem(appliance, "user-decrypt", inputs.handles[0].hex()) == (1, "client.transaction_refused")


def test_on_a_terminal_an_error_is_a_sentence(appliance: Running) -> None:
    """With its code and its hint, and without JSON."""
    main, other = pty.openpty()
    try:
        done = subprocess.run(
            [str(PROGRAM), "decrypt", "zz", "--state", str(appliance.state)],
            stdin=subprocess.DEVNULL,
            stdout=other,
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
            env={**os.environ, "NO_COLOR": "1", "TERM": "dumb"},
        )
    finally:
        os.close(main)
        os.close(other)
    assert done.returncode == 2
    first, *rest = done.stderr.splitlines()
    assert first == "✗ A handle is not 64 hexadecimal digits. [cli.handle]"
    assert rest == ["  zz", "  → `cipherkeep encrypt` prints handles."]
