"""The only place that signs governance statements on the host, and sends them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cipherkeep_attestation import cbor
from cipherkeep_attestation.statements import layout
from cipherkeep_attestation.statements.governance import ADMIT_PARTY, Governors, Statement, verify
from cipherkeep_attestation.statements.transaction import Message
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cipherkeep_host.chain.client import ChainClient, Sent


@dataclass(frozen=True, slots=True)
class Council:
    """Governors who decide on this machine, and the operator who sends for them."""

    chain: ChainClient
    instance: str
    genesis: bytes  # SHA-256 of the instance's genesis parameters
    governors: Sequence[Ed25519PrivateKey]

    async def decide(self, kind: str, body: dict[str, Any]) -> bytes:
        """Sign a statement with the next serial number and bring it into state; the signed statement."""
        serial = await self.chain.last_key(self.instance, layout.STATEMENTS) + 1
        signed = Statement(self.instance, self.genesis, serial, kind, body).sign(self.governors)
        await self.chain.send([Message(self.instance, "govern", {"statement": signed})])
        return signed

    def read(self, signed: bytes, serial: int) -> Statement:
        """A statement in state, verified."""
        governors = Governors(tuple(key.public_key().public_bytes_raw() for key in self.governors), len(self.governors))
        return verify(signed, governors=governors, instance=self.instance, genesis=self.genesis, serial=serial)

    async def bring_into_force(self, wanted: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Decide what is wanted and not in force yet."""
        found = await self._in_force()
        for kind, body in wanted:
            if found.get(_subject(kind, body)) != cbor.encode(body):
                await self.decide(kind, body)

    async def _in_force(self) -> dict[tuple[str, str], bytes]:
        """The newest body of each kind of statement in state; of admissions, of each party."""
        found: dict[tuple[str, str], bytes] = {}
        last = await self.chain.last_key(self.instance, layout.STATEMENTS)
        for serial in range(1, last + 1):
            value, _, _, _ = await self.chain.state(self.instance, layout.STATEMENTS, serial)
            if value is not None:
                statement = self.read(value, serial)
                found[_subject(statement.kind, statement.body)] = cbor.encode(statement.body)
        return found

    async def request(self, operation: str, body: bytes) -> Sent:
        """Send a request of this operation."""
        return await self.chain.send([Message(self.instance, operation, {"request": body})])


def _subject(kind: str, body: Mapping[str, object]) -> tuple[str, str]:
    """What a newer statement replaces: the older one of its kind, and of an admission the one of the same party."""
    return kind, str(body["name"]) if kind == ADMIT_PARTY else ""
