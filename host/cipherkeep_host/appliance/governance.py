"""The only place that signs governance statements on the host, and sends them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cipherkeep_attestation.statements import layout
from cipherkeep_attestation.statements.governance import Governors, Statement, verify
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

    async def request(self, operation: str, body: bytes) -> Sent:
        """Send a request of this operation."""
        return await self.chain.send([Message(self.instance, operation, {"request": body})])
