"""A host beside the connector, with an attested channel of its own: it may show the enclave anything."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from cipherkeep_attestation.statements import answer as answers
from cipherkeep_attestation.statements import layout
from cipherkeep_attestation.statements.answer import Core
from cipherkeep_host.cli.session import Session
from cipherkeep_host.client import contract
from cipherkeep_host.connector import config
from cipherkeep_host.connector.__main__ import Opener
from cipherkeep_host.connector.enclave import Enclave
from cipherkeep_host.connector.feed import Feed
from cipherkeep_wire import kms_pb2

from tests.e2e.appliance.running import Running


@dataclass
class Host:
    """The enclave as its host reaches it."""

    session: Session
    enclave: Enclave
    feed: Feed

    async def show(self, height: int) -> layout.Inbox:
        """Show the enclave the inbox of a block, with its proof."""
        async with self.feed.lock:
            proven, header = await self.feed.show(layout.INBOX, height)
            assert proven.value is not None
            await self.enclave.inbox(
                height=height, header_height=header, inbox=proven.value, proof=proven.proof.encode()
            )
        return layout.Inbox.decode(proven.value)

    async def process(self, height: int, counter: int, body: bytes, *ciphertexts: bytes) -> kms_pb2.Outcome:
        """Have one request of a shown block answered."""
        request = kms_pb2.RequestBody(counter=counter, body=body, ciphertexts=ciphertexts)
        reply = await self.enclave.process(height, [request])
        assert len(reply.outcomes) == 1
        return reply.outcomes[0]

    async def core(self, height: int, counter: int, *ciphertexts: bytes) -> Core:
        """The core that the enclave gives a request of the chain now."""
        await self.show(height)
        body = await contract.body_of(self.session.node, self.session.trust.instance, counter)
        outcome = await self.process(height, counter, body, *ciphertexts)
        assert outcome.answer, f"{outcome.code}: {outcome.detail}"
        return answers.unverified(outcome.answer).core


@contextlib.asynccontextmanager
async def host(appliance: Running, session: Session) -> AsyncIterator[Host]:
    """A host with a session, whose enclave has a current view of the chain."""
    async with Opener(config.load(appliance.state / "connector.json")).open() as channel:
        enclave = Enclave(channel)
        feed = Feed(session.node, enclave, instance=session.trust.instance, root=session.trust.root)
        await feed.begin()
        await feed.advance()
        yield Host(session, enclave, feed)
