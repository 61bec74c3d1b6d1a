"""The only place that makes a validator's folder: keys, genesis, configuration of the consensus engine.

    HOME/node/          CometBFT's own: config/, data/
    HOME/application/   the application's state

What differs from CometBFT's defaults, and why, stands in `_settings`. Nothing listens beyond loopback.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cipherkeep_host.chain.abci import MAX_BLOCK
from cipherkeep_host.chain.genesis import AppState
from cipherkeep_host.chain.release import APPLICATION_VERSION
from cipherkeep_host.chain.stubs import consensus_engine
from cipherkeep_host.errors import HostError

POWER = 10  # of each validator at genesis
_COMMAND_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a chain makes blocks.

    `commit_ms`: what a validator waits after a commit, in milliseconds; 0 for no wait. `empty_seconds`: between blocks
    while there is nothing to do; must stay well below the age at which a head counts as stale (ten minutes).
    """

    commit_ms: int = 200
    empty_seconds: float = 30.0


def make_home(home: Path, *, chain_id: str, app_state: AppState, pace: Pace | None = None) -> None:
    """A chain of one validator, with its keys. `HostError("node.home_exists")` where there is a folder already."""
    make_homes([home], chain_id=chain_id, app_state=app_state, pace=pace)


def make_homes(homes: Sequence[Path], *, chain_id: str, app_state: AppState, pace: Pace | None = None) -> None:
    """A chain of several validators on this machine, one folder each; they find one another on loopback ports."""
    pace = pace or Pace()
    for home in homes:
        if home.exists():
            raise HostError("node.home_exists", str(home))
    partial = [home.with_name(home.name + ".partial") for home in homes]
    for folder in partial:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "application").mkdir(parents=True, mode=0o700)
        folder.chmod(0o700)
        run_engine("init", "--home", str(folder / "node"))
    genesis = _genesis(chain_id, app_state, [_validator(folder, number) for number, folder in enumerate(partial)])
    ports = free_ports(len(homes)) if len(homes) > 1 else [0]
    peers = [f"{node_id(folder)}@127.0.0.1:{port}" for folder, port in zip(partial, ports, strict=True)]
    for number, folder in enumerate(partial):
        config = folder / "node" / "config"
        (config / "genesis.json").write_text(json.dumps(genesis, indent=1))
        others = [peer for index, peer in enumerate(peers) if index != number]
        path = config / "config.toml"
        path.write_text(_configured(path.read_text(), _settings(pace, ports[number], others)))
    for folder, home in zip(partial, homes, strict=True):
        folder.rename(home)


def run_engine(*arguments: str) -> str:
    """Run one of CometBFT's commands to its end; what it printed. `HostError("node.command")` when it fails."""
    command = [str(consensus_engine()), *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - our own binary, no shell
            command, capture_output=True, text=True, check=False, timeout=_COMMAND_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise HostError("node.command", f"{arguments[0]}: no end after {_COMMAND_SECONDS} s") from None
    if done.returncode != 0:
        raise HostError("node.command", f"{arguments[0]}: {(done.stderr or done.stdout)[-300:]}")
    return done.stdout.strip()


def node_id(home: Path) -> str:
    """By which other nodes know it."""
    return run_engine("show-node-id", "--home", str(home / "node"))


def read_json(path: Path) -> Any:
    """One of the node's files. `HostError("node.home_missing")` where it is missing or no JSON."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise HostError("node.home_missing", f"{path}: {type(error).__name__}") from None


def _validator(home: Path, number: int) -> dict[str, Any]:
    key = read_json(home / "node" / "config" / "priv_validator_key.json")
    name = f"validator-{number}"
    return {"address": key["address"], "pub_key": key["pub_key"], "power": str(POWER), "name": name}


def _genesis(chain_id: str, app_state: AppState, validators: list[dict[str, Any]]) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "genesis_time": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "chain_id": chain_id,
        "initial_height": "1",
        "consensus_params": {
            "block": {"max_bytes": str(MAX_BLOCK), "max_gas": "-1"},
            # CometBFT's defaults: 48 hours.
            "evidence": {
                "max_age_num_blocks": "100000",
                "max_age_duration": "172800000000000",
                "max_bytes": "1048576",
            },
            "validator": {"pub_key_types": ["ed25519"]},  # the verifier knows no other
            "version": {"app": str(APPLICATION_VERSION)},
            "abci": {"vote_extensions_enable_height": "0"},
        },
        "validators": validators,
        "app_hash": "",
        "app_state": app_state.text(),
    }


def free_ports(count: int) -> list[int]:
    """So many loopback ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for found in sockets:
            found.bind(("127.0.0.1", 0))
        return [found.getsockname()[1] for found in sockets]
    finally:
        for found in sockets:
            found.close()


def _settings(pace: Pace, port: int, peers: Sequence[str]) -> dict[tuple[str, str], object]:
    """(section, key) → value."""
    several = len(peers) > 0
    settings: dict[tuple[str, str], object] = {
        ("", "log_level"): "main:info,p2p:info,*:error",
        ("", "log_format"): "json",
        ("", "filter_peers"): False,
        # A transaction of 1 MiB in base64, with its envelope.
        ("rpc", "max_body_bytes"): 2_000_000,
        ("rpc", "pprof_laddr"): "",
        # There is no way to run without a listener; alone, nobody is let in.
        ("p2p", "laddr"): f"tcp://127.0.0.1:{port}",
        ("p2p", "pex"): False,
        ("p2p", "persistent_peers"): ",".join(peers),
        ("p2p", "addr_book_strict"): False,
        ("p2p", "allow_duplicate_ip"): several,
        ("p2p", "max_num_inbound_peers"): 40 if several else 0,
        ("consensus", "timeout_commit"): f"{pace.commit_ms}ms",
        # Blocks only when there is something in them or to prove, and now and then as a sign of life.
        ("consensus", "create_empty_blocks"): False,
        ("consensus", "create_empty_blocks_interval"): f"{round(pace.empty_seconds * 1000)}ms",
        # The default of 100 ms is most of a block's time in a net of several.
        ("consensus", "peer_gossip_sleep_duration"): "10ms",
    }
    return settings


def _configured(text: str, settings: Mapping[tuple[str, str], object]) -> str:
    """The configuration file with these values; every one must have its line already."""
    missing = dict(settings)
    section, lines = "", []
    for line in text.splitlines():
        if found := re.fullmatch(r"\[(\w+)\]", line.strip()):
            section = found.group(1)
        elif (found := re.match(r"(\w+) = ", line)) and (section, found.group(1)) in missing:
            value = missing.pop((section, found.group(1)))
            line = f"{found.group(1)} = {json.dumps(value)}"  # for these types JSON and TOML agree
        lines.append(line)
    if missing:
        raise HostError("node.command", f"the configuration lacks {sorted(missing)}")
    return "\n".join(lines) + "\n"
