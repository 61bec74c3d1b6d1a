"""Configuration files of processes: exactly their fields, or a code and the field that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cipherkeep_host import configuration_files as files
from cipherkeep_host.connector import config as connector
from cipherkeep_host.coprocessor import config as coprocessor
from cipherkeep_host.errors import HostError

from tests.enclave.harness import World

CONNECTOR: dict[str, object] = {
    "listen": "unix:///run/c.sock",
    "state": "/state",
    "node": "http://127.0.0.1:26657",
    "store": "unix:///run/store.sock",
    "handshake": "unix:///run/h.sock",
    "grpc": "unix:///run/g.sock",
    "measurements": {"0": "00" * 48, "1": "11" * 48, "2": "22" * 48},
    "sender_key": "/keys/connector.key",
    "host_attestor": "/state/pki",
}
COPROCESSOR: dict[str, object] = {
    "listen": "unix:///run/p.sock",
    "state": "/state",
    "node": "http://127.0.0.1:26657",
    "store": "unix:///run/store.sock",
    "key_id": "4b" * 32,
    "signing_key": "/keys/coprocessor.key",
    "crs_bits": 2048,
}


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """A file with a measured configuration."""
    path = tmp_path / "measured"
    path.write_bytes(World(tmp_path).configuration.encode())
    return path


def written(folder: Path, fields: dict[str, object]) -> Path:
    """The file with these fields."""
    path = folder / "config.json"
    path.write_text(json.dumps(fields))
    return path


def refusal(load: object, path: Path) -> HostError:
    """What loading says."""
    assert callable(load)
    with pytest.raises(HostError) as refused:
        load(path)
    assert refused.value.code == "process.configuration"
    return refused.value


def test_the_documented_fields_are_read(tmp_path: Path, measured: Path) -> None:
    """Each process reads its own, and the enclave's configuration from the file that one of them names."""
    here = {"configuration": str(measured)}
    one = connector.load(written(tmp_path, CONNECTOR | here))
    assert one.pcrs == {0: bytes(48), 1: b"\x11" * 48, 2: b"\x22" * 48}
    assert one.configuration.encode() == measured.read_bytes()
    other = coprocessor.load(written(tmp_path, COPROCESSOR | here))
    assert (other.key_id, other.crs_bits, str(other.store)) == (b"\x4b" * 32, 2048, "unix:///run/store.sock")


@pytest.mark.parametrize("load", [connector.load, coprocessor.load])
def test_no_field_may_be_missing_unknown_or_of_another_type(load: object, tmp_path: Path, measured: Path) -> None:
    """The detail names the field."""
    good = (CONNECTOR if load is connector.load else COPROCESSOR) | {"configuration": str(measured)}
    for name in good:
        less = {key: value for key, value in good.items() if key != name}
        assert name in refusal(load, written(tmp_path, less)).detail
        for wrong in (None, True, [], {}, 7.5, ""):
            assert name in refusal(load, written(tmp_path, good | {name: wrong})).detail
    assert "more" in refusal(load, written(tmp_path, good | {"more": 1})).detail


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("store", "http://127.0.0.1:1"),
        ("store", "tcp://0.0.0.0:1"),
        ("grpc", "unix://relative"),
        ("measurements", {"0": "00" * 48, "1": "11" * 48}),
        ("measurements", {"0": "00" * 48, "1": "11" * 48, "2": "22" * 47}),
        ("measurements", {"0": "00" * 48, "1": "11" * 48, "2": "zz" * 48}),
        ("measurements", {"0": "00" * 48, "1": "11" * 48, "2": 22}),
        ("configuration", "/nowhere"),
    ],
)
def test_a_value_that_is_none_of_its_kind_is_refused(name: str, wrong: object, tmp_path: Path, measured: Path) -> None:
    """Addresses, measurements and the enclave's configuration are read when the process starts, not when it dials."""
    refusal(connector.load, written(tmp_path, CONNECTOR | {"configuration": str(measured)} | {name: wrong}))


def test_a_configuration_that_is_none_is_refused(tmp_path: Path, measured: Path) -> None:
    """Cut, extended or far too long: what the enclave was not measured with is not used."""
    good = measured.read_bytes()
    for content in (b"", good[:-1], good + b"\x00", bytes(1 << 20)):
        measured.write_bytes(content)
        refusal(connector.load, written(tmp_path, CONNECTOR | {"configuration": str(measured)}))


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"nonsense", b"\xff", b"[" * 60_000, b'{"a": 1, "a": 1}', b'{"a": NaN}', b'{"a": 1}' + b" " * 65_536],
)
def test_a_file_that_is_no_object_is_refused(content: bytes, tmp_path: Path) -> None:
    """Nothing is guessed: a name twice, other JSON, too deep or too long."""
    path = tmp_path / "config.json"
    path.write_bytes(content)
    refusal(lambda found: files.read(found, "a"), path)
    path.unlink()
    assert str(path) in refusal(lambda found: files.read(found, "a"), path).detail
