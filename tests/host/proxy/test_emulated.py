"""The whole way on a laptop: emulated NSM and vsock device, host's attestor, proxy, attested channel."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.handshake import Initiator, Responder, judge_with
from cipherkeep_attestation.nitro.verify import InsecureAnyMeasurement, Measurements
from cipherkeep_enclave.nsm import Nsm, SecureClock
from cipherkeep_host.emulated.pki import emulated_root
from cipherkeep_host.emulated.tpm import HostAttestor
from cipherkeep_host.emulated.vsock import VsockDevice, enclave_folder
from cipherkeep_wire.channel import AttestedServer, TlsIdentity, open_channel
from cipherkeep_wire.limits import GRPC_PORT, HANDSHAKE_PORT

from tests.host.emulated.processes import PCRS, new_state, nsm_process
from tests.host.proxy.conftest import start_proxy, stop_proxy, unix
from tests.wire.world import CONFIGURATION, TERMS, echo, handlers


@pytest.mark.parametrize("image", [PCRS, {**PCRS, 0: b"\xee" * 48}], ids=["the image expected", "another image"])
async def test_a_host_reaches_its_enclave_and_no_other(image: dict[int, bytes]) -> None:
    """Documents of the emulated NSM and TPM open a channel through all relays; another PCR0 is left by the host."""
    with new_state() as state, nsm_process(state, state.parent) as nsm_address, Nsm(nsm_address) as nsm:
        nsm.extend_pcr(16, CONFIGURATION)
        nsm.lock_pcrs(32)
        root = emulated_root(state)
        host = HostAttestor(state)

        def responder(identity: TlsIdentity) -> Responder:
            judge = judge_with(
                root=root, kind="host", measurements=InsecureAnyMeasurement(), max_age=timedelta(minutes=5)
            )
            return Responder(
                certificate=identity.certificate_der,
                attest=nsm.attest,
                judge=judge,
                terms=TERMS,
                session_id=os.urandom(16),
                nonce=os.urandom(32),
            )

        def initiator(identity: TlsIdentity) -> Initiator:
            judge = judge_with(
                root=root, kind="enclave", measurements=(Measurements(image),), max_age=timedelta(minutes=5)
            )
            return Initiator(certificate=identity.certificate_der, attest=host.attest, judge=judge, terms=TERMS)

        run = Path(state.parent)
        device = VsockDevice(run)
        await device.open()
        server = AttestedServer(
            responder_factory=responder,
            handlers=[handlers()],
            handshake_address=unix(enclave_folder(run) / f"{HANDSHAKE_PORT}.sock"),
            grpc_address=unix(enclave_folder(run) / f"{GRPC_PORT}.sock"),
            clock=SecureClock(nsm).now,
        )
        await server.start()
        proxy = await start_proxy(run / "host")
        try:
            opening = open_channel(
                handshake_address=proxy.handshake,
                grpc_address=proxy.grpc,
                initiator_factory=initiator,
                clock=lambda: datetime.now(UTC),
            )
            if image is not PCRS:
                with pytest.raises(EvidenceError) as refusal:
                    await opening
                assert refusal.value.code == "document.pcr_mismatch"
                return
            async with await opening as channel:
                assert await echo(channel) == b"x"
                assert channel.peer.pcrs[0] == PCRS[0]
        finally:
            await stop_proxy(proxy)
            await server.stop(0)
            await device.close()
