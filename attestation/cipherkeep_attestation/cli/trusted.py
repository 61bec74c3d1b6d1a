"""The only place that opens trust files, and what they name: the root of enclaves and the policy of images."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cipherkeep_attestation import strict_json
from cipherkeep_attestation.cli.inputs import UsageError, read_file, stated_time
from cipherkeep_attestation.cli.roots import certificate, trust_root
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.nitro.verify import Measurements, TrustRoot
from cipherkeep_attestation.policy import LIMIT as POLICY_LIMIT
from cipherkeep_attestation.policy import PolicyFile, read_policy
from cipherkeep_attestation.receipts.trust import (
    LIMIT,
    TrustedEnclave,
    TrustedInstance,
    TrustFile,
    read_toml,
    read_trust,
)

_PEM = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Enclave:
    """What enclaves are judged by. `policy` is None where the governors' releases are enough."""

    root: TrustRoot
    policy: PolicyFile | None

    @property
    def measurements(self) -> tuple[Measurements, ...] | None:
        """The policy's images."""
        return None if self.policy is None else tuple(release.measurements() for release in self.policy.releases)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """The options of every command that judges from a trust file."""
    parser.add_argument("--trust", metavar="FILE", help="trust file: TOML, or JSON if the name ends in .json")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")


def add_time(parser: argparse.ArgumentParser) -> None:
    """The option that says when evidence in files is judged; there is no default."""
    parser.add_argument("--at", metavar="TIME", help="judge at this time, like 2026-07-01T12:00:00Z, or `now`")


def time_of(arguments: argparse.Namespace) -> datetime:
    """The time to judge at. UsageError when none is stated."""
    if arguments.at is None:
        raise UsageError(
            "--at TIME is needed, or --at now: evidence holds at a time, and no clock is looked at unasked"
        )
    return stated_time(arguments.at)


def open_trust(path: str | None) -> TrustFile:
    """The trust file. UsageError when there is none, or it is not one: it is yours, not evidence."""
    if path is None:
        raise UsageError("--trust FILE is needed: there is no default root")
    data = read_file(path, LIMIT)
    try:
        if path.endswith(".json"):
            return read_trust(strict_json.loads(data))
        return read_toml(data)
    except (EvidenceError, strict_json.NotJsonError) as error:
        raise UsageError(f"{path}: {error}") from None


def instance_of(trust: TrustFile) -> TrustedInstance:
    """The instance of the trust file, which this command needs."""
    if trust.instance is None:
        raise UsageError("the trust file has no [instance]: name and genesis_digest")
    return trust.instance


def enclave_of(trust: TrustFile, path: str) -> Enclave:
    """Root and policy that the trust file at `path` names; relative paths are beside it."""
    if trust.enclave is None:
        raise UsageError("the trust file has no [enclave]: root")
    return Enclave(_root(trust.enclave, Path(path).parent), _policy(trust.enclave, Path(path).parent))


def _root(enclave: TrustedEnclave, folder: Path) -> TrustRoot:
    text = enclave.root.strip()
    if not text.startswith(_PEM):
        return trust_root(text if text == "aws" else str(folder / text))
    return TrustRoot(certificate(text.encode(), "enclave.root"), "in the trust file")


def _policy(enclave: TrustedEnclave, folder: Path) -> PolicyFile | None:
    if enclave.policy is None:
        return None
    try:
        return read_policy(read_file(folder / enclave.policy, POLICY_LIMIT))
    except EvidenceError as error:
        raise UsageError(f"{enclave.policy}: {error}") from None
