"""The only place that makes what must exist before the appliance runs; a second time it finds it and makes nothing.

The order is that of every deployment: validator and governance keys, genesis, trust root, a key of the key service that
releases nothing, the configuration that pins it, and last the key's policy for that configuration's measurements.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cipherkeep_attestation.chain.light import LightRoot
from cipherkeep_attestation.eif import configuration_pcr
from cipherkeep_attestation.statements.configuration import Configuration, Genesis, KeyService
from cipherkeep_attestation.statements.governance import Governors
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cipherkeep_host import durable, key_files
from cipherkeep_host.appliance.plan import CHAIN_ID, INSTANCE, PARTY, Paths
from cipherkeep_host.chain.genesis import AppState, Instance
from cipherkeep_host.chain.home import Pace, make_home
from cipherkeep_host.emulated import aws_kms, aws_tls, pki
from cipherkeep_host.emulated.aws_calls import Calls
from cipherkeep_host.emulated.aws_keys import KeyStore
from cipherkeep_host.emulated.aws_policy import attested_policy, managing_policy
from cipherkeep_host.emulated.pki import emulated_root

INSECURE = ("insecure_allow_all", "insecure_any_host_measurement")
EXPIRY_BLOCKS = 100_000


@dataclass(frozen=True, slots=True)
class Keys:
    """Ed25519 keys of roles outside of the enclave."""

    governor: Ed25519PrivateKey
    operator: Ed25519PrivateKey  # sends what governance signed
    client: Ed25519PrivateKey  # sends requests from the command line
    connector: Path  # the connector's own process loads its key


def keys(paths: Paths) -> Keys:
    """The key files, made where they are missing."""
    durable.make_folder(paths.keys)

    def key(name: str) -> Ed25519PrivateKey:
        return key_files.ensure_ed25519(paths.keys / f"{name}.key")

    key("connector")
    return Keys(key("governor"), key("operator"), key("client"), paths.keys / "connector.key")


def emulators(paths: Paths) -> None:
    """The emulated PKI and the key service's identity."""
    durable.make_folder(paths.emulated)
    if not (paths.emulated / "pki").exists():
        pki.create(paths.emulated)
    aws_kms.prepare(paths.emulated)


def genesis(paths: Paths, found: Keys) -> Genesis:
    """The instance's genesis parameters: one governor, one answer."""
    governor = found.governor.public_key().public_bytes_raw()
    return Genesis(
        governors=Governors((governor,), 1),
        enclave_roots=(emulated_root(paths.emulated).certificate_der,),
        answers=1,
        expiry_blocks=EXPIRY_BLOCKS,
        insecure_allow_all=True,
    )


def chain(paths: Paths, parameters: Genesis, pace: Pace) -> None:
    """The validator's home."""
    if not paths.chain.exists():
        state = AppState.of([Instance(INSTANCE, "fhevm", parameters.encode())])
        make_home(paths.chain, chain_id=CHAIN_ID, app_state=state, pace=pace)


def key_service(paths: Paths) -> str:
    """The ARN of the vault's key; a new one releases nothing to anybody."""
    if paths.kms_key.exists():
        return paths.kms_key.read_text().strip()
    body = {"Policy": managing_policy(), "Description": f"Cipherkeep vault of {PARTY}"}
    made = _calls(paths).run("CreateKey", json.dumps(body).encode())
    arn = str(made["KeyMetadata"]["Arn"])
    durable.write(paths.kms_key, arn.encode())
    return arn


def configuration(paths: Paths, parameters: Genesis, root: LightRoot, arn: str) -> Configuration:
    """The measured configuration; made once, since its digest is what the vault is sealed to."""
    if paths.configuration.exists():
        return Configuration.decode(paths.configuration.read_bytes())
    trusted = emulated_root(paths.emulated).certificate_der
    made = Configuration(
        root=root,
        instance=INSTANCE,
        genesis=parameters,
        party=PARTY,
        kms=KeyService(arn, aws_tls.HOST_NAME, aws_tls.ca_certificate(paths.emulated)),
        enclave_root=trusted,
        host_root=trusted,
        host_measurements=(),
        insecure=INSECURE,
    )
    durable.write(paths.configuration, made.encode())
    return made


def release_to(paths: Paths, arn: str, pcrs: Mapping[int, bytes], measured: Configuration) -> None:
    """Let the key service release the vault's key to this image with this configuration, and to nothing else."""
    conditions = {index: pcrs[index] for index in (0, 1, 2)}
    conditions[16] = configuration_pcr(measured.digest())
    body = {"KeyId": arn, "Policy": attested_policy([conditions]), "PolicyName": "default"}
    _calls(paths).run("PutKeyPolicy", json.dumps(body).encode())


def _calls(paths: Paths) -> Calls:
    """The key service's own calls, before its process runs: an account's administrator at work."""
    return Calls(KeyStore(paths.emulated / "kms" / "keys"), root=emulated_root(paths.emulated))
