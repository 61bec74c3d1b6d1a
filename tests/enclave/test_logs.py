"""Logs are read by the host: nothing secret is in them."""

from __future__ import annotations

import json

import pytest
import structlog
from cipherkeep_enclave import logs


@pytest.fixture(autouse=True)
def _restore() -> object:
    yield
    structlog.reset_defaults()


def test_a_line_is_json_with_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    """One object per line on standard error."""
    logs.configure()
    logs.logger().info("boot.serving", party="alpha", keys=2)
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["party"], line["keys"], line["level"]) == ("boot.serving", "alpha", 2, "info")
    assert "timestamp" in line


@pytest.mark.parametrize(
    "fields",
    [
        {"digest": b"secret"},
        {"rows": [b"secret", {"deep": b"secret"}]},
        {"vault_secret": "secret"},
        {"outer": {"seed": "secret"}},
        {"plaintext": 1234567},
        {"thing": type("Thing", (), {"__repr__": lambda self: "secret"})()},
        {"deep": {"a": {"b": {"c": {"d": {"e": b"secret"}}}}}},
    ],
)
def test_bytes_and_secrets_never_show(fields: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes under any name, anything under a secret's name, and the repr of any object are hidden."""
    logs.configure()
    logs.logger().info("event", **fields)
    shown = capsys.readouterr().err
    assert "secret" not in shown.replace("vault_secret", "") and "1234567" not in shown
