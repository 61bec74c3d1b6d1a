"""A booted enclave, as its own process: what it measures, whom it lets in, and when it does not come up."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements.configuration import Configuration
from cipherkeep_host.emulated.tpm import BOOT, HostAttestor
from cipherkeep_wire import kms_pb2 as pb
from cipherkeep_wire import kms_pb2_grpc
from cipherkeep_wire.errors import ServiceError

from tests.enclave.booted import enclave, with_key
from tests.enclave.harness import World
from tests.host.emulated.processes import KmsClient


@pytest.fixture
def configuration(tmp_path: Path, service: KmsClient, state: Path) -> Configuration:
    """What a laptop's enclave is measured with."""
    bare = World(tmp_path).configuration
    insecure = ("insecure_allow_all", "insecure_any_host_measurement")
    return with_key(replace(bare, host_measurements=(), insecure=insecure), service, state)


async def test_an_attested_host_reads_the_status(
    configuration: Configuration, state: Path, folder: Path, service: KmsClient
) -> None:
    """Boot, handshake in both directions, mutual TLS, one call; SIGTERM ends it with 0 and JSON was all it logged."""
    async with enclave(configuration, state, folder, service.socket_path) as running:
        await running.listening()
        channel = await running.channel()
        stub = kms_pb2_grpc.KmsStub(channel.grpc)
        status = await stub.Status(pb.StatusRequest())
        await channel.close()
        assert status.configuration == configuration.digest()
        assert (status.party, status.open, status.head_height) == ("alpha", False, 0)
        assert len(status.boot) == 16 and len(status.freshness_nonce) == 32
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0
        events = [json.loads(line)["event"] for line in running.log.read_text().splitlines()]
        assert "boot.serving" in events


async def test_there_are_no_core_dumps(
    configuration: Configuration, state: Path, folder: Path, service: KmsClient
) -> None:
    """The process forbids core dumps."""
    async with enclave(configuration, state, folder, service.socket_path) as running:
        await running.listening()
        assert core_limits(running.process.pid) == ["0", "0"]


def core_limits(pid: int) -> list[str]:
    """Soft and hard limit of core dumps."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in lines if line.startswith("Max core file size")).split()[4:6]


async def test_the_host_must_expect_this_configuration(
    configuration: Configuration, state: Path, folder: Path, service: KmsClient
) -> None:
    """Whoever demands another PCR16 does not talk to this enclave."""
    async with enclave(configuration, state, folder, service.socket_path) as running:
        await running.listening()
        with pytest.raises(EvidenceError) as refusal:
            await running.channel(running.initiators(pcr16=bytes(48)))
        assert refusal.value.code == "document.pcr_mismatch"


async def test_a_host_of_other_measurements_is_refused(
    configuration: Configuration, state: Path, folder: Path, service: KmsClient
) -> None:
    """With host measurements in the configuration, a document of the right root is not enough."""
    pinned = with_key(
        replace(configuration, host_measurements=(bytes(32),), insecure=("insecure_allow_all",)), service, state
    )
    async with enclave(pinned, state, folder, service.socket_path) as running:
        await running.listening()
        with pytest.raises(ServiceError):
            await running.channel(running.initiators(attestor=HostAttestor(state)))


async def test_a_configured_host_is_let_in(
    configuration: Configuration, state: Path, folder: Path, service: KmsClient
) -> None:
    """A host whose PCR4 and PCR7 are configured needs no insecure setting."""
    known = hashlib.sha256(cbor.encode({index: BOOT[index] for index in (4, 7)})).digest()
    pinned = with_key(
        replace(configuration, host_measurements=(known,), insecure=("insecure_allow_all",)), service, state
    )
    async with enclave(pinned, state, folder, service.socket_path) as running:
        await running.listening()
        channel = await running.channel(running.initiators(attestor=HostAttestor(state)))
        status = await kms_pb2_grpc.KmsStub(channel.grpc).Status(pb.StatusRequest())
        assert status.configuration == pinned.digest()
        await channel.close()


async def test_a_debug_enclave_does_not_come_up(
    configuration: Configuration, state: Path, folder: Path, service: KmsClient
) -> None:
    """With a PCR0 of zeros the host reads the memory: nothing secret may ever be in it."""
    async with enclave(configuration, state, folder, service.socket_path, pcr0=bytes(48)) as running:
        assert await running.ended() == 1
        assert "debug mode" in running.log.read_text()


@pytest.mark.parametrize("handed", [b"", b"\xa0", b"\xff" * 100])
async def test_bytes_that_are_no_configuration_do_not_boot(
    handed: bytes, configuration: Configuration, state: Path, folder: Path, service: KmsClient
) -> None:
    """What does not decode is not measured: the enclave ends and says why."""
    async with enclave(configuration, state, folder, service.socket_path, handed=handed) as running:
        assert await running.ended() == 1
        assert "boot.failed" in running.log.read_text()


async def test_clear_text_storage_is_refused(
    configuration: Configuration, state: Path, folder: Path, service: KmsClient
) -> None:
    """A configuration without a key service is refused by name."""
    bare = replace(
        configuration,
        kms=None,
        insecure=("insecure_allow_all", "insecure_any_host_measurement", "insecure_cleartext"),
    )
    async with enclave(bare, state, folder, service.socket_path) as running:
        assert await running.ended() == 1
        assert "insecure_cleartext" in running.log.read_text()


async def test_an_enclave_is_killed_and_boots_again(
    configuration: Configuration, state: Path, folder: Path, service: KmsClient
) -> None:
    """kill -9 leaves nothing in the way of the next boot, which is another boot with another nonce."""
    seen = []
    for _ in range(2):
        async with enclave(configuration, state, folder, service.socket_path) as running:
            await running.listening()
            channel = await running.channel()
            status = await kms_pb2_grpc.KmsStub(channel.grpc).Status(pb.StatusRequest())
            seen.append((status.boot, status.freshness_nonce))
            running.process.kill()
            assert await running.ended() == -signal.SIGKILL
            await channel.close()
        await asyncio.sleep(0)
    assert seen[0][0] != seen[1][0] and seen[0][1] != seen[1][1]
