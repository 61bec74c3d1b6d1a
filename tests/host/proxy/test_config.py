"""The proxy's configuration: exactly its fields, or a code that says which is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cipherkeep_host.errors import HostError
from cipherkeep_host.proxy.config import load

GOOD: dict[str, Any] = {
    "listen": "tcp://127.0.0.1:0",
    "handshake": {"listen": "unix:///run/handshake.sock", "connect": "unix-vsock:///run/e.vsock#5001"},
    "grpc": {"listen": "unix:///run/grpc.sock", "connect": "vsock://16:5002"},
    "kms": {"listen": "unix-vsock:///run/e.vsock#7002", "connect": "unix:///run/kms.sock"},
}


def test_the_documented_form_is_read(tmp_path: Path) -> None:
    """All fields, all forms of address."""
    (tmp_path / "c").write_text(json.dumps(GOOD))
    config = load(tmp_path / "c")
    assert str(config.grpc.connect) == "vsock://16:5002"
    assert str(config.kms.listen) == "unix-vsock:///run/e.vsock#7002"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "nonsense",
        "[" * 60_000,
        "\ud800",
        json.dumps({**GOOD, "more": 1}),
        json.dumps({**GOOD, "listen": "tcp://0.0.0.0:80"}),
        json.dumps({**GOOD, "listen": "vsock://3:1"}),
        json.dumps({**GOOD, "listen": 7}),
        json.dumps({**GOOD, "kms": {"listen": "unix:///a"}}),
        json.dumps({**GOOD, "kms": ["unix:///a", "unix:///b"]}),
        json.dumps({**GOOD, "kms": {"listen": "unix:///a", "connect": "tcp://10.0.0.1:443"}}),
        json.dumps({**GOOD, "grpc": {"listen": "unix:///a", "connect": None}}),
        json.dumps(GOOD)[:-1] + ', "listen": "unix:///x"}',
        json.dumps(GOOD) + " " * (1 << 16),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, text: str) -> None:
    """A missing, unknown, repeated or odd field, another address, a file too long."""
    (tmp_path / "c").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(HostError) as refusal:
        load(tmp_path / "c")
    assert refusal.value.code == "process.configuration"


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    """The same code, and the path in the detail."""
    with pytest.raises(HostError) as refusal:
        load(tmp_path / "none")
    assert "none" in refusal.value.detail
