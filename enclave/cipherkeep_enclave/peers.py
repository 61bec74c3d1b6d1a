"""The only place that decides who may open a channel to this enclave: hosts that the configuration accepts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from datetime import datetime, timedelta

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Refused
from cipherkeep_attestation.handshake import Judge, Responder, Terms, judge_with
from cipherkeep_attestation.nitro.verify import Attestation, InsecureAnyMeasurement, TrustRoot
from cipherkeep_attestation.statements.configuration import Configuration
from cipherkeep_wire.channel import TlsIdentity

from cipherkeep_enclave.nsm import Nsm

DOCUMENT_AGE = timedelta(minutes=5)
HOST_PCRS = (4, 7)  # boot manager and secure boot policy (TCG PC Client firmware profile); others change in operation


def host_measurement(attestation: Attestation) -> bytes:
    """How a configuration names a host: SHA-256 over dCBOR {4: PCR4, 7: PCR7}. `Refused` when one is missing."""
    pcrs = attestation.pcrs
    if any(index not in pcrs for index in HOST_PCRS):
        raise Refused("document.pcr_mismatch", "PCR4 or PCR7 is missing")
    return hashlib.sha256(cbor.encode({index: pcrs[index] for index in HOST_PCRS})).digest()


def host_judge(configuration: Configuration) -> Judge:
    """A host counts when its document chains to the configured root and, unless any may come, is a configured one."""
    judge = judge_with(
        root=TrustRoot(configuration.host_root, "configuration"),
        kind="host",
        measurements=InsecureAnyMeasurement(),  # compared below: the configuration names digests
        max_age=DOCUMENT_AGE,
    )

    def measured(document: bytes, *, nonce: bytes, public_key: bytes, at: datetime) -> Attestation:
        attestation = judge(document, nonce=nonce, public_key=public_key, at=at)
        if "insecure_any_host_measurement" in configuration.insecure:
            return attestation
        if host_measurement(attestation) not in configuration.host_measurements:
            raise Refused("document.pcr_mismatch", "the host's measurements are not configured")
        return attestation

    return measured


def responders(configuration: Configuration, nsm: Nsm) -> Callable[[TlsIdentity], Responder]:
    """Makes the enclave's side of each handshake."""
    terms = Terms(
        chain_id=configuration.root.chain_id,
        configuration_digest=configuration.digest(),
        party=configuration.party,
    )
    judge = host_judge(configuration)

    def make(identity: TlsIdentity) -> Responder:
        return Responder(
            certificate=identity.certificate_der,
            attest=nsm.attest,
            judge=judge,
            terms=terms,
            session_id=os.urandom(16),
            nonce=os.urandom(32),
        )

    return make
