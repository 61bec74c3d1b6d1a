"""The only place that reads and writes trust files: what an auditor knows before he sees any evidence.

    chain_id = "cipherkeep-local"
    height = 1
    header_hash = "…"                      # of the header that is believed without a signature

    [instance]
    name = "fhevm"
    genesis_digest = "…"                   # or genesis = "…": the parameters themselves, in hexadecimal

    [enclave]
    root = "aws"                           # or a certificate in PEM, or the path of one beside this file
    policy = "policy.toml"                 # optional: the images that you accept

TOML, or JSON with the same names. The chain alone is enough for light blocks; receipts and parties need the rest. A
name that is not known is an error: a misspelt demand would be no demand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cipherkeep_attestation import cbor, strict_toml
from cipherkeep_attestation.chain.light import LightRoot
from cipherkeep_attestation.errors import Malformed
from cipherkeep_attestation.statements.configuration import Genesis

LIMIT = 1 << 18  # bytes
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})++")  # possessive: otherwise every pair of digits is remembered
_PERIOD = timedelta(days=3650)  # safety comes from two thirds of both sets, as in the enclave's own light client
_DRIFT = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class TrustedInstance:
    """A contract instance, and the SHA-256 of its genesis parameters; `genesis` where the file has them whole."""

    name: str
    genesis_digest: bytes
    genesis: Genesis | None


@dataclass(frozen=True, slots=True)
class TrustedEnclave:
    """`root`: "aws", a PEM certificate, or a path. `policy`: a path, or None."""

    root: str
    policy: str | None


@dataclass(frozen=True, slots=True)
class TrustFile:
    """What a trust file says. `max_header_age`: how old a receipt's last header may be; None where it may be any."""

    root: LightRoot
    trusting_period: timedelta
    clock_drift: timedelta
    max_header_age: timedelta | None
    instance: TrustedInstance | None
    enclave: TrustedEnclave | None


def read_trust(found: Mapping[str, Any]) -> TrustFile:
    """Read the content of a trust file. `Malformed("trust.form")` for anything that is not known or not right."""
    _names(
        found,
        ("chain_id", "height", "header_hash"),
        ("trusting_period_seconds", "clock_drift_seconds", "max_header_age_seconds", "instance", "enclave"),
        "the file",
    )
    height = found["height"]
    if type(height) is not int or not 1 <= height < 1 << 63:
        raise Malformed("trust.form", "height is a positive integer")
    root = LightRoot(_text(found, "chain_id", 50), height, _hex(found, "header_hash", 32))
    return TrustFile(
        root,
        _seconds(found, "trusting_period_seconds", _PERIOD) or _PERIOD,
        _seconds(found, "clock_drift_seconds", _DRIFT) or timedelta(0),
        _seconds(found, "max_header_age_seconds", None),
        None if "instance" not in found else _instance(found["instance"]),
        None if "enclave" not in found else _enclave(found["enclave"]),
    )


def read_toml(data: bytes) -> TrustFile:
    """Read a trust file in TOML."""
    if len(data) > LIMIT:
        raise Malformed("trust.form", f"{len(data)} bytes, at most {LIMIT}")
    try:
        found = strict_toml.loads(data)
    except ValueError as error:
        raise Malformed("trust.form", str(error)[:200]) from None
    return read_trust(found)


def write_toml(root: LightRoot, instance: str, genesis: Genesis, *, enclave_root: str, comment: str) -> str:
    """A trust file of one instance. `enclave_root`: "aws" or a certificate in PEM; `comment`: one line, whose it is."""
    name = f'"{enclave_root}"' if enclave_root == "aws" else f'"""\n{enclave_root.strip()}\n"""'
    return (
        f"# {comment}\n"
        "# Whoever chooses these values chooses what you believe: compare them with what the governors published.\n\n"
        f'chain_id = "{root.chain_id}"\nheight = {root.height}\nheader_hash = "{root.header_hash.hex()}"\n\n'
        f'[instance]\nname = "{instance}"\n'
        f'genesis_digest = "{genesis.digest().hex()}"\ngenesis = "{genesis.encode().hex()}"\n\n'
        f"[enclave]\nroot = {name}\n"
    )


def _names(found: object, required: tuple[str, ...], optional: tuple[str, ...], where: str) -> Mapping[str, Any]:
    if not isinstance(found, Mapping):
        raise Malformed("trust.form", f"{where} is a table")
    missing = sorted(set(required) - found.keys())
    unknown = sorted(found.keys() - set(required) - set(optional))
    if missing or unknown:
        raise Malformed("trust.form", f"{where}: missing {missing}, unknown {unknown}"[:200])
    return found


def _text(found: Mapping[str, Any], name: str, most: int) -> str:
    value = found[name]
    if type(value) is not str or not 1 <= len(value) <= most:
        raise Malformed("trust.form", f"{name} is a text of 1 to {most} characters")
    return value


def _hex(found: Mapping[str, Any], name: str, length: int | None = None) -> bytes:
    value = found[name]
    if type(value) is not str or not _HEX.fullmatch(value) or (length is not None and len(value) != 2 * length):
        raise Malformed("trust.form", f"{name} is hexadecimal" + (f", {length} bytes" if length else ""))
    return bytes.fromhex(value)


def _seconds(found: Mapping[str, Any], name: str, otherwise: timedelta | None) -> timedelta | None:
    if name not in found:
        return otherwise
    value = found[name]
    least = 0 if name == "clock_drift_seconds" else 1
    if type(value) is not int or not least <= value <= 1 << 31:
        raise Malformed("trust.form", f"{name} is an integer from {least} to {1 << 31}")
    return timedelta(seconds=value)


def _instance(found: object) -> TrustedInstance:
    rows = _names(found, ("name",), ("genesis", "genesis_digest"), "instance")
    genesis = Genesis.decode(_hex(rows, "genesis")) if "genesis" in rows else None
    if "genesis_digest" in rows:
        digest = _hex(rows, "genesis_digest", 32)
    elif genesis is not None:
        digest = genesis.digest()
    else:
        raise Malformed("trust.form", "instance: genesis or genesis_digest")
    if genesis is not None and genesis.digest() != digest:
        raise Malformed("trust.form", "genesis does not have the digest beside it")
    name: str = cbor.fields({"name": rows["name"]}, name=cbor.text(64))["name"]
    return TrustedInstance(name, digest, genesis)


def _enclave(found: object) -> TrustedEnclave:
    rows = _names(found, ("root",), ("policy",), "enclave")
    policy = _text(rows, "policy", 4096) if "policy" in rows else None
    return TrustedEnclave(_text(rows, "root", 1 << 14), policy)
