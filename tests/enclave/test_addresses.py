"""Where the enclave listens and what it dials: four addresses, on either device, and no other."""

from __future__ import annotations

import dataclasses

from cipherkeep_enclave.addresses import Addresses


def test_an_emulated_device_has_unix_sockets_only() -> None:
    """Everything lies below the one folder."""
    made = Addresses.of("/run/e")
    found = {field.name: str(getattr(made, field.name)) for field in dataclasses.fields(made)}
    assert found == {
        "handshake": "unix:///run/e/5001.sock",
        "grpc": "unix:///run/e/5002.sock",
        "configuration": "unix-vsock:///run/e/out.sock#7001",
        "kms": "unix-vsock:///run/e/out.sock#7002",
    }


def test_the_real_device_dials_its_parent_alone() -> None:
    """The parent is CID 3; nothing is opened here."""
    found = Addresses.of("vsock")
    assert (str(found.configuration), str(found.kms)) == ("vsock://3:7001", "vsock://3:7002")
    assert (found.handshake.port, found.grpc.port) == (5001, 5002)
