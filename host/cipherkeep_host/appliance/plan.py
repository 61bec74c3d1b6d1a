"""The only place for where the appliance keeps its files and what a laptop's deployment is made of."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from cipherkeep_attestation.statements.eip712 import Domain
from cipherkeep_attestation.statements.governance import GRANTED_USERS, INSECURE_ALLOW_ALL, KeyTerms

from cipherkeep_host.errors import HostError

INSTANCE = "fhevm"
PARTY = "party-1"
CHAIN_ID = "cipherkeep-local"
HOST_CHAIN_ID = 31_337  # the usual id of a local EVM chain
GATEWAY_CHAIN_ID = 31_338
# Addresses that stand for contracts until a local EVM runs them; they only separate domains.
ACL = bytes.fromhex("a000000000000000000000000000000000000001")
DECRYPTION = bytes.fromhex("a000000000000000000000000000000000000002")
PARAMETERS = "v1_7_2_2_pke_to_small_zkv2_tuniform_2m128"


def default_state() -> Path:
    """`$XDG_STATE_HOME/cipherkeep/dev`."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "cipherkeep" / "dev"


def cache() -> Path:
    """`$XDG_CACHE_HOME/cipherkeep`: what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cipherkeep"


def key_terms() -> KeyTerms:
    """What the keys of a laptop are for: anyone opens publicly, users open what is theirs."""
    return KeyTerms(
        parameters=PARAMETERS,
        public_decrypt=INSECURE_ALLOW_ALL,
        user_decrypt=GRANTED_USERS,
        host_chain_id=HOST_CHAIN_ID,
        acl=ACL,
        decryption=Domain("Decryption", "1", GATEWAY_CHAIN_ID, DECRYPTION),
    )


@dataclass(frozen=True, slots=True)
class Paths:
    """Where things lie. `run` is short, because unix sockets live there, and vanishes with the appliance."""

    state: Path
    run: Path

    @property
    def emulated(self) -> Path:
        """PKI and key service of the emulators."""
        return self.state / "emulated"

    @property
    def chain(self) -> Path:
        """The validator's home."""
        return self.state / "chain"

    @property
    def keys(self) -> Path:
        """Key files of roles outside of the enclave, mode 0600."""
        return self.state / "keys"

    @property
    def logs(self) -> Path:
        """One log for each process."""
        return self.state / "logs"

    @property
    def configuration(self) -> Path:
        """The enclave's measured configuration."""
        return self.state / "configuration.cbor"

    @property
    def kms_key(self) -> Path:
        """The ARN of the key that guards the vault."""
        return self.state / "kms-key-arn"

    @property
    def environment(self) -> Path:
        """What `cipherkeep dev env` prints; there while the appliance serves."""
        return self.state / "environment.json"

    @property
    def processes(self) -> Path:
        """Process ids by name, kept current while the appliance runs."""
        return self.state / "processes.json"

    @property
    def lock(self) -> Path:
        """Held by the supervisor: see `lock`."""
        return self.state / "lock"

    def socket(self, name: str) -> Path:
        """A socket of this run."""
        return self.run / f"{name}.sock"


@dataclass(frozen=True, slots=True)
class Environment:
    """Every address, id and fingerprint that a client of a running appliance needs."""

    chain_id: str
    instance: str
    party: str
    node: str  # JSON-RPC of the validator
    node_metrics: str  # URL of the consensus engine's metrics; its /health is at `node`
    application: str  # health
    kms: str  # the emulated key service, health and API
    store: str
    coprocessor: str
    attestation: str  # URL of POST /attestation
    connector: str  # health
    appliance: str  # health of the whole, the launcher's included
    nsm: str  # health
    genesis_hash: str  # hash of header 1: the trust root
    configuration_digest: str
    configuration: str  # path
    enclave_root: str  # path of the emulated root certificate (DER)
    host_chain_id: int
    gateway_chain_id: int
    acl: str
    decryption: str
    keys: str  # folder of key files
    logs: str
    pcrs: dict[str, str]
    network_isolated: bool

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Environment:
        """`HostError("appliance.not_running")` where there is none."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            raise HostError("appliance.not_running", str(path)) from None
