"""The emulated AWS KMS, spoken to over TLS: attestation, key policy, encryption context, signatures, crashes."""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cipherkeep_attestation.eif import configuration_pcr
from cipherkeep_enclave.nsm import Nsm
from cipherkeep_host.emulated.aws_policy import attested_policy, managing_policy
from cipherkeep_host.emulated.aws_sigv4 import AccessKey
from cipherkeep_host.emulated.documents import sign_document
from cipherkeep_host.emulated.pki import Pki
from cipherkeep_host.emulated.tpm import HostAttestor
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.host.emulated.cms import open_cms
from tests.host.emulated.processes import (
    PCRS,
    KmsClient,
    b64,
    kms_process,
    new_state,
    nsm_process,
    process,
    short_folder,
)

CONFIGURATION = b"c" * 48
EXPECTED = {**PCRS, 16: configuration_pcr(CONFIGURATION)}
CONTEXT = {"instance": "vault-1", "epoch": "1"}


@pytest.fixture(scope="module")
def private() -> rsa.RSAPrivateKey:
    """The RSA key of an attested caller."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def kms(state: Path) -> Iterator[KmsClient]:
    """A running KMS."""
    with short_folder() as folder, kms_process(state, folder) as (client, _):
        yield client


@pytest.fixture
def key(kms: KmsClient) -> str:
    """The ARN of a key that opens for the expected enclave only."""
    return made_key(kms)


def made_key(kms: KmsClient, policy: str | None = None) -> str:
    """A new key's ARN."""
    arn: str = kms.ok("CreateKey", Policy=policy or attested_policy([EXPECTED]))["KeyMetadata"]["Arn"]
    return arn


def spki(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> bytes:
    """A public key as documents carry it."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def recipient(document: bytes) -> dict[str, str]:
    """The Recipient parameter."""
    return {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": b64(document)}


def made_document(
    state: Path, pcrs: dict[int, bytes], public_key: bytes | None, *, age: timedelta = timedelta(0)
) -> bytes:
    """A document with any content, signed by the emulated PKI."""
    at = datetime.now(UTC) - age
    return sign_document(
        Pki(state, module_id="i-0123456789abcdef0-enc0123456789abcdef", clock=lambda: at).credentials(),
        module_id="i-0123456789abcdef0-enc0123456789abcdef",
        kind="pcrs",
        pcrs={index: bytes(48) for index in range(16)} | pcrs,
        at=at,
        public_key=public_key,
        user_data=None,
        nonce=None,
    )


@pytest.fixture
def attested(state: Path, private: rsa.RSAPrivateKey) -> dict[str, str]:
    """The Recipient parameter of the expected enclave."""
    return recipient(made_document(state, EXPECTED, spki(private.public_key())))


def test_an_enclave_gets_a_data_key_and_opens_it_again(
    kms: KmsClient, key: str, state: Path, folder: Path, private: rsa.RSAPrivateKey
) -> None:
    """End to end with a booted NSM: generate, store the blob, decrypt after a reboot; never a Plaintext."""
    with nsm_process(state, folder) as address, Nsm(address) as nsm:
        nsm.extend_pcr(16, CONFIGURATION)
        nsm.lock_pcr(16)
        document = nsm.attest(public_key=spki(private.public_key()))
    answer = kms.ok(
        "GenerateDataKey", KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT, Recipient=recipient(document)
    )
    assert answer.keys() == {"KeyId", "CiphertextBlob", "CiphertextForRecipient"}
    assert answer["KeyId"] == key
    data_key = open_cms(base64.b64decode(answer["CiphertextForRecipient"]), private)
    assert len(data_key) == 32
    opened = kms.ok(
        "Decrypt",
        KeyId=key,
        CiphertextBlob=answer["CiphertextBlob"],
        EncryptionContext=CONTEXT,
        Recipient=recipient(document),
    )
    assert opened.keys() == {"KeyId", "EncryptionAlgorithm", "CiphertextForRecipient"}
    assert open_cms(base64.b64decode(opened["CiphertextForRecipient"]), private) == data_key


def refusal(kms: KmsClient, key: str, document: bytes) -> str:
    """The error name of GenerateDataKey with this document."""
    return kms.refused("GenerateDataKey", KeyId=key, KeySpec="AES_256", Recipient=recipient(document))


@pytest.mark.parametrize("index", [0, 1, 2, 16])
def test_an_enclave_with_another_measurement_is_denied(
    kms: KmsClient, key: str, state: Path, private: rsa.RSAPrivateKey, index: int
) -> None:
    """Each of PCR0, 1, 2 and 16 alone is enough to be somebody else."""
    document = made_document(state, {**EXPECTED, index: b"\xaa" * 48}, spki(private.public_key()))
    assert refusal(kms, key, document) == "AccessDeniedException"


def test_an_enclave_that_did_not_lock_its_configuration_is_denied(
    kms: KmsClient, key: str, state: Path, private: rsa.RSAPrivateKey
) -> None:
    """An absent PCR16 matches nothing."""
    assert refusal(kms, key, made_document(state, PCRS, spki(private.public_key()))) == "AccessDeniedException"


def test_a_caller_without_a_document_is_denied(kms: KmsClient, key: str, attested: dict[str, str]) -> None:
    """The host with its credentials gets neither a data key nor a decryption."""
    assert kms.refused("GenerateDataKey", KeyId=key, KeySpec="AES_256") == "AccessDeniedException"
    blob = kms.ok("GenerateDataKey", KeyId=key, KeySpec="AES_256", Recipient=attested)["CiphertextBlob"]
    assert kms.refused("Decrypt", CiphertextBlob=blob) == "AccessDeniedException"


def test_a_debug_enclave_is_denied(kms: KmsClient, key: str, state: Path, private: rsa.RSAPrivateKey) -> None:
    """All-zero PCRs are a valid document that no sane policy names."""
    document = made_document(state, {16: EXPECTED[16]}, spki(private.public_key()))
    assert refusal(kms, key, document) == "AccessDeniedException"


def test_a_document_older_than_five_minutes_is_refused(
    kms: KmsClient, key: str, state: Path, private: rsa.RSAPrivateKey
) -> None:
    """A captured document is worth nothing for long."""
    public = spki(private.public_key())
    kms.ok(
        "GenerateDataKey",
        KeyId=key,
        KeySpec="AES_256",
        Recipient=recipient(made_document(state, EXPECTED, public, age=timedelta(minutes=4))),
    )
    old = made_document(state, EXPECTED, public, age=timedelta(minutes=5, seconds=5))
    assert refusal(kms, key, old) == "ValidationException"


def test_a_document_under_another_root_is_refused(kms: KmsClient, key: str, private: rsa.RSAPrivateKey) -> None:
    """Another installation's enclave with the right measurements is a stranger."""
    with new_state() as other:
        document = made_document(other, EXPECTED, spki(private.public_key()))
    assert refusal(kms, key, document) == "ValidationException"


def test_a_hosts_document_is_refused(kms: KmsClient, key: str, state: Path, private: rsa.RSAPrivateKey) -> None:
    """A NitroTPM document never stands for an enclave, whatever its PCRs are."""
    document = HostAttestor(state, pcrs=EXPECTED).attest(public_key=spki(private.public_key()))
    assert refusal(kms, key, document) == "ValidationException"


def test_a_document_that_was_changed_is_refused(
    kms: KmsClient, key: str, state: Path, private: rsa.RSAPrivateKey
) -> None:
    """One bit in the signature."""
    document = bytearray(made_document(state, EXPECTED, spki(private.public_key())))
    document[-1] ^= 1
    assert refusal(kms, key, bytes(document)) == "ValidationException"


@pytest.mark.parametrize("kind", ["absent", "elliptic", "rsa-1024", "garbage"])
def test_a_document_needs_an_rsa_key(kms: KmsClient, key: str, state: Path, kind: str) -> None:
    """2048 to 4096 bits, as a SubjectPublicKeyInfo."""
    keys: dict[str, bytes | None] = {
        "absent": None,
        "elliptic": spki(ec.generate_private_key(ec.SECP256R1()).public_key()),
        "rsa-1024": spki(rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()),
        "garbage": b"garbage",
    }
    assert refusal(kms, key, made_document(state, EXPECTED, keys[kind])) == "ValidationException"


def test_another_context_does_not_open(kms: KmsClient, key: str, attested: dict[str, str]) -> None:
    """A blob is bound to every field of its encryption context, and to its key."""
    made = kms.ok("GenerateDataKey", KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT, Recipient=attested)
    blob = made["CiphertextBlob"]
    for context in ({}, {**CONTEXT, "epoch": "2"}, {"instance": "vault-1"}, {**CONTEXT, "more": ""}):
        name = kms.refused("Decrypt", CiphertextBlob=blob, EncryptionContext=context, Recipient=attested)
        assert name == "InvalidCiphertextException"
    other = made_key(kms)
    name = kms.refused("Decrypt", KeyId=other, CiphertextBlob=blob, EncryptionContext=CONTEXT, Recipient=attested)
    assert name == "IncorrectKeyException"


@pytest.mark.parametrize("position", [0, 1, 16, 20, 40, -1])
def test_a_changed_blob_does_not_open(kms: KmsClient, key: str, attested: dict[str, str], position: int) -> None:
    """Version, key id, nonce, ciphertext and tag are all covered."""
    blob = bytearray(
        base64.b64decode(kms.ok("GenerateDataKey", KeyId=key, KeySpec="AES_256", Recipient=attested)["CiphertextBlob"])
    )
    blob[position] ^= 1
    name = kms.refused("Decrypt", CiphertextBlob=b64(bytes(blob)), Recipient=attested)
    assert name in ("InvalidCiphertextException", "AccessDeniedException")


def test_without_an_attestation_policy_a_plaintext_comes_back(kms: KmsClient) -> None:
    """As in AWS the default policy opens to the account: this is what the policy of an enclave's key must prevent."""
    key = kms.ok("CreateKey")["KeyMetadata"]["KeyId"]
    made = kms.ok("GenerateDataKey", KeyId=key, NumberOfBytes=24, EncryptionContext=CONTEXT)
    assert made["KeyId"].endswith(f":key/{key}")
    opened = kms.ok("Decrypt", CiphertextBlob=made["CiphertextBlob"], EncryptionContext=CONTEXT)
    assert opened["Plaintext"] == made["Plaintext"]
    assert len(base64.b64decode(opened["Plaintext"])) == 24


def test_random_bytes_are_sealed_to_an_attested_caller(
    kms: KmsClient, attested: dict[str, str], private: rsa.RSAPrivateKey
) -> None:
    """GenerateRandom answers in many chunks, or in the clear to the account."""
    answer = kms.ok("GenerateRandom", NumberOfBytes=1000, Recipient=attested)
    assert answer.keys() == {"CiphertextForRecipient"}
    assert len(open_cms(base64.b64decode(answer["CiphertextForRecipient"]), private)) == 1000
    assert len(base64.b64decode(kms.ok("GenerateRandom", NumberOfBytes=16)["Plaintext"])) == 16


def test_the_order_of_bringing_up(kms: KmsClient, attested: dict[str, str]) -> None:
    """A key starts with a policy that denies all use; its ARN goes into the configuration; then the PCRs are known."""
    key = made_key(kms, managing_policy())
    assert kms.refused("GenerateDataKey", KeyId=key, KeySpec="AES_256", Recipient=attested) == "AccessDeniedException"
    kms.ok("PutKeyPolicy", KeyId=key, Policy=attested_policy([EXPECTED]))
    kms.ok("GenerateDataKey", KeyId=key, KeySpec="AES_256", Recipient=attested)
    assert json.loads(kms.ok("GetKeyPolicy", KeyId=key)["Policy"]) == json.loads(attested_policy([EXPECTED]))
    described = kms.ok("DescribeKey", KeyId=key)["KeyMetadata"]
    assert (described["Arn"], described["KeyState"]) == (key, "Enabled")


def test_two_releases_are_allowed_during_an_upgrade(
    kms: KmsClient, state: Path, private: rsa.RSAPrivateKey, attested: dict[str, str]
) -> None:
    """Old and new open the key; a mixture of both does not."""
    new = {**EXPECTED, 0: b"\x10" * 48, 2: b"\x12" * 48}
    key = made_key(kms, attested_policy([EXPECTED, new]))
    public = spki(private.public_key())
    kms.ok("GenerateDataKey", KeyId=key, KeySpec="AES_256", Recipient=attested)
    kms.ok("GenerateDataKey", KeyId=key, KeySpec="AES_256", Recipient=recipient(made_document(state, new, public)))
    mixed = made_document(state, {**EXPECTED, 0: new[0]}, public)
    assert refusal(kms, key, mixed) == "AccessDeniedException"


@pytest.mark.parametrize(
    ("operation", "parameters", "name"),
    [
        ("GenerateDataKey", {"KeySpec": "AES_256"}, "ValidationException"),
        ("GenerateDataKey", {"KeyId": "alias/vault", "KeySpec": "AES_256"}, "NotFoundException"),
        (
            "GenerateDataKey",
            {"KeyId": "00000000-0000-0000-0000-000000000000", "KeySpec": "AES_256"},
            "NotFoundException",
        ),
        ("DescribeKey", {"KeyId": "*"}, "NotFoundException"),
        ("Decrypt", {"CiphertextBlob": "AQ=="}, "InvalidCiphertextException"),
        ("Decrypt", {"CiphertextBlob": "not base64"}, "SerializationException"),
        ("Decrypt", {"CiphertextBlob": ""}, "ValidationException"),
        ("Decrypt", {"CiphertextBlob": b64(bytes(6145))}, "ValidationException"),
        ("GenerateRandom", {"NumberOfBytes": 0}, "ValidationException"),
        ("GenerateRandom", {"NumberOfBytes": 1025}, "ValidationException"),
        ("GenerateRandom", {"NumberOfBytes": True}, "ValidationException"),
        ("GenerateRandom", {"NumberOfBytes": 1, "Recipient": {}}, "ValidationException"),
        ("GenerateRandom", {"NumberOfBytes": 1, "Recipent": {}}, "SerializationException"),
        (
            "GenerateRandom",
            {
                "NumberOfBytes": 1,
                "Recipient": {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_1", "AttestationDocument": "AA=="},
            },
            "ValidationException",
        ),
        ("CreateKey", {"Policy": "{}"}, "MalformedPolicyDocumentException"),
        ("CreateKey", {"KeySpec": "RSA_2048"}, "ValidationException"),
        ("CreateKey", {"KeyUsage": "SIGN_VERIFY"}, "ValidationException"),
        ("Encrypt", {"Plaintext": "AA=="}, "UnknownOperationException"),
    ],
)
def test_a_wrong_call_has_awss_error_name(
    kms: KmsClient, operation: str, parameters: dict[str, Any], name: str
) -> None:
    """Status 400 and the name under `__type`; a misspelt Recipient is refused, not ignored."""
    assert kms.refused(operation, **parameters) == name


def test_a_data_key_has_one_length(kms: KmsClient) -> None:
    """KeySpec or NumberOfBytes, not both, not neither, not others."""
    key = kms.ok("CreateKey")["KeyMetadata"]["KeyId"]
    for wrong in ({}, {"KeySpec": "AES_256", "NumberOfBytes": 32}, {"KeySpec": "AES_512"}, {"NumberOfBytes": 0}):
        assert kms.refused("GenerateDataKey", KeyId=key, **wrong) == "ValidationException"


# --- who calls ---


def test_an_unsigned_call_is_refused(kms: KmsClient) -> None:
    """No Authorization header, no answer."""
    status, body = kms.post("GenerateRandom", b'{"NumberOfBytes":1}', signed={"authorization": ""})
    assert (status, json.loads(body)["__type"]) == (400, "MissingAuthenticationTokenException")


@pytest.mark.parametrize(
    ("replaced", "name"),
    [
        ({"authorization": "Basic dGVzdA=="}, "IncompleteSignatureException"),
        ({"x-amz-target": "TrentService.CreateKey"}, "InvalidSignatureException"),
        ({"host": "kms.us-east-1.example"}, "InvalidSignatureException"),
    ],
)
def test_a_signature_covers_target_and_host(kms: KmsClient, replaced: dict[str, str], name: str) -> None:
    """A call turned into another one after signing is refused."""
    status, body = kms.post("GenerateRandom", b'{"NumberOfBytes":1}', signed=replaced)
    assert (status, json.loads(body)["__type"]) == (400, name)


def test_a_signature_covers_the_body(kms: KmsClient) -> None:
    """Headers signed over one body do not carry another."""
    headers = kms.sign("GenerateRandom", b'{"NumberOfBytes":1}')
    status, body = kms.post("GenerateRandom", b'{"NumberOfBytes":2}', signed=headers)
    assert (status, json.loads(body)["__type"]) == (400, "InvalidSignatureException")


def test_an_old_signature_is_refused(kms: KmsClient) -> None:
    """Five minutes, as in AWS."""
    body = b'{"NumberOfBytes":1}'
    for age, expected in ((timedelta(minutes=4), 200), (timedelta(minutes=6), 400), (timedelta(minutes=-6), 400)):
        headers = kms.sign("GenerateRandom", body, datetime.now(UTC) - age)
        assert kms.post("GenerateRandom", body, signed=headers)[0] == expected


@pytest.mark.parametrize("part", ["key id", "secret"])
def test_another_access_key_is_refused(kms: KmsClient, state: Path, part: str) -> None:
    """Neither an unknown key id nor a wrong secret."""
    right = KmsClient(state, kms.socket_path)
    real = AccessKey.generate() if part == "key id" else None
    from_state = json.loads((state / "kms" / "credentials.json").read_bytes())
    right.access_key = real or AccessKey(from_state["AccessKeyId"], "wrong")
    expected = "UnrecognizedClientException" if part == "key id" else "InvalidSignatureException"
    assert right.refused("GenerateRandom", NumberOfBytes=1) == expected


def test_an_oversized_body_is_refused(kms: KmsClient) -> None:
    """A megabyte is more than any call needs."""
    status, body = kms.post("GenerateRandom", b"{" + b" " * (1 << 20))
    assert (status, json.loads(body)["__type"]) == (400, "SerializationException")


def test_health_and_metrics_need_no_signature(kms: KmsClient) -> None:
    """They tell nothing about keys."""
    kms.refused("GenerateRandom", NumberOfBytes=0)
    for path, expected in (("/healthz", b'"ready"'), ("/metrics", b'outcome="ValidationException"')):
        with kms.connect() as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.status == 200
            assert expected in response.read()


# --- what lasts ---


def test_keys_survive_kill_9(folder: Path, private: rsa.RSAPrivateKey) -> None:
    """A key and a policy that were answered for are there after the process was killed at once."""
    with new_state() as state:
        with kms_process(state, folder) as (client, running):
            key = made_key(client, managing_policy())
            client.ok("PutKeyPolicy", KeyId=key, Policy=attested_policy([EXPECTED]))
            fresh = recipient(made_document(state, EXPECTED, spki(private.public_key())))
            made = client.ok("GenerateDataKey", KeyId=key, KeySpec="AES_256", Recipient=fresh)
            running.send_signal(signal.SIGKILL)
            running.wait(timeout=10)
        with kms_process(state, folder) as (client, _):
            opened = client.ok("Decrypt", CiphertextBlob=made["CiphertextBlob"], Recipient=fresh)
            first, second = (base64.b64decode(answer["CiphertextForRecipient"]) for answer in (made, opened))
            assert open_cms(first, private) == open_cms(second, private)
        secrets = [state / "kms" / "ca.key", state / "kms" / "credentials.json", *(state / "kms" / "keys").iterdir()]
        assert len(secrets) == 3
        assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}


def test_a_key_that_cannot_be_written_is_not_answered_for(folder: Path) -> None:
    """A full disk is an internal error, and the key does not exist afterwards."""
    with new_state() as state, kms_process(state, folder) as (client, _):
        key = made_key(client)
        (state / "kms" / "keys").rename(state / "kms" / "elsewhere")
        for call, parameters in (("CreateKey", {}), ("PutKeyPolicy", {"KeyId": key, "Policy": managing_policy()})):
            status, answer = client.call(call, **parameters)
            assert (status, answer["__type"]) == (500, "KMSInternalException")
        assert client.ok("GetKeyPolicy", KeyId=key)["Policy"] == attested_policy([EXPECTED])


def test_a_damaged_key_stops_the_start(folder: Path) -> None:
    """Half a key file is named, not skipped: a missing key would look like a stranger's."""
    with new_state() as state:
        with kms_process(state, folder) as (client, _):
            key = made_key(client)
        path = state / "kms" / "keys" / f"{key.rpartition('/')[2]}.json"
        path.write_bytes(path.read_bytes()[:50])
        with pytest.raises(AssertionError, match=r"emulator\.state_damaged"), kms_process(state, folder):
            pass


def test_it_listens_on_loopback_and_unix_sockets_only(state: Path, folder: Path) -> None:
    """Port 0 is announced as the port it became; other addresses are refused."""
    with process("aws_kms", "--state", str(state), "--listen", "tcp://127.0.0.1:0", f"--listen=unix://{folder}/k") as (
        _,
        listening,
    ):
        assert listening[1] == f"unix://{folder}/k"
        assert int(listening[0].removeprefix("tcp://127.0.0.1:")) > 0
        assert stat.S_IMODE((folder / "k").stat().st_mode) == 0o600
    with (
        pytest.raises(AssertionError, match=r"process\.listen"),
        process("aws_kms", "--state", str(state), "--listen", "tcp://0.0.0.0:0"),
    ):
        pass


def test_sigterm_ends_it_cleanly(state: Path, folder: Path) -> None:
    """Exit status 0 and no socket left, even with an idle connection open."""
    with kms_process(state, folder) as (client, running), client.connect() as connection:
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        os.kill(running.pid, signal.SIGTERM)
        assert running.wait(timeout=10) == 0
    assert not client.socket_path.exists()


def test_the_log_says_why_a_call_was_denied(state: Path, folder: Path, private: rsa.RSAPrivateKey) -> None:
    """AWS answers AccessDenied and no more; whoever runs the emulator learns which PCR differs."""
    with process("aws_kms", "--state", str(state), f"--listen=unix://{folder}/k") as (running, _):
        client = KmsClient(state, folder / "k")
        key = made_key(client)
        wrong = made_document(state, {**EXPECTED, 16: b"\xaa" * 48}, spki(private.public_key()))
        assert refusal(client, key, wrong) == "AccessDeniedException"
        running.terminate()
        log = running.communicate(timeout=10)[1].decode()
    (line,) = [json.loads(text) for text in log.splitlines()]
    assert line["code"] == "AccessDeniedException"
    assert line["operation"] == "GenerateDataKey"
    assert "PCR16" in line["reason"]
