"""Folders with short paths, and real nodes that run the application with a counter contract."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest_asyncio
from cipherkeep_host.chain.genesis import AppState, Instance
from cipherkeep_host.chain.home import Pace, make_home
from cipherkeep_host.chain.node import Node

APPLICATION = (sys.executable, str(Path(__file__).with_name("counter_application.py")))
APP_STATE = AppState((Instance("one", "counter", b"5"), Instance("two", "counter", b"")))
CHAIN_ID = "cipherkeep-test"

StartNode = Callable[..., Awaitable[Node]]


@pytest_asyncio.fixture
async def start_node(folder: Path) -> AsyncIterator[StartNode]:
    """Starts a chain of one validator; stopped at the end of the test."""
    nodes: list[Node] = []

    async def start(name: str = "validator", *, commit_ms: int = 0, empty_seconds: float = 30.0) -> Node:
        home = folder / name
        make_home(home, chain_id=CHAIN_ID, app_state=APP_STATE, pace=Pace(commit_ms, empty_seconds))
        node = Node(home, application=APPLICATION)
        nodes.append(node)
        await node.start()
        await node.wait_ready()
        return node

    yield start
    for node in nodes:
        await node.stop()
