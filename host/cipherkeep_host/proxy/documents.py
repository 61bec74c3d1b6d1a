"""The only place that hands out attestation documents: `POST /attestation` runs step 1 of the handshake for anyone.

    POST /attestation  {"nonce": "<64 hexadecimal digits>"}
    200                {"message": hex, "document": hex, "certificate": hex}

`message` is the enclave's whole answer, which `cipherkeep_attestation.handshake.judge_responder` judges over the nonce;
`document` and `certificate` are its parts. Nothing is judged here: the proxy is not who vouches for an enclave.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Final

import structlog
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.handshake_messages import CERTIFICATE_FIELD, DOCUMENT_FIELD, read_message
from cipherkeep_wire.channel import request_document
from cipherkeep_wire.errors import ServiceError
from cipherkeep_wire.rate import TokenBucket
from cipherkeep_wire.transport import Address
from prometheus_client import CollectorRegistry, Counter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cipherkeep_host.configuration_files import exact_object
from cipherkeep_host.errors import HostError
from cipherkeep_host.process import problem

_NONCE: Final = re.compile(r"[0-9a-f]{64}")
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is asked of the enclave for strangers; below what it grants, so that sessions find room."""

    body: int = 4096  # bytes of a request; one has 77
    body_time: float = 5.0  # seconds until a request's body is there
    per_second: float = 10.0  # requests sustained
    burst: int = 20  # requests at once after a quiet time
    at_once: int = 8  # requests waiting for the enclave


class Documents:
    """Asks the enclave at `address` for documents, within limits."""

    def __init__(self, address: Address, registry: CollectorRegistry, limits: Limits) -> None:
        self._address = address
        self._limits = limits
        self._bucket = TokenBucket(per_second=limits.per_second, burst=limits.burst)
        self._running = 0
        self._asked = Counter("cipherkeep_proxy_documents", "Documents asked for", ["outcome"], registry=registry)

    def route(self) -> Route:
        """The route to serve."""
        return Route("/attestation", self.attestation, methods=["POST"])

    async def attestation(self, request: Request) -> Response:
        """Answer one request: 200, 400, 413, 429, or 502 when the enclave does not answer as it should."""
        try:
            nonce = await self._nonce(request)
            self._admit()
            self._running += 1
            try:
                found = _parts(await request_document(self._address, nonce))
            finally:
                self._running -= 1
        except HostError as refusal:
            return self._refused(refusal.code, problem(refusal, _STATUS[refusal.code]))
        except ServiceError as failure:
            body = {"code": failure.code, "sentence": failure.sentence, "hint": failure.hint, "detail": failure.detail}
            return self._refused(failure.code, JSONResponse(body, 503 if failure.retryable else 502))
        self._asked.labels("answered").inc()
        return JSONResponse(found)

    def _refused(self, code: str, response: Response) -> Response:
        self._asked.labels(code).inc()
        _log.info("document refused", code=code)
        return response

    def _admit(self) -> None:
        if self._running >= self._limits.at_once or not self._bucket.take(asyncio.get_running_loop().time()):
            raise HostError("proxy.rate")

    async def _nonce(self, request: Request) -> bytes:
        body = b""
        try:
            async with asyncio.timeout(self._limits.body_time):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > self._limits.body:
                        raise HostError("proxy.request_size", f"at most {self._limits.body} bytes")
            text = exact_object(body, "nonce")["nonce"]
        except TimeoutError:
            raise HostError("proxy.request", "the body did not arrive in time") from None
        except ValueError as wrong:
            raise HostError("proxy.request", str(wrong)[:200]) from None
        if not isinstance(text, str) or not _NONCE.fullmatch(text):
            raise HostError("proxy.request", "a nonce has 64 hexadecimal digits, in lower case")
        return bytes.fromhex(text)


_STATUS: Final = {"proxy.request": 400, "proxy.request_size": 413, "proxy.rate": 429, "proxy.answer": 502}


def _parts(message: bytes) -> dict[str, str]:
    """The answer and its parts in hexadecimal, read and not judged."""
    try:
        content = read_message(message, 2, document=DOCUMENT_FIELD, certificate=CERTIFICATE_FIELD)
    except EvidenceError as wrong:
        raise HostError("proxy.answer", wrong.code) from None
    parts = {"message": message, "document": content["document"], "certificate": content["certificate"]}
    return {name: part.hex() for name, part in parts.items()}
