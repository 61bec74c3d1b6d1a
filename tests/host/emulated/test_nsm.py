"""The emulated NSM: the real module's calls, locks and error codes, and its process."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.nitro.verify import Measurements, Policy, aws_root, verify
from cipherkeep_host.emulated.pcrs import MAX_PCRS, PcrBank
from cipherkeep_host.emulated.pki import emulated_root
from hypothesis import given
from hypothesis import strategies as st

from tests.host.emulated.processes import PCRS, ended, nsm_process, page, short_folder

ZERO = bytes(48)


def shown(pcrs: Mapping[int, bytes], public_key: bytes | None, user_data: bytes | None, nonce: bytes | None) -> bytes:
    """Stands for the signer: says which PCRs a document would show."""
    return cbor.encode({"shown": sorted(pcrs), "fields": [public_key, user_data, nonce]})


@pytest.fixture
def bank() -> PcrBank:
    """A bank fresh from boot."""
    return PcrBank(PCRS, module_id="i-0-enc0", attest=shown)


def ask(bank: PcrBank, request: object) -> Any:
    """A decoded answer."""
    return cbor.decode_foreign(bank.answer(cbor.encode(request)))


def extend(bank: PcrBank, index: int, data: bytes) -> Any:
    """ExtendPCR."""
    return ask(bank, {"ExtendPCR": {"index": index, "data": data}})


def attest(bank: PcrBank, **fields: bytes | None) -> Any:
    """Attestation with the given fields."""
    nothing: dict[str, bytes | None] = {"user_data": None, "nonce": None, "public_key": None}
    return ask(bank, {"Attestation": nothing | fields})


def registers(bank: PcrBank) -> Any:
    """Which registers a document shows."""
    content: Any = cbor.decode(attest(bank)["Attestation"]["document"])
    return content["shown"]


def error(code: str) -> dict[str, str]:
    """A refusal of the module."""
    return {"Error": code}


def test_a_fresh_bank_holds_the_measurements(bank: PcrBank) -> None:
    """PCR0-2 as measured, the platform's locked, the user's zero and open."""
    assert ask(bank, {"DescribePCR": {"index": 1}}) == {"DescribePCR": {"lock": True, "data": PCRS[1]}}
    assert ask(bank, {"DescribePCR": {"index": 16}}) == {"DescribePCR": {"lock": False, "data": ZERO}}
    assert ask(bank, "DescribeNSM")["DescribeNSM"] == {
        "version_major": 1,
        "version_minor": 0,
        "version_patch": 0,
        "module_id": "i-0-enc0",
        "max_pcrs": 32,
        "locked_pcrs": list(range(16)),
        "digest": "SHA384",
    }


def test_extending_hashes_the_old_value_and_the_data(bank: PcrBank) -> None:
    """A PCR after two extensions is SHA384(SHA384(0 ‖ a) ‖ b)."""
    first = hashlib.sha384(ZERO + b"a").digest()
    assert extend(bank, 16, b"a") == {"ExtendPCR": {"data": first}}
    assert extend(bank, 16, b"b") == {"ExtendPCR": {"data": hashlib.sha384(first + b"b").digest()}}


@pytest.mark.parametrize("index", [0, 2, 15])
def test_what_the_platform_measured_cannot_be_extended(bank: PcrBank, index: int) -> None:
    """An enclave cannot change what it is."""
    assert extend(bank, index, b"x") == error("ReadOnlyIndex")
    assert ask(bank, {"LockPCR": {"index": index}}) == error("ReadOnlyIndex")


def test_a_locked_register_stays_as_it_is(bank: PcrBank) -> None:
    """LockPCR ends extension for good; a second lock is refused."""
    extend(bank, 16, b"configuration")
    assert ask(bank, {"LockPCR": {"index": 16}}) == "LockPCR"
    assert extend(bank, 16, b"other") == error("ReadOnlyIndex")
    assert ask(bank, {"LockPCR": {"index": 16}}) == error("ReadOnlyIndex")


def test_lock_pcrs_locks_all_below_its_range(bank: PcrBank) -> None:
    """LockPCRs 20 locks 16 to 19 and leaves 20 open."""
    assert ask(bank, {"LockPCRs": {"range": 20}}) == "LockPCRs"
    assert extend(bank, 19, b"x") == error("ReadOnlyIndex")
    assert "ExtendPCR" in extend(bank, 20, b"x")
    assert ask(bank, {"LockPCRs": {"range": 32}}) == "LockPCRs"
    assert ask(bank, {"LockPCRs": {"range": 33}}) == error("InvalidIndex")


def test_only_locked_registers_stand_in_documents(bank: PcrBank) -> None:
    """PCR16 shows only once it can no longer change."""
    extend(bank, 16, b"configuration")
    assert registers(bank) == list(range(16))
    ask(bank, {"LockPCR": {"index": 16}})
    assert registers(bank) == list(range(17))


def test_fields_of_a_document_have_at_most_1024_bytes(bank: PcrBank) -> None:
    """1024 bytes pass, 1025 are refused, each field alike."""
    for name in ("user_data", "nonce", "public_key"):
        assert "Attestation" in attest(bank, **{name: bytes(1024)})
        assert attest(bank, **{name: bytes(1025)}) == error("InputTooLarge")


def test_random_bytes_come_256_at_a_time(bank: PcrBank) -> None:
    """Two calls never agree."""
    first, second = (ask(bank, "GetRandom")["GetRandom"]["random"] for _ in range(2))
    assert len(first) == 256
    assert first != second


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"DescribePCR": {"index": 32}}, "InvalidIndex"),
        ({"ExtendPCR": {"index": 32, "data": b"x"}}, "InvalidIndex"),
        ({"LockPCR": {"index": 65535}}, "InvalidIndex"),
        ({"DescribePCR": {"index": 65536}}, "InvalidArgument"),
        ({"DescribePCR": {"index": -1}}, "InvalidArgument"),
        ({"DescribePCR": {"index": True}}, "InvalidArgument"),
        ({"ExtendPCR": {"index": 16, "data": b""}}, "InvalidArgument"),
        ({"ExtendPCR": {"index": 16, "data": "text"}}, "InvalidArgument"),
        ({"ExtendPCR": {"index": 16}}, "InvalidArgument"),
        ({"LockPCRs": {"range": "all"}}, "InvalidArgument"),
        ({"DescribeNSM": {}}, "InvalidArgument"),
        ({"Attestation": {"nonce": None}}, "InvalidArgument"),
        ({"Attestation": {"user_data": 5, "nonce": None, "public_key": None}}, "InvalidArgument"),
        ({"DescribePCR": {"index": 0}, "LockPCR": {"index": 16}}, "InvalidOperation"),
        ("Attestation", "InvalidOperation"),
        ("Reboot", "InvalidOperation"),
        ({"Reboot": {}}, "InvalidOperation"),
        (7, "InvalidOperation"),
    ],
)
def test_what_the_module_does_not_take_has_its_error_code(bank: PcrBank, request_: object, code: str) -> None:
    """Every refusal is an answer with one of the real module's codes."""
    assert ask(bank, request_) == error(code)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_answered(request_: bytes) -> None:
    """No request, however broken, is without an answer, and none of them changes a locked register."""
    bank = PcrBank(PCRS, module_id="i-0-enc0", attest=shown)
    cbor.decode_foreign(bank.answer(request_))
    assert ask(bank, {"DescribePCR": {"index": 0}})["DescribePCR"]["data"] == PCRS[0]


def test_an_oversized_request_is_refused_unread(bank: PcrBank) -> None:
    """4096 bytes are the driver's limit."""
    assert cbor.decode(bank.answer(bytes(4097))) == error("InputTooLarge")


# --- the process ---


def connect(address: str) -> socket.socket:
    """A connection to the process."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(address.removeprefix("unix://"))
    return connection


def exchange(connection: socket.socket, request: bytes) -> Any:
    """A framed request and its decoded answer."""
    connection.sendall(len(request).to_bytes(4, "big") + request)
    with connection.makefile("rb") as stream:
        return cbor.decode_foreign(stream.read(int.from_bytes(stream.read(4), "big")))


def test_a_document_verifies_under_the_emulated_root_and_no_other(nsm: str, state: Path) -> None:
    """The whole way: process, document, verifier; AWS's root refuses the same bytes."""
    with connect(nsm) as connection:
        fields = {"user_data": b"u", "nonce": b"n" * 32, "public_key": b"k" * 91}
        document = exchange(connection, cbor.encode({"Attestation": fields}))["Attestation"]["document"]
    policy = Policy(
        measurements=(Measurements(PCRS),), nonce=b"n" * 32, public_key=b"k" * 91, max_age=timedelta(minutes=1)
    )
    now = datetime.now(UTC)
    found = verify(document, root=emulated_root(state), policy=policy, at=now)
    assert found.user_data == b"u"
    assert not found.debug
    assert set(found.pcrs) == set(range(16))
    with pytest.raises(EvidenceError) as refusal:
        verify(document, root=aws_root(), policy=policy, at=now)
    assert refusal.value.code == "path.root"
    with pytest.raises(EvidenceError):
        verify(document, root=emulated_root(state), policy=policy, at=now + timedelta(hours=4))


def test_an_enclave_without_measurements_is_a_debug_enclave(state: Path, folder: Path) -> None:
    """All-zero PCRs, as hardware reports for debug mode, are refused by the verifier."""
    with nsm_process(state, folder, pcr0=ZERO, pcr1=ZERO, pcr2=ZERO) as address, connect(address) as connection:
        nothing = {"user_data": None, "nonce": b"n", "public_key": None}
        document = exchange(connection, cbor.encode({"Attestation": nothing}))["Attestation"]["document"]
    policy = Policy(
        measurements=(Measurements(dict.fromkeys(range(3), ZERO)),),
        nonce=b"n",
        public_key=None,
        max_age=timedelta(minutes=1),
    )
    with pytest.raises(EvidenceError) as refusal:
        verify(document, root=emulated_root(state), policy=policy, at=datetime.now(UTC))
    assert refusal.value.code == "document.debug"


def test_connections_share_one_boot(nsm: str) -> None:
    """What one connection locks is locked for the others; a new process is a new boot."""
    with connect(nsm) as one, connect(nsm) as other:
        exchange(one, cbor.encode({"LockPCRs": {"range": 32}}))
        answer = exchange(other, cbor.encode({"ExtendPCR": {"index": 31, "data": b"x"}}))
    assert answer == error("ReadOnlyIndex")


def test_a_new_process_is_a_fresh_boot(state: Path, folder: Path) -> None:
    """Registers and locks do not survive, as an enclave's do not."""
    for _ in range(2):
        with nsm_process(state, folder) as address, connect(address) as connection:
            assert "ExtendPCR" in exchange(connection, cbor.encode({"ExtendPCR": {"index": 16, "data": b"x"}}))
            exchange(connection, cbor.encode({"LockPCRs": {"range": MAX_PCRS}}))


def test_the_socket_is_for_its_owner_only(nsm: str) -> None:
    """Mode 0600: on hardware /dev/nsm is inside the enclave."""
    assert stat.S_IMODE(Path(nsm.removeprefix("unix://")).stat().st_mode) == 0o600


def test_an_oversized_frame_ends_its_connection_only(nsm: str) -> None:
    """A length of four gigabytes is refused before anything is read, and others go on."""
    with connect(nsm) as connection:
        connection.sendall(b"\xff\xff\xff\xff")
        with connection.makefile("rb") as stream:
            answer = cbor.decode(stream.read(int.from_bytes(stream.read(4), "big")))
            assert answer == error("InputTooLarge")
            assert stream.read() == b""
    with connect(nsm) as connection:
        assert "GetRandom" in exchange(connection, cbor.encode("GetRandom"))


def test_a_request_that_is_cut_off_is_dropped(nsm: str) -> None:
    """Half a frame changes nothing and disturbs nobody."""
    with connect(nsm) as connection:
        connection.sendall((1000).to_bytes(4, "big") + b"half")
    with connect(nsm) as connection:
        assert "DescribeNSM" in exchange(connection, cbor.encode("DescribeNSM"))


def test_it_says_how_it_is(nsm: str) -> None:
    """`/healthz` and `/metrics` on a socket of their own: whose module it is, and what became of the requests."""
    path = Path(nsm.removeprefix("unix://"))
    health = path.with_name("nsm-health.sock")
    assert stat.S_IMODE(health.stat().st_mode) == 0o600
    with connect(nsm) as connection:
        described = exchange(connection, cbor.encode("DescribeNSM"))["DescribeNSM"]
        exchange(connection, cbor.encode("NoSuchCall"))
        status, text = page(health, "/healthz")
        said = json.loads(text)
        assert (status, said) == (200, {"ready": True, "module_id": described["module_id"], "connections": 1})
    counted = page(health, "/metrics")[1]
    assert 'nsm_requests_total{outcome="DescribeNSM"} 1.0' in counted
    assert 'nsm_requests_total{outcome="InvalidOperation"} 1.0' in counted


def command(state: Path, path: Path, parent: int | None = None) -> list[str]:
    """The command line of an NSM."""
    pcrs = [f"--pcr{index}={value.hex()}" for index, value in PCRS.items()]
    line = [sys.executable, "-m", "cipherkeep_host.emulated.nsm", "--socket", str(path), "--state", str(state), *pcrs]
    line += ["--health", f"unix://{path.with_name('health.sock')}"]
    return line + ([] if parent is None else ["--parent", str(parent)])


def test_sigterm_ends_it_cleanly(state: Path, folder: Path) -> None:
    """Exit status 0 and no socket left, even with a connection open."""
    path = folder / "nsm.sock"
    with subprocess.Popen(command(state, path), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        with connect(f"unix://{path}"):
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 0
    assert not path.exists() and not path.with_name("health.sock").exists()


def test_it_never_outlives_its_parent(state: Path, folder: Path) -> None:
    """When the parent is killed, the kernel kills the NSM."""
    program = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen({command(state, folder / 'nsm.sock')!r}, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    assert ended(pid)


def test_it_does_not_start_when_its_parent_is_gone(state: Path, folder: Path) -> None:
    """The parent may die before the child asks the kernel to watch it."""
    with short_folder() as other:
        done = subprocess.run(
            command(state, other / "nsm.sock", parent=os.getpid() + 100_000),
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert done.returncode != 0
    assert b"gone" in done.stderr


def test_a_state_without_a_root_is_refused(folder: Path) -> None:
    """The NSM never makes a root by itself: it would be one that nobody trusts."""
    done = subprocess.run(command(folder, folder / "nsm.sock"), capture_output=True, timeout=60, check=False)
    assert done.returncode != 0
    assert b"emulator.state_missing" in done.stderr
