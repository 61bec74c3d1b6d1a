"""The client of AWS KMS against the emulated service over TLS, and against services that lie."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cipherkeep_attestation.eif import configuration_pcr
from cipherkeep_attestation.statements.configuration import KeyService
from cipherkeep_enclave.nsm import Nsm
from cipherkeep_enclave.vault import aws_recipient, egress
from cipherkeep_enclave.vault.aws_kms import AwsKms
from cipherkeep_enclave.vault.aws_signature import Credentials
from cipherkeep_host.emulated import aws_cms, aws_tls
from cipherkeep_host.emulated.aws_policy import attested_policy
from cipherkeep_wire import transport
from cipherkeep_wire.errors import ServiceError
from cipherkeep_wire.transport import Address
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.host.emulated.processes import PCRS, KmsClient, new_state, nsm_process

CONFIGURATION = b"c" * 48
MEASURED = {**PCRS, 16: configuration_pcr(CONFIGURATION)}
CONTEXT = {"cipherkeep:party": "alpha", "cipherkeep:epoch": "1"}


@pytest.fixture
def nsm(state: Path, folder: Path) -> Iterator[Nsm]:
    """A module that measured the configuration."""
    with nsm_process(state, folder) as address, Nsm(address) as module:
        module.extend_pcr(16, CONFIGURATION)
        module.lock_pcrs(32)
        yield module


@pytest.fixture
def key_service(service: KmsClient, state: Path) -> KeyService:
    """A key that opens for this enclave under this configuration."""
    made = service.ok("CreateKey", Policy=attested_policy([MEASURED]))
    return KeyService(made["KeyMetadata"]["Arn"], aws_tls.HOST_NAME, aws_tls.ca_certificate(state))


def client(key_service: KeyService, nsm: Nsm, folder: Path, target: Path, state: Path) -> AwsKms:
    key = aws_tls.access_key(state)

    async def credentials() -> Credentials:
        return Credentials(key.key_id, key.secret)

    return AwsKms(
        key_service,
        egress=lambda: egress.relay(folder, Address("unix", path=str(target))),
        credentials=credentials,
        attest=lambda spki: nsm.attest(public_key=spki),
        now=lambda: datetime.now(UTC),
    )


@pytest.fixture
def kms(key_service: KeyService, nsm: Nsm, folder: Path, service: KmsClient, state: Path) -> AwsKms:
    """An honest client."""
    return client(key_service, nsm, folder, service.socket_path, state)


async def test_a_data_key_opens_again_under_its_context(kms: AwsKms) -> None:
    """What GenerateDataKey wrapped, Decrypt opens, both attested and over TLS that ends in the client."""
    made = await kms.generate(CONTEXT)
    assert len(made.plaintext) == 32
    assert await kms.unwrap(made.wrapped, CONTEXT) == made.plaintext
    assert made.plaintext.hex() not in repr(made)


async def test_another_context_does_not_open(kms: AwsKms) -> None:
    """A wrapped key is bound to party and epoch."""
    made = await kms.generate(CONTEXT)
    with pytest.raises(ServiceError) as refusal:
        await kms.unwrap(made.wrapped, {**CONTEXT, "cipherkeep:epoch": "2"})
    assert refusal.value.code == "vault.kms_denied"
    assert "InvalidCiphertextException" in refusal.value.detail


async def test_another_configuration_is_denied(
    service: KmsClient, key_service: KeyService, state: Path, folder: Path
) -> None:
    """The key's policy names PCR16: an enclave with another configuration gets nothing."""
    with nsm_process(state, folder) as address, Nsm(address) as module:
        module.extend_pcr(16, b"d" * 48)
        module.lock_pcrs(32)
        other = client(key_service, module, folder, service.socket_path, state)
        with pytest.raises(ServiceError) as refusal:
            await other.generate(CONTEXT)
    assert refusal.value.code == "vault.kms_denied"
    assert "AccessDenied" in refusal.value.detail


async def test_another_ca_is_not_spoken_to(
    key_service: KeyService, nsm: Nsm, folder: Path, service: KmsClient, state: Path
) -> None:
    """TLS takes the one CA of the measured configuration, whatever the host relays to."""
    with new_state() as other:
        aws_tls.create(other)
        pinned = replace(key_service, ca=aws_tls.ca_certificate(other))
        with pytest.raises(ServiceError) as refusal:
            await client(pinned, nsm, folder, service.socket_path, state).generate(CONTEXT)
    assert refusal.value.code == "vault.kms_unreachable"


async def test_another_host_name_is_not_spoken_to(
    key_service: KeyService, nsm: Nsm, folder: Path, service: KmsClient, state: Path
) -> None:
    """A certificate of the same CA for another name is no KMS."""
    pinned = replace(key_service, host="kms.us-east-1.example")
    with pytest.raises(ServiceError) as refusal:
        await client(pinned, nsm, folder, service.socket_path, state).generate(CONTEXT)
    assert refusal.value.code == "vault.kms_unreachable"


async def test_nobody_at_the_other_end_is_a_retryable_error(
    key_service: KeyService, nsm: Nsm, folder: Path, state: Path
) -> None:
    """A proxy that leads nowhere is told apart from a refusal."""
    with pytest.raises(ServiceError) as refusal:
        await client(key_service, nsm, folder, folder / "nobody.sock", state).generate(CONTEXT)
    assert (refusal.value.code, refusal.value.retryable) == ("vault.kms_unreachable", True)


# --- services that lie ---


class Double:
    """A KMS that gives whatever answer it is told to."""

    def __init__(self) -> None:
        self.key = bytes(range(32))
        self.status = 200
        self.edit: Any = lambda answer: answer
        self.seen: list[dict[str, Any]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            request = json.loads(await reader.readexactly(int(lengths[0].split(b":")[1])))
            self.seen.append(request)
            body = self.edit(self.answer(request))
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (self.status, len(data)) + data)
            await writer.drain()
        writer.close()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        document = base64.b64decode(request["Recipient"]["AttestationDocument"])
        envelope = aws_cms.envelop(self.key, aws_cms.recipient_key(_public_key(document)))
        return {
            "CiphertextBlob": base64.b64encode(b"blob").decode(),
            "CiphertextForRecipient": base64.b64encode(envelope).decode(),
            "KeyId": request["KeyId"],
        }


def _public_key(document: bytes) -> bytes:
    from cipherkeep_attestation import cbor

    envelope: Any = cbor.decode_foreign(document)
    payload: Any = cbor.decode_foreign(envelope[2])
    key: bytes = payload["public_key"]
    return key


@pytest_asyncio.fixture
async def liar(state: Path, service: KmsClient, folder: Path) -> AsyncIterator[tuple[Double, Path]]:
    """A double behind the emulated service's own certificate: a host that broke TLS could not do more."""
    double = Double()
    # `service` has made the CA's files; a leaf for the double's own use comes from the same CA.
    context = aws_tls.server_context(state)
    path = folder / "liar.sock"
    server = await asyncio.start_unix_server(double.serve, path=str(path), ssl=context)
    yield double, path
    server.close()


async def _refusal(kms: AwsKms) -> ServiceError:
    with pytest.raises(ServiceError) as refusal:
        await kms.unwrap(b"blob", CONTEXT)
    return refusal.value


async def test_an_honest_double_is_believed(
    liar: tuple[Double, Path], key_service: KeyService, nsm: Nsm, folder: Path, state: Path
) -> None:
    """The lies below are refused for what they are, not for the double's form."""
    double, path = liar
    assert await client(key_service, nsm, folder, path, state).unwrap(b"blob", CONTEXT) == double.key
    assert double.seen[0]["EncryptionContext"] == CONTEXT
    assert double.seen[0]["KeyId"] == key_service.key_arn


LIES: dict[str, Any] = {
    "a plaintext beside the envelope": lambda a: a | {"Plaintext": base64.b64encode(bytes(32)).decode()},
    "a plaintext instead": lambda a: {"KeyId": a["KeyId"], "Plaintext": base64.b64encode(bytes(32)).decode()},
    "another key": lambda a: a | {"KeyId": a["KeyId"] + "0"},
    "an alias": lambda a: a | {"KeyId": "alias/vault"},
    "no key": lambda a: {name: value for name, value in a.items() if name != "KeyId"},
    "no envelope": lambda a: {"KeyId": a["KeyId"]},
    "not Base64": lambda a: a | {"CiphertextForRecipient": "?"},
    "a cut envelope": lambda a: a | {"CiphertextForRecipient": a["CiphertextForRecipient"][:-8]},
    "not JSON": lambda a: b"{",
    "an array": lambda a: b"[]",
    "an endless answer": lambda a: b" " * (1 << 17),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_is_refused(
    lie: str, liar: tuple[Double, Path], key_service: KeyService, nsm: Nsm, folder: Path, state: Path
) -> None:
    """An answer in clear text, of another key, or not of the real form is refused and names no secret."""
    double, path = liar
    double.edit = LIES[lie]
    refusal = await _refusal(client(key_service, nsm, folder, path, state))
    assert refusal.code == "vault.kms_answer"


async def test_a_key_of_another_length_is_refused(
    liar: tuple[Double, Path], key_service: KeyService, nsm: Nsm, folder: Path, state: Path
) -> None:
    """An envelope that opens to 16 bytes holds no data key."""
    double, path = liar
    double.key = bytes(16)
    assert (await _refusal(client(key_service, nsm, folder, path, state))).code == "vault.kms_answer"


async def test_an_error_of_aws_is_named(
    liar: tuple[Double, Path], key_service: KeyService, nsm: Nsm, folder: Path, state: Path
) -> None:
    """The operator reads AWS's own name for it, and nothing else that the other side wrote."""
    double, path = liar
    double.status = 400
    double.edit = lambda answer: {"__type": "AccessDeniedException", "message": "arn: secret"}
    refusal = await _refusal(client(key_service, nsm, folder, path, state))
    assert (refusal.code, refusal.detail) == ("vault.kms_denied", "AccessDeniedException")


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (500, {"__type": "KMSInternalException"}, "vault.kms_unreachable"),
        (400, {"__type": "com.amazonaws.kms#ThrottlingException"}, "vault.kms_unreachable"),
        (400, {"__type": "Disabled\nException"}, "vault.kms_denied"),
        (403, b"<html>", "vault.kms_denied"),
        (503, b"", "vault.kms_unreachable"),
        (302, [], "vault.kms_denied"),
    ],
)
async def test_what_passes_by_itself_is_told_apart(
    status: int,
    body: Any,
    code: str,
    liar: tuple[Double, Path],
    key_service: KeyService,
    nsm: Nsm,
    folder: Path,
    state: Path,
) -> None:
    """A service in trouble is worth another try, a refusal is not; a redirect is never followed."""
    double, path = liar
    double.status, double.edit = status, lambda answer: body
    refusal = await _refusal(client(key_service, nsm, folder, path, state))
    assert refusal.code == code and "\n" not in refusal.detail
    assert len(double.seen) == 1


# --- the envelope ---


@pytest.fixture(scope="module")
def private() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def test_an_envelope_in_chunks_opens(private: rsa.RSAPrivateKey) -> None:
    """Real envelopes are BER with indefinite lengths and content in several chunks."""
    secret = bytes(range(32))
    assert aws_recipient.open_envelope(aws_cms.envelop(secret, private.public_key()), private) == secret


def test_another_recipient_cannot_open(private: rsa.RSAPrivateKey) -> None:
    """An envelope for one boot's key is none for the next."""
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(ServiceError) as refusal:
        aws_recipient.open_envelope(aws_cms.envelop(bytes(32), other.public_key()), private)
    assert refusal.value.code == "vault.kms_answer"


def test_no_mutation_of_an_envelope_does_anything_but_refuse(private: rsa.RSAPrivateKey) -> None:
    """A changed byte gives a refusal with the one code, or (CBC has no integrity) other bytes, never another error."""
    envelope = aws_cms.envelop(bytes(range(32)), private.public_key())
    refused = 0
    for position in range(0, len(envelope), 2):
        mutated = bytearray(envelope)
        mutated[position] ^= 0x41
        try:
            aws_recipient.open_envelope(bytes(mutated), private)
        except ServiceError as error:
            assert error.code == "vault.kms_answer"
            refused += 1
    assert refused > len(envelope) // 4


def test_the_context_of_tls_verifies() -> None:
    """No setting of the client turns certificate checks off."""
    from cipherkeep_enclave.vault import aws_kms

    with new_state() as folder:
        aws_tls.create(folder)
        made = aws_kms._tls(KeyService("arn", "host", aws_tls.ca_certificate(folder)))
    assert made.verify_mode == ssl.CERT_REQUIRED
    assert made.check_hostname


async def test_the_relay_ends_with_its_context(folder: Path) -> None:
    """The way out exists only while a call is made."""
    async with egress.relay(folder, Address("unix", path=str(folder / "x.sock"))) as path:
        assert path.exists()
    assert not path.exists()
    with pytest.raises(transport.TransportError):
        await transport.connect(Address("unix", path=str(path)))
