"""The only place for what may be asked: the bodies of the operations, and the ids under which they are known."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Malformed
from cipherkeep_attestation.statements.binding import Ciphertext, Grant, ciphertexts_of
from cipherkeep_attestation.statements.governance import MAX_STATEMENT

ID_LABEL = b"cipherkeep/request/v1"
MAX_REQUEST = 1 << 17  # bytes of a request's body
MAX_BATCH = 128  # ciphertexts of one request
MAX_CONTRACTS = 10
MAX_GRANTS = MAX_BATCH
MAX_ENC_KEY = 2048  # bytes; ML-KEM-512 in its envelope takes 869
KEYGEN, PUBLIC_DECRYPT, USER_DECRYPT = "keygen", "public_decrypt", "user_decrypt"


def request_digest(data: bytes) -> bytes:
    """SHA-256 of a request's bytes."""
    return hashlib.sha256(data).digest()


def request_id(*, first_header: bytes, instance: str, counter: int, digest: bytes) -> bytes:
    """The id binds content: SHA-256(label ‖ dCBOR[hash of header 1, instance, counter, digest of the request])."""
    return hashlib.sha256(ID_LABEL + cbor.encode([first_header, instance, counter, digest])).digest()


@dataclass(frozen=True, slots=True)
class Keygen:
    """Generate the key that a governance statement describes. The key's id is this request's id."""

    operation: ClassVar[str] = KEYGEN
    statement: bytes  # signed; its serial number is judged against the statements in state

    def encode(self) -> bytes:
        """Deterministic CBOR."""
        return cbor.encode({"operation": KEYGEN, "statement": self.statement})

    def origin(self) -> bytes | None:
        """One key for each statement."""
        return _origin(KEYGEN, hashlib.sha256(self.statement).digest())


@dataclass(frozen=True, slots=True)
class Origin:
    """Where on another chain a request comes from: unique for each instance."""

    chain_id: int
    contract: bytes
    request: int


@dataclass(frozen=True, slots=True)
class PublicDecrypt:
    """Open ciphertexts for everyone: all of them or none."""

    operation: ClassVar[str] = PUBLIC_DECRYPT
    key_id: bytes
    ciphertexts: tuple[Ciphertext, ...]
    extra_data: bytes = b""
    source: Origin | None = None

    def encode(self) -> bytes:
        """Deterministic CBOR."""
        source = self.source
        return cbor.encode(
            {
                "ciphertexts": [item.to_map() for item in self.ciphertexts],
                "extra_data": self.extra_data,
                "key_id": self.key_id,
                "operation": PUBLIC_DECRYPT,
                "source": None
                if source is None
                else {"chain_id": source.chain_id, "contract": source.contract, "request": source.request},
            }
        )

    def origin(self) -> bytes | None:
        """The request on the other chain, when there is one, together with what it is said to ask for.

        As long as no proof ties the two, a name alone could be taken by whoever asks first for something else.
        """
        source = self.source
        if source is None:
            return None
        handles = [item.handle for item in self.ciphertexts]
        named = [source.chain_id, source.contract, source.request]
        return _origin(PUBLIC_DECRYPT, cbor.encode([self.key_id, handles, self.extra_data, named]))


@dataclass(frozen=True, slots=True)
class UserDecrypt:
    """Re-encrypt ciphertexts to a user's own key, as she signed for."""

    operation: ClassVar[str] = USER_DECRYPT
    key_id: bytes
    ciphertexts: tuple[Ciphertext, ...]
    user: bytes
    public_key: bytes  # in the client library's envelope
    contracts: tuple[bytes, ...]
    start: int  # seconds since 1970
    days: int
    extra_data: bytes  # what the user signed over
    signature: bytes
    grants: tuple[Grant, ...] = ()

    def encode(self) -> bytes:
        """Deterministic CBOR."""
        return cbor.encode(
            {
                "ciphertexts": [item.to_map() for item in self.ciphertexts],
                "contracts": list(self.contracts),
                "days": self.days,
                "extra_data": self.extra_data,
                "grants": [grant.to_map() for grant in self.grants],
                "key_id": self.key_id,
                "operation": USER_DECRYPT,
                "public_key": self.public_key,
                "signature": self.signature,
                "start": self.start,
                "user": self.user,
            }
        )

    def origin(self) -> bytes | None:
        """The user's signed request together with the handles."""
        handles = [item.handle for item in self.ciphertexts]
        signed = [self.user, self.public_key, list(self.contracts), self.start, self.days, self.extra_data]
        return _origin(USER_DECRYPT, cbor.encode([self.key_id, handles, signed]))


Request = Keygen | PublicDecrypt | UserDecrypt


def _origin(operation: str, content: bytes) -> bytes:
    return hashlib.sha256(cbor.encode(["cipherkeep/origin/v1", operation, content])).digest()


def decode(data: bytes) -> Request:
    """Read a request's bytes. `Malformed` for anything that is not exactly one of the operations."""
    if len(data) > MAX_REQUEST:
        raise Malformed("request.size", f"{len(data)} bytes, at most {MAX_REQUEST}")
    value = cbor.decode(data)
    operation = value.get("operation") if isinstance(value, dict) else None
    if operation == KEYGEN:
        found = cbor.fields(value, operation=cbor.exactly(KEYGEN), statement=cbor.raw(1, MAX_STATEMENT))
        return Keygen(found["statement"])
    if operation == PUBLIC_DECRYPT:
        return _public_decrypt(value)
    if operation == USER_DECRYPT:
        return _user_decrypt(value)
    raise Malformed("request.operation")


def _public_decrypt(value: Any) -> PublicDecrypt:
    found = cbor.fields(
        value,
        ciphertexts=cbor.anything,
        extra_data=cbor.raw(0, 1024),
        key_id=cbor.raw(32),
        operation=cbor.exactly(PUBLIC_DECRYPT),
        source=cbor.anything,
    )
    source = found["source"]
    if source is not None:
        source = Origin(**cbor.fields(source, chain_id=cbor.uint(), contract=cbor.raw(20), request=cbor.uint()))
    return PublicDecrypt(found["key_id"], ciphertexts_of(found["ciphertexts"], MAX_BATCH), found["extra_data"], source)


def _user_decrypt(value: Any) -> UserDecrypt:
    found = cbor.fields(
        value,
        ciphertexts=cbor.anything,
        contracts=cbor.sequence(cbor.raw(20), MAX_CONTRACTS, least=1),
        days=cbor.uint(365, least=1),
        extra_data=cbor.raw(0, 1024),
        grants=cbor.sequence(cbor.anything, MAX_GRANTS),
        key_id=cbor.raw(32),
        operation=cbor.exactly(USER_DECRYPT),
        public_key=cbor.raw(1, MAX_ENC_KEY),
        signature=cbor.raw(65),
        start=cbor.uint(1 << 62),
        user=cbor.raw(20),
    )
    del found["operation"]
    found["ciphertexts"] = ciphertexts_of(found["ciphertexts"], MAX_BATCH)
    found["grants"] = tuple(map(Grant.of_map, found["grants"]))
    return UserDecrypt(**found)
