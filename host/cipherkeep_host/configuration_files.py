"""The only place that reads the configuration files of processes: JSON objects with exactly the fields they must have.

Every refusal is `HostError("process.configuration")`, whose detail names the file and the field that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cipherkeep_attestation import strict_json
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements.configuration import MAX_CONFIGURATION, Configuration
from cipherkeep_wire.transport import Address, TransportError

from cipherkeep_host.errors import HostError

MAX_FILE: Final = 1 << 16  # bytes
_CODE = "process.configuration"


def read(path: Path, *names: str) -> dict[str, Any]:
    """The object in a file, with exactly these fields."""
    try:
        return exact_object(_bytes(path, MAX_FILE), *names)
    except ValueError as problem:
        raise HostError(_CODE, f"{path}: {problem}"[:300]) from None


def exact_object(data: bytes, *names: str) -> dict[str, Any]:
    """A JSON object with exactly these members, none twice. ValueError says what is wrong with it."""
    return exact(strict_json.loads(data, floats=True), *names)  # its reader names the field that is one


def exact(value: object, *names: str) -> dict[str, Any]:
    """`value`, if it is an object with exactly these members. ValueError names what is missing or unknown."""
    if not isinstance(value, dict):
        raise ValueError("not an object")
    odd = sorted(value.keys() ^ set(names))
    if odd:
        raise ValueError(f"missing or unknown: {', '.join(odd)}"[:300])
    return value


def text(fields: Mapping[str, object], name: str) -> str:
    """A field that is a text and not empty."""
    value = fields[name]
    if not isinstance(value, str) or not value:
        raise HostError(_CODE, f"{name}: not a text")
    return value


def address(fields: Mapping[str, object], name: str) -> Address:
    """A field that is an address of the wire's transport."""
    value = text(fields, name)
    try:
        return Address.parse(value)
    except TransportError:
        raise HostError(_CODE, f"{name}: {value}"[:200]) from None


def measured(fields: Mapping[str, object], name: str) -> Configuration:
    """The enclave's measured configuration, from the file that a field names."""
    path = Path(text(fields, name))
    try:
        return Configuration.decode(_bytes(path, MAX_CONFIGURATION))
    except EvidenceError as problem:
        raise HostError(_CODE, f"{path}: {problem}"[:300]) from None


def _bytes(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as problem:
        raise HostError(_CODE, f"{path}: {problem.strerror}"[:300]) from None
    if len(data) > most:
        raise HostError(_CODE, f"{path}: more than {most} bytes")
    return data
