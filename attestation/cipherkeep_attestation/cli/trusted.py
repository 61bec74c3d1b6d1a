"""The only place that opens trust files, and what they name: the root of enclaves and the policy of images."""

from __future__ import annotations

import argparse
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cipherkeep_attestation.cli.inputs import NotJsonError, UsageError, moment, read_file, strict_json
from cipherkeep_attestation.cli.roots import trust_root
from cipherkeep_attestation.errors import EvidenceError, Malformed
from cipherkeep_attestation.nitro.certificate import read_certificate
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
    parser.add_argument("--at", metavar="TIME", help="judge at this time (RFC 3339); the time now without it")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")


def time_of(arguments: argparse.Namespace) -> datetime:
    """The time to judge at. Only here does the command look at a clock."""
    return datetime.now(UTC) if arguments.at is None else moment(arguments.at)


def open_trust(path: str | None) -> TrustFile:
    """The trust file. UsageError when there is none, or it is not one: it is yours, not evidence."""
    if path is None:
        raise UsageError("--trust FILE is needed: there is no default root")
    data = read_file(path, LIMIT)
    try:
        if path.endswith(".json"):
            return read_trust(strict_json(data))
        return read_toml(data)
    except (EvidenceError, NotJsonError) as error:
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
    try:
        data = ssl.PEM_cert_to_DER_cert(text)
        read_certificate(data)
    except (ValueError, Malformed):
        raise UsageError("enclave.root: not a certificate") from None
    return TrustRoot(data, "in the trust file")


def _policy(enclave: TrustedEnclave, folder: Path) -> PolicyFile | None:
    if enclave.policy is None:
        return None
    try:
        return read_policy(read_file(folder / enclave.policy, POLICY_LIMIT))
    except EvidenceError as error:
        raise UsageError(f"{enclave.policy}: {error}") from None
