"""A whole enclave for tests: its process, its module, its key service, its vsock device, and the host's end of all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cipherkeep_attestation.eif import configuration_pcr
from cipherkeep_attestation.handshake import Initiator, Terms, judge_with
from cipherkeep_attestation.nitro.verify import Measurements
from cipherkeep_attestation.statements.configuration import Configuration, KeyService
from cipherkeep_enclave.vault.aws_signature import Credentials
from cipherkeep_host.emulated import aws_tls
from cipherkeep_host.emulated.aws_policy import attested_policy, managing_policy
from cipherkeep_host.emulated.pki import emulated_root
from cipherkeep_host.emulated.tpm import HostAttestor
from cipherkeep_host.emulated.vsock import VsockDevice, enclave_folder, host_socket
from cipherkeep_wire import transport
from cipherkeep_wire.channel import AttestedChannel, TlsIdentity, open_channel
from cipherkeep_wire.limits import CONFIGURATION_PORT, GRPC_PORT, HANDSHAKE_PORT, KMS_EGRESS_PORT
from cipherkeep_wire.transport import Address

from tests.host.emulated.processes import PCRS, KmsClient, nsm_process

_AGE = timedelta(minutes=5)
START = 20.0  # seconds that an enclave may take to serve on a loaded machine


def with_key(configuration: Configuration, service: KmsClient, state: Path) -> Configuration:
    """The configuration with emulated roots and a key that opens for PCR0 to 2 and PCR16 of this very configuration."""
    root = emulated_root(state).certificate_der
    arn = service.ok("CreateKey", Policy=managing_policy())["KeyMetadata"]["Arn"]
    made = replace(
        configuration,
        kms=KeyService(arn, aws_tls.HOST_NAME, aws_tls.ca_certificate(state)),
        enclave_root=root,
        host_root=root,
    )
    measured = {**PCRS, 16: configuration_pcr(made.digest())}
    service.ok("PutKeyPolicy", KeyId=arn, PolicyName="default", Policy=attested_policy([measured]))
    return made


@dataclass
class Enclave:
    """A running enclave's process and the way to it."""

    process: asyncio.subprocess.Process
    run: Path
    log: Path
    configuration: Configuration
    state: Path

    def address(self, port: int) -> Address:
        return Address("unix-vsock", path=str(host_socket(self.run)), port=port)

    async def listening(self) -> None:
        """Wait until it serves, or fail with its log."""
        path = str(enclave_folder(self.run) / f"{HANDSHAKE_PORT}.sock")
        async with asyncio.timeout(START):
            while True:
                assert self.process.returncode is None, self.log.read_text()
                with contextlib.suppress(transport.TransportError):
                    _, writer = await transport.connect(Address("unix", path=path))
                    return await transport.finish(writer)
                await asyncio.sleep(0.02)

    async def ended(self) -> int:
        """Its exit status."""
        async with asyncio.timeout(START):
            return await self.process.wait()

    def initiators(
        self, *, attestor: HostAttestor | None = None, **measured: bytes
    ) -> Callable[[TlsIdentity], Initiator]:
        """An honest host's side of the handshake."""
        pcrs = {**PCRS, 16: measured.get("pcr16", configuration_pcr(self.configuration.digest()))}
        judge = judge_with(
            root=emulated_root(self.state), kind="enclave", measurements=(Measurements(pcrs),), max_age=_AGE
        )
        terms = Terms(self.configuration.root.chain_id, self.configuration.digest(), self.configuration.party)
        host = attestor or HostAttestor(self.state)
        return lambda identity: Initiator(
            certificate=identity.certificate_der, attest=host.attest, judge=judge, terms=terms
        )

    async def channel(self, factory: Callable[[TlsIdentity], Initiator] | None = None) -> AttestedChannel:
        return await open_channel(
            handshake_address=self.address(HANDSHAKE_PORT),
            grpc_address=self.address(GRPC_PORT),
            initiator_factory=factory or self.initiators(),
            clock=lambda: datetime.now(UTC),
        )


@contextlib.asynccontextmanager
async def enclave(
    configuration: Configuration,
    state: Path,
    run: Path,
    kms: Path,
    *,
    handed: bytes | None = None,
    **pcrs: bytes,
) -> AsyncIterator[Enclave]:
    """Boot an enclave that is handed `configuration` (or the bytes in `handed`); kill what is left of it at the end."""
    shutil.rmtree(enclave_folder(run), ignore_errors=True)  # an enclave has no disk
    device = VsockDevice(run)
    await device.open()
    key = aws_tls.access_key(state)

    async def hand_over(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        encoded = configuration.encode() if handed is None else handed
        credentials = Credentials(key.key_id, key.secret).encode()
        for frame in (encoded, credentials):
            await transport.write_frame(writer, frame, maximum=1 << 17, timeout=5)

    front = host_socket(run)
    configurations = await transport.listen(Address("unix", path=f"{front}_{CONFIGURATION_PORT}"), hand_over)
    way_out = await transport.forward(
        Address("unix", path=f"{front}_{KMS_EGRESS_PORT}"), Address("unix", path=str(kms))
    )
    scratch, log = run / "scratch", run / "enclave.log"
    scratch.mkdir(exist_ok=True)
    with nsm_process(state, run, **pcrs) as nsm, log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-m", "cipherkeep_enclave", "--nsm", nsm, "--vsock", str(enclave_folder(run))),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={},
            cwd=scratch,
        )
        try:
            yield Enclave(process, run, log, configuration, state)
        finally:
            if process.returncode is None:
                os.kill(process.pid, signal.SIGKILL)
                await process.wait()
            for listener in (configurations, way_out):
                await listener.close()
            await device.close()
