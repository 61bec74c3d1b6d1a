"""The only place that hands an enclave its configuration and the credentials for its key service: the parent's port.

Two frames for whoever connects: the configuration, which the enclave measures into PCR16, and the credentials, which
prove nothing about anybody. Neither is secret from the host.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from types import TracebackType
from typing import Self

from cipherkeep_attestation import cbor
from cipherkeep_attestation.statements.configuration import MAX_CONFIGURATION, Configuration
from cipherkeep_wire import transport

from cipherkeep_host.emulated import aws_tls

_LABEL = "cipherkeep/aws-credentials/v1"
_TIMEOUT = 5.0  # seconds


class Parent:
    """Listens while its context lasts."""

    def __init__(self, address: str, configuration: Configuration, emulated: Path) -> None:
        self._address = transport.Address.parse(address)
        self._configuration = configuration.encode()
        self._emulated = emulated
        self._listener: transport.Listener | None = None

    async def __aenter__(self) -> Self:
        self._listener = await transport.listen(self._address, self._hand_over)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listener is not None:
            await self._listener.close()

    async def _hand_over(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(transport.TransportError, OSError):
            for frame in (self._configuration, self._credentials()):
                await transport.write_frame(writer, frame, maximum=MAX_CONFIGURATION, timeout=_TIMEOUT)
            await transport.finish(writer)

    def _credentials(self) -> bytes:
        key = aws_tls.access_key(self._emulated)
        return cbor.encode(
            {
                "access_key_id": key.key_id,
                "label": _LABEL,
                "secret_access_key": key.secret,
                "session_token": None,
            }
        )
