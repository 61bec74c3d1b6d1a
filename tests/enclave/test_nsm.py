"""The enclave's client of the Nitro Security Module, against the emulated one and against modules that misbehave."""

from __future__ import annotations

import ctypes
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cipherkeep_attestation import cbor
from cipherkeep_attestation.nitro.verify import Measurements, Policy, verify
from cipherkeep_enclave import nsm as module
from cipherkeep_enclave.nsm import Nsm, NsmError, SecureClock
from cipherkeep_host.emulated.pki import emulated_root
from hypothesis import given
from hypothesis import strategies as st

from tests.host.emulated.processes import PCRS, nsm_process, short_folder

ZERO = bytes(48)


@pytest.fixture
def nsm(state: Path) -> Iterator[Nsm]:
    """A client of a freshly booted module."""
    with short_folder() as folder, nsm_process(state, folder) as address, Nsm(address) as client:
        yield client


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], Nsm]]:
    """A client of a module that answers every request with the given bytes, frame included."""
    with short_folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "nsm.sock"))
        listener.listen(8)
        clients: list[Nsm] = []
        threads: list[threading.Thread] = []

        def serve(answer: bytes) -> None:
            connection, _ = listener.accept()
            with connection:
                if connection.recv(0x2000):
                    connection.sendall(answer)

        def client(answer: bytes) -> Nsm:
            thread = threading.Thread(target=serve, args=(answer,), daemon=True)
            thread.start()
            threads.append(thread)
            clients.append(Nsm(f"unix://{folder / 'nsm.sock'}"))
            return clients[-1]

        yield client
        for made in clients:
            made.close()
        for thread in threads:
            thread.join(timeout=10)


def framed(value: object) -> bytes:
    """An answer as the emulated module would frame it."""
    data = cbor.encode(value)
    return len(data).to_bytes(4, "big") + data


def test_the_life_of_a_boot(nsm: Nsm) -> None:
    """Describe, extend, lock, and find the configuration in a document that verifies."""
    described = nsm.describe()
    assert described.version == (1, 0, 0)
    assert described.max_pcrs == 32
    assert described.locked_pcrs == frozenset(range(16))
    assert nsm.describe_pcr(0) == module.Pcr(True, PCRS[0])
    assert nsm.extend_pcr(16, b"d" * 48) == hashlib.sha384(ZERO + b"d" * 48).digest()
    nsm.lock_pcr(16)
    nsm.lock_pcrs(32)
    assert nsm.describe().locked_pcrs == frozenset(range(32))
    with pytest.raises(NsmError) as refusal:
        nsm.extend_pcr(16, b"again")
    assert refusal.value.code == "ReadOnlyIndex"


def test_a_document_binds_nonce_key_and_data(nsm: Nsm, state: Path) -> None:
    """What was asked for is what the verifier finds."""
    document = nsm.attest(nonce=b"n" * 32, public_key=b"k" * 91, user_data=b"u")
    policy = Policy(
        measurements=(Measurements(PCRS),), nonce=b"n" * 32, public_key=b"k" * 91, max_age=timedelta(minutes=1)
    )
    assert verify(document, root=emulated_root(state), policy=policy, at=datetime.now(UTC)).user_data == b"u"


def test_random_of_any_length(nsm: Nsm) -> None:
    """Longer draws are put together from the module's 256 bytes."""
    assert len(nsm.random(1)) == 1
    assert len(nsm.random(1000)) == 1000
    assert nsm.random(32) != nsm.random(32)
    for length in (0, -1, 4097):
        with pytest.raises(ValueError, match="bytes"):
            nsm.random(length)


def test_oversized_fields_are_refused_before_they_are_sent(nsm: Nsm) -> None:
    """1024 bytes is what the module takes."""
    nsm.attest(user_data=bytes(1024))
    with pytest.raises(ValueError, match="1024"):
        nsm.attest(user_data=bytes(1025))
    with pytest.raises(NsmError) as refusal:
        nsm.extend_pcr(16, bytes(5000))
    assert refusal.value.code == "InputTooLarge"


def test_threads_share_a_client(nsm: Nsm) -> None:
    """Calls follow one another; every thread gets the answer to its own question."""
    nonces = [bytes([number]) * 32 for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        documents = list(pool.map(lambda nonce: nsm.attest(nonce=nonce), nonces))
    assert all(nonce in document for nonce, document in zip(nonces, documents, strict=True))


@pytest.mark.parametrize(
    "answer",
    [
        b"\x00\x00\x00\x00",
        b"\x00\x00\x30\x01" + bytes(0x3001),
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\xff",
        framed("GetRandom"),
        framed({"GetRandom": {"random": b""}}),
        framed({"GetRandom": {"random": bytes(257)}}),
        framed({"GetRandom": {"random": bytes(32), "more": 1}}),
        framed({"DescribePCR": {"lock": True, "data": ZERO}}),
        framed({"Error": "Sleepy"}),
        framed({"Error": 3}),
        framed({"GetRandom": {"random": bytes(32)}, "Error": "InternalError"}),
    ],
)
def test_an_answer_out_of_form_is_refused(answering: Callable[[bytes], Nsm], answer: bytes) -> None:
    """Empty, oversized, truncated, foreign or unknown answers never become random bytes."""
    with pytest.raises(NsmError) as refusal:
        answering(answer).random(32)
    assert refusal.value.code == "Malformed"


def test_a_connection_that_breaks_is_named(answering: Callable[[bytes], Nsm]) -> None:
    """Half an answer is no answer."""
    with pytest.raises(NsmError) as refusal:
        answering(b"\x00\x00\x00\x10half").random(32)
    assert refusal.value.code == "Transport"


def test_the_modules_own_codes_are_passed_on(answering: Callable[[bytes], Nsm]) -> None:
    """InternalError is InternalError."""
    with pytest.raises(NsmError) as refusal:
        answering(framed({"Error": "InternalError"})).random(32)
    assert refusal.value.code == "InternalError"


def test_a_lock_must_be_confirmed_by_its_name(answering: Callable[[bytes], Nsm]) -> None:
    """An answer to something else does not mean locked."""
    with pytest.raises(NsmError) as refusal:
        answering(framed("LockPCRs")).lock_pcr(16)
    assert refusal.value.code == "Malformed"


@given(st.binary(max_size=80))
def test_arbitrary_answers_end_in_a_value_or_an_nsm_error(data: bytes) -> None:
    """Whatever bytes come back, nothing but NsmError is raised."""

    class Device:
        def exchange(self, request: bytes) -> bytes:
            return data

        def close(self) -> None: ...

    client = Nsm.__new__(Nsm)
    client._device, client._lock = Device(), threading.Lock()
    for call in (client.describe, lambda: client.describe_pcr(0), client.attest, lambda: client.random(8)):
        with pytest.raises(NsmError):
            call()


@pytest.mark.parametrize("address", ["", "/dev/nsm", "nsm://dev/nsm", "tcp://127.0.0.1:1", "unix://relative"])
def test_an_address_is_a_device_or_a_socket(address: str) -> None:
    """Anything else is a mistake of the caller."""
    with pytest.raises(ValueError, match="NSM address"):
        Nsm(address)


@pytest.mark.parametrize("scheme", ["nsm", "unix"])
def test_a_missing_module_is_named(scheme: str) -> None:
    """Neither a device nor a socket there."""
    with pytest.raises(NsmError) as refusal:
        Nsm(f"{scheme}:///nonexistent/nsm")
    assert refusal.value.code == "Transport"


def test_the_ioctl_passes_buffers_by_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """The structure is four 64-bit numbers; what the driver writes behind the second address is the answer."""
    seen: list[bytes] = []

    def ioctl(descriptor: int, number: int, message: bytearray, mutate: bool) -> int:
        assert number == 0xC0200A00
        assert mutate
        assert len(message) == 32
        request, length, response, room = module._Ioctl._MESSAGE.unpack(message)
        seen.append(ctypes.string_at(request, length))
        answer = cbor.encode({"DescribePCR": {"lock": True, "data": ZERO}})
        assert room == 0x3000
        ctypes.memmove(response, answer, len(answer))
        message[24:32] = len(answer).to_bytes(8, "little")
        return 0

    monkeypatch.setattr("fcntl.ioctl", ioctl)
    with Nsm("nsm:///dev/null") as client:
        assert client.describe_pcr(7) == module.Pcr(True, ZERO)
    assert cbor.decode(seen[0]) == {"DescribePCR": {"index": 7}}


def test_a_device_that_is_no_nsm_is_named() -> None:
    """The kernel refuses the ioctl, and the client says so."""
    with Nsm("nsm:///dev/null") as client, pytest.raises(NsmError) as refusal:
        client.random(8)
    assert refusal.value.code == "Transport"


# --- the clock ---


class Documents:
    """Stands for a client: makes documents with a stated time."""

    def __init__(self, milliseconds: int) -> None:
        self.milliseconds: object = milliseconds
        self.calls = 0
        self.nonce: bytes | None = None

    def attest(self, *, nonce: bytes) -> bytes:
        """A document of the right outer form, signed by nobody."""
        self.calls += 1
        payload = cbor.encode({"nonce": self.nonce or nonce, "timestamp": self.milliseconds})
        return cbor.encode([b"", {}, payload, b""])


class Monotonic:
    """A monotonic clock that tests turn."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def at(milliseconds: int) -> datetime:
    """Milliseconds since 1970 as a time."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def test_the_clock_reads_the_modules_time(nsm: Nsm) -> None:
    """Against the emulated module it agrees with this machine's clock to a second."""
    clock = SecureClock(nsm)
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=1)
    assert clock.now() <= clock.now()


def test_the_clock_asks_again_after_thirty_seconds() -> None:
    """In between it runs on the monotonic clock."""
    documents, monotonic = Documents(1_700_000_000_123), Monotonic()
    clock = SecureClock(documents, monotonic=monotonic)  # type: ignore[arg-type]
    assert clock.now() == at(1_700_000_000_123)
    monotonic.now += 29.5
    assert clock.now() == at(1_700_000_029_623)
    assert documents.calls == 1
    monotonic.now += 0.5
    documents.milliseconds = 1_700_000_031_000
    assert clock.now() == at(1_700_000_031_000)
    assert documents.calls == 2


def test_the_clock_never_goes_backwards() -> None:
    """A module that is set back holds the clock still until its time catches up."""
    documents, monotonic = Documents(2_000_000), Monotonic()
    clock = SecureClock(documents, monotonic=monotonic)  # type: ignore[arg-type]
    clock.now()
    monotonic.now += 40
    documents.milliseconds = 1_000_000
    assert clock.now() == at(2_000_000)


@pytest.mark.parametrize("timestamp", [0, -1, None, "1", True, 1 << 60])
def test_a_timestamp_out_of_form_stops_the_clock(timestamp: object) -> None:
    """No time is better than a wrong one."""
    documents = Documents(1)
    documents.milliseconds = timestamp
    with pytest.raises(NsmError) as refusal:
        SecureClock(documents).now()  # type: ignore[arg-type]
    assert refusal.value.code == "Malformed"


def test_a_document_over_another_nonce_stops_the_clock() -> None:
    """A replayed document would turn the clock back."""
    documents = Documents(1)
    documents.nonce = b"an older nonce"
    with pytest.raises(NsmError) as refusal:
        SecureClock(documents).now()  # type: ignore[arg-type]
    assert refusal.value.code == "Malformed"
