"""The only place for the order in which an enclave comes to life; it ends before the first request.

No core dumps; entropy from the module; the configuration from the host, measured into PCR16 and the PCRs locked, so
that every document from then on says which configuration runs here; then the channel, then service. Nothing secret
exists before the PCRs are locked.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from cipherkeep_attestation.eif import CONFIGURATION_PCR, ZERO_PCR, configuration_pcr
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements.configuration import MAX_CONFIGURATION, Configuration
from cipherkeep_wire import transport
from cipherkeep_wire.channel import AttestedServer

from cipherkeep_enclave import logs, peers, service
from cipherkeep_enclave.addresses import Addresses
from cipherkeep_enclave.engine import MaterialFolder
from cipherkeep_enclave.keeper import Keeper
from cipherkeep_enclave.nsm import Nsm, SecureClock
from cipherkeep_enclave.vault import egress
from cipherkeep_enclave.vault.aws_kms import AwsKms
from cipherkeep_enclave.vault.aws_signature import MAX_CREDENTIALS, Credentials

FETCH_TIMEOUT = 10.0  # seconds for one frame of the host's
FETCH_ATTEMPTS = 60  # the host may come up after the enclave
FETCH_PAUSE = 0.5  # seconds between them
GRACE = 5.0  # seconds that running calls have after SIGTERM
_ALL_PCRS = 32
_PR_SET_DUMPABLE = 4  # linux/prctl.h
_ENTROPY = 256  # bytes mixed into the kernel's pool


class BootError(Exception):
    """The enclave does not come up. The message is for the operator and holds no secret."""


def forbid_dumps() -> None:
    """No core dumps, and no reading of this process' memory by others of the same user."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise BootError("the kernel does not let this process forbid dumps")


def mix_entropy(nsm: Nsm) -> None:
    """Stir the module's randomness into the kernel's pool. Writing there can only help, so failing to is no error."""
    try:
        with Path("/dev/urandom").open("wb", buffering=0) as pool:
            pool.write(nsm.random(_ENTROPY))
    except OSError:
        logs.logger().warning("boot.entropy_not_mixed")


async def fetch(addresses: Addresses) -> tuple[bytes, bytes]:
    """Configuration and credentials as the host hands them over: two frames. Neither is believed here."""
    reader, writer = await transport.connect(addresses.configuration)
    try:
        configuration = await transport.read_frame(reader, maximum=MAX_CONFIGURATION, timeout=FETCH_TIMEOUT)
        credentials = await transport.read_frame(reader, maximum=MAX_CREDENTIALS, timeout=FETCH_TIMEOUT)
    finally:
        await transport.finish(writer)
    return configuration, credentials


async def fetch_configuration(addresses: Addresses) -> Configuration:
    """The configuration, once the host is there. `BootError` when it does not come or does not decode."""
    for _ in range(FETCH_ATTEMPTS):
        try:
            encoded, _ = await fetch(addresses)
            return Configuration.decode(encoded)
        except transport.TransportError:
            await asyncio.sleep(FETCH_PAUSE)
        except EvidenceError as error:
            raise BootError(str(error)) from None
    raise BootError("the host hands over no configuration")


def measure(nsm: Nsm, configuration: Configuration) -> None:
    """Extend PCR16 with the configuration's digest and lock all PCRs. `BootError` unless all is as it must be."""
    if nsm.describe_pcr(0).value == ZERO_PCR:
        raise BootError("PCR0 is zero: this enclave runs in debug mode, where the host can read its memory")
    before = nsm.describe_pcr(CONFIGURATION_PCR)
    if before.locked or before.value != ZERO_PCR:
        raise BootError("PCR16 is not in its first state: something was measured before this program ran")
    nsm.extend_pcr(CONFIGURATION_PCR, configuration.digest())
    nsm.lock_pcrs(_ALL_PCRS)
    after = nsm.describe_pcr(CONFIGURATION_PCR)
    if not after.locked or after.value != configuration_pcr(configuration.digest()):
        raise BootError("PCR16 does not hold the configuration")


def check(configuration: Configuration) -> None:
    """Refuse what is decodable and cannot be served."""
    if configuration.kms is None:
        raise BootError("insecure_cleartext is not supported: name a key service in the configuration")


async def run(nsm_address: str, vsock: str) -> None:
    """Boot and serve until SIGTERM. `BootError`, `NsmError` when the enclave cannot come up."""
    logs.configure()
    forbid_dumps()
    addresses = Addresses.of(vsock)
    with Nsm(nsm_address) as nsm:
        await asyncio.to_thread(mix_entropy, nsm)
        configuration = await fetch_configuration(addresses)
        check(configuration)
        measure(nsm, configuration)
        clock = SecureClock(nsm)
        keeper = make_keeper(configuration, nsm, clock, addresses, Path.cwd())
        server = AttestedServer(
            responder_factory=peers.responders(configuration, nsm),
            handlers=service.handlers(keeper),
            handshake_address=addresses.handshake,
            grpc_address=addresses.grpc,
            clock=clock.now,
            on_refusal=lambda code: logs.logger().warning("handshake.refused", code=code),
        )
        await server.start()
        logs.logger().info("boot.serving", configuration=configuration.digest().hex(), party=configuration.party)
        try:
            await _terminated()
        finally:
            await server.stop(GRACE)
            keeper.close()


def make_keeper(
    configuration: Configuration, nsm: Nsm, clock: SecureClock, addresses: Addresses, scratch: Path
) -> Keeper:
    """The keeper of a booted enclave; `scratch` is a folder in memory."""

    async def credentials() -> Credentials:
        _, encoded = await fetch(addresses)
        return Credentials.decode(encoded)

    def way_out() -> AbstractAsyncContextManager[Path]:
        return egress.relay(scratch, addresses.kms)

    assert configuration.kms is not None
    kms = AwsKms(
        configuration.kms,
        egress=way_out,
        credentials=credentials,
        attest=lambda spki: nsm.attest(public_key=spki),
        now=clock.now,
    )
    return Keeper(
        configuration,
        boot=os.urandom(16),
        nonce=os.urandom(32),
        now=clock.now,
        kms=kms,
        attest=lambda nonce, public_key, user_data: nsm.attest(nonce=nonce, public_key=public_key, user_data=user_data),
        entropy=lambda length: os.urandom(length) + nsm.random(length),
        material=MaterialFolder(scratch / "material"),
    )


async def _terminated() -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()
