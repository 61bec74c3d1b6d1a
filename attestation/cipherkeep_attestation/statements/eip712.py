"""The only place for EIP-712: hashing typed data, signing it, and recovering who signed.

A struct's hash is `struct_hash(type, word, word, …)`, where each field was made a 32-byte word by `uint`, `address`,
`bytes32`, `dynamic`, `text` or `array`. Signatures are 65 bytes r ‖ s ‖ v with v 27 or 28 and s in the lower half of
the order, so that each signature has one form.

Source: EIP-712; EIP-2 for the lower half.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import coincurve
from Crypto.Hash import keccak as _keccak

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Malformed, Untrusted

SIGNATURE_LENGTH = 65
_SHORT = 2048  # bytes; a key in its envelope. Results are longer, and are hashed once
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


def keccak256(data: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it (not SHA3-256)."""
    return _keccak.new(digest_bits=256, data=data).digest()


def uint(value: int) -> bytes:
    """A uintN, at most 256 bits."""
    return value.to_bytes(32, "big")


def address(value: bytes) -> bytes:
    """An address of 20 bytes."""
    if len(value) != 20:
        raise Malformed("eip712.address", f"{len(value)} bytes")
    return value.rjust(32, b"\0")


def bytes32(value: bytes) -> bytes:
    """A bytes32."""
    if len(value) != 32:
        raise Malformed("eip712.bytes32", f"{len(value)} bytes")
    return value


def dynamic(value: bytes) -> bytes:
    """A `bytes` of any length. Short ones are remembered: a user's public key stands in three structs of one answer."""
    return _short(value) if len(value) <= _SHORT else keccak256(value)


@lru_cache(maxsize=64)
def _short(value: bytes) -> bytes:
    return keccak256(value)


def text(value: str) -> bytes:
    """A `string`."""
    return keccak256(value.encode())


def array(words: Iterable[bytes]) -> bytes:
    """An array of what was already made words (for an array of structs: of their hashes)."""
    return keccak256(b"".join(words))


def struct_hash(type_: str, *words: bytes) -> bytes:
    """hashStruct: `type_` is the encoded type, e.g. `Mail(address to,string contents)`."""
    return keccak256(_type_hash(type_) + b"".join(words))


@lru_cache(maxsize=64)
def _type_hash(type_: str) -> bytes:
    """Remembered, as separators are: half of all hashing would be over these few constants."""
    return keccak256(type_.encode())


@dataclass(frozen=True, slots=True)
class Domain:
    """An EIP-712 domain of the four usual fields."""

    name: str
    version: str
    chain_id: int
    verifying_contract: bytes

    TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"

    def separator(self) -> bytes:
        """The domain's hash (32 bytes)."""
        return _separator(self)

    def digest(self, struct: bytes) -> bytes:
        """What is signed: keccak(19 01 ‖ separator ‖ struct's hash)."""
        return keccak256(b"\x19\x01" + self.separator() + struct)

    def to_map(self) -> dict[str, object]:
        """For our own messages."""
        return {
            "chain_id": self.chain_id,
            "name": self.name,
            "verifying_contract": self.verifying_contract,
            "version": self.version,
        }

    @classmethod
    def of_map(cls, value: object) -> Domain:
        """Read what `to_map` makes."""
        found = cbor.fields(
            value,
            chain_id=cbor.uint(),
            name=cbor.text(64),
            verifying_contract=cbor.raw(20),
            version=cbor.text(16),
        )
        return cls(**found)


@lru_cache(maxsize=256)
def _separator(domain: Domain) -> bytes:
    return struct_hash(
        domain.TYPE,
        text(domain.name),
        text(domain.version),
        uint(domain.chain_id),
        address(domain.verifying_contract),
    )


def sign(digest: bytes, key: coincurve.PrivateKey) -> bytes:
    """Sign a digest of typed data (RFC 6979 nonce, lower half)."""
    signature = key.sign_recoverable(digest, hasher=None)
    return signature[:64] + bytes((27 + signature[64],))


def recover(digest: bytes, signature: bytes) -> bytes:
    """The address that signed this digest. A wrong signature gives some other address, never an exception."""
    if len(signature) != SIGNATURE_LENGTH or signature[64] not in (27, 28):
        raise Malformed("eip712.signature", f"{len(signature)} bytes")
    if int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        raise Malformed("eip712.high_s")
    compact = signature[:64] + bytes((signature[64] - 27,))
    try:
        key = coincurve.PublicKey.from_signature_and_message(compact, digest, hasher=None)
    except Exception:  # noqa: BLE001  (coincurve raises a bare Exception for points that do not exist)
        raise Untrusted("eip712.unrecoverable") from None
    return address_of(key.format(compressed=False))


@lru_cache(maxsize=256)
def address_of(public_key: bytes) -> bytes:
    """The address of an uncompressed SEC1 public key (65 bytes). Remembered: coprocessors sign every binding."""
    return keccak256(public_key[1:])[12:]


def checksum(value: bytes) -> str:
    """An address as people read it (EIP-55)."""
    plain = value.hex()
    digest = keccak256(plain.encode()).hex()
    return "0x" + "".join(
        letter.upper() if int(nibble, 16) > 7 else letter for letter, nibble in zip(plain, digest, strict=False)
    )
