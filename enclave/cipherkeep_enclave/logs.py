"""The only place that writes logs: one JSON object per line on standard error, and nothing secret in any of them.

The host reads these lines. So values that are bytes never appear, whatever their name, and names of secrets never do,
whatever their value.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

_HIDDEN = "[hidden]"
_SECRET_NAMES = ("secret", "seed", "plaintext", "private", "password", "token", "credential", "data_key", "value")
_DEEPEST = 4


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace whatever is bytes or is named like a secret. Digests and ids are logged as the hex text callers make."""
    return {name: _redacted(name, value, _DEEPEST) for name, value in event.items()}


def _redacted(name: str, value: Any, depth: int) -> Any:
    if any(secret in name.lower() for secret in _SECRET_NAMES):
        return _HIDDEN
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if depth and isinstance(value, Mapping):
        return {str(key): _redacted(str(key), item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, (list, tuple)):
        return [_redacted(name, item, depth - 1) for item in value]
    # Any other object would be shown by its repr, which nobody has read for secrets.
    return _HIDDEN if isinstance(value, (bytes, bytearray, memoryview)) else f"<{type(value).__name__}>"


def configure() -> None:
    """Write JSON lines to standard error from now on."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def logger() -> Any:
    """The logger: `logger().info("vault.open", keys=2)`. An event's name is a code, not a sentence."""
    return structlog.get_logger()
