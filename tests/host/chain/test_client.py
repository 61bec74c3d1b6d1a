"""The homes of nodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cipherkeep_host.chain.home import make_home, make_homes
from cipherkeep_host.chain.node import Node
from cipherkeep_host.errors import HostError

from tests.host.chain.conftest import APP_STATE, CHAIN_ID


def test_a_home_is_made_whole_and_never_over_another(folder: Path) -> None:
    """Only Ed25519 validators, everything on loopback, nothing readable by others, and a second time it is refused."""
    home = folder / "validator"
    make_home(home, chain_id=CHAIN_ID, app_state=APP_STATE)
    genesis = json.loads((home / "node" / "config" / "genesis.json").read_text())
    assert genesis["consensus_params"]["validator"]["pub_key_types"] == ["ed25519"]
    config = (home / "node" / "config" / "config.toml").read_text()
    assert "0.0.0.0" not in config
    assert home.stat().st_mode & 0o777 == 0o700
    assert Node(home).chain_id == CHAIN_ID
    with pytest.raises(HostError) as refused:
        make_home(home, chain_id=CHAIN_ID, app_state=APP_STATE)
    assert refused.value.code == "node.home_exists"
    assert not list(folder.glob("*.partial"))


def test_homes_of_a_net_know_each_other(folder: Path) -> None:
    """One genesis with every validator, and each names the others as peers on loopback."""
    homes = [folder / f"v{n}" for n in range(3)]
    make_homes(homes, chain_id=CHAIN_ID, app_state=APP_STATE)
    genesis = {(home / "node" / "config" / "genesis.json").read_text() for home in homes}
    assert len(genesis) == 1
    assert len(json.loads(genesis.pop())["validators"]) == 3
    for home in homes:
        config = (home / "node" / "config" / "config.toml").read_text()
        peers = next(line for line in config.splitlines() if line.startswith("persistent_peers"))
        assert peers.count("@127.0.0.1:") == 2
        assert Node(home).id not in peers


async def test_a_node_without_its_folder_or_with_a_long_path_is_refused(folder: Path) -> None:
    """Before anything is started."""
    with pytest.raises(HostError) as refused:
        Node(folder / ("x" * 100))
    assert refused.value.code == "node.socket_path"
    with pytest.raises(HostError) as refused:
        await Node(folder / "nowhere").start()
    assert refused.value.code == "node.home_missing"
