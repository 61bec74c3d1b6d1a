"""What is inside sealed objects and what the host hands over beside them: read strictly, or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Malformed
from cipherkeep_attestation.statements.material import Material
from cipherkeep_enclave.vault import KeyRecord
from cipherkeep_enclave.vault.aws_signature import Credentials, sign
from cipherkeep_enclave.vault.records import Root
from hypothesis import given
from hypothesis import strategies as st

from tests.enclave.harness import TERMS

RECORD = KeyRecord(
    bytes(32), "one", b"\1" * 32, b"\2" * 32, TERMS, (Material("public_key", b"\3" * 32, 7, b"\4" * 32),)
)
VALUES = [
    (RECORD, KeyRecord.decode),
    (Root(b"wrapped", b"sealed"), Root.decode),
    (Credentials("AKIA" + "A" * 16, "secret"), Credentials.decode),
    (Credentials("AKIA" + "A" * 16, "secret", "token"), Credentials.decode),
]


@pytest.mark.parametrize(("value", "decode"), VALUES)
def test_what_is_written_is_read(value: KeyRecord | Root | Credentials, decode: Callable[[bytes], object]) -> None:
    """Every form comes back as it was."""
    assert decode(value.encode()) == value


@pytest.mark.parametrize(("value", "decode"), VALUES)
def test_changed_bytes_are_read_as_something_else_or_refused(
    value: KeyRecord | Root | Credentials, decode: Callable[[bytes], object]
) -> None:
    """No mutation ends in anything but a value that encodes to exactly these bytes, or `Malformed`."""
    encoded = value.encode()
    for position in range(len(encoded)):
        for change in (1, 0x20, 0x80, 0xFF):
            mutated = encoded[:position] + bytes([encoded[position] ^ change]) + encoded[position + 1 :]
            try:
                assert decode(mutated).encode() == mutated  # type: ignore[attr-defined]
            except Malformed:
                continue
        with pytest.raises(Malformed):
            decode(encoded[:position])
    with pytest.raises(Malformed):
        decode(encoded + b"\0")


@given(st.binary(max_size=200))
def test_junk_is_malformed(data: bytes) -> None:
    """Random bytes are none of these."""
    for decode in (KeyRecord.decode, Root.decode, Credentials.decode):
        with pytest.raises(Malformed):
            decode(data)


def test_credentials_hide_themselves() -> None:
    """The host knows them, the log need not."""
    assert "hidden-thing" not in repr(Credentials("AKIA", "hidden-thing", "hidden-thing"))


@pytest.mark.parametrize("text", ["a b", "a\r\nX-Evil: 1", "ä", "\x7f", ""])
@pytest.mark.parametrize("name", ["access_key_id", "secret_access_key", "session_token"])
def test_credentials_cannot_write_headers(name: str, text: str) -> None:
    """A line break in a token would let the host write headers of its own into a signed call."""
    fields = {
        "label": "cipherkeep/aws-credentials/v1",
        "access_key_id": "A",
        "secret_access_key": "s",
        "session_token": None,
        name: text,
    }
    with pytest.raises(Malformed):
        Credentials.decode(cbor.encode(fields))


def test_a_session_token_is_sent_and_signed() -> None:
    """Temporary credentials carry their token under the signature."""
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    how = {"host": "kms.local", "region": "us-east-1", "target": "TrentService.Decrypt", "body": b"{}", "at": at}
    plain = sign(credentials=Credentials("AKIA", "secret"), **how)  # type: ignore[arg-type]
    with_token = sign(credentials=Credentials("AKIA", "secret", "token"), **how)  # type: ignore[arg-type]
    assert with_token["x-amz-security-token"] == "token" and "x-amz-security-token" not in plain
    assert re.search(r"SignedHeaders=\S*x-amz-security-token", with_token["authorization"])
    assert plain["x-amz-date"] == "20260102T030405Z"
    assert plain["authorization"] != with_token["authorization"]
