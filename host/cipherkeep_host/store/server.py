"""The only place for the store's HTTP interface.

    PUT  /blobs/{sha256}   201 stored, 200 was there, whole; Content-Length is required. A damaged blob is replaced
    GET  /blobs/{sha256}   the bytes, with Content-Length and ranges; HEAD likewise
    POST /blobs            body: up to 256 digests as deterministic CBOR; an array of their bytes, null where there is
                           no blob of at most 64 KiB
    GET  /healthz /metrics

A refusal is JSON with its code, sentence and hint.
"""

from __future__ import annotations

import asyncio

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Malformed
from prometheus_client import CollectorRegistry, Counter, Gauge
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from cipherkeep_host.errors import HostError
from cipherkeep_host.process import health_routes, refusal_handlers
from cipherkeep_host.store.blobs import Folder, Writer, digest_of

_STATUS = {
    "store.name": 400,
    "store.length": 400,
    "store.digest": 422,
    "store.unknown": 404,
    "store.length_required": 411,
    "store.too_large": 413,
    "store.busy": 503,
    "store.full": 507,
    "store.disk": 500,
}
SMALL = 64 << 10  # bytes; up to here a blob is read at once, which is faster than a stream
MANY = 256  # digests of one call
_MANY_BYTES = MANY * 34 + 16
_DIGESTS = cbor.sequence(cbor.raw(32), MANY, least=1)
_PIECE = 1 << 20  # bytes gathered before they are written
_STALL = 30.0  # seconds without a byte until a writer is dropped
_FOREVER = {"cache-control": "public, max-age=31536000, immutable"}


class Service:
    """The routes over one folder."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._syncing: dict[str, asyncio.Lock] = {}
        self.registry = CollectorRegistry()
        self._stored = Counter("store_blobs_stored", "Blobs stored", registry=self.registry)
        self._read = Counter("store_blobs_read", "Blobs handed out", registry=self.registry)
        self._refused = Counter("store_refused", "Calls refused", ["code"], registry=self.registry)
        for name, text, value in (
            ("store_bytes", "Bytes of all blobs", lambda: folder.used),
            ("store_quota_bytes", "Bytes that may be stored", lambda: folder.limits.quota),
            ("store_blobs", "Blobs stored now", lambda: folder.count),
            ("store_writers", "Blobs being written", lambda: folder.writers),
        ):
            Gauge(name, text, registry=self.registry).set_function(value)

    def app(self) -> Starlette:
        """The application to serve."""
        routes = [
            Route("/blobs/{digest}", self._get, methods=["GET", "HEAD"]),
            Route("/blobs/{digest}", self._put, methods=["PUT"]),
            Route("/blobs", self._get_many, methods=["POST"]),
            *health_routes(self.registry, self._health),
        ]
        return Starlette(routes=routes, exception_handlers={**refusal_handlers(_STATUS, self._refused)})

    async def _health(self) -> dict[str, object]:
        folder = self._folder
        return {"ready": True, "blobs": folder.count, "bytes": folder.used, "quota": folder.limits.quota}

    async def _get(self, request: Request) -> Response:
        digest = digest_of(request.path_params["digest"])
        size = self._folder.size(digest)
        if size is None:
            raise HostError("store.unknown", digest)
        if request.method == "GET":
            self._read.inc()
        headers = _FOREVER | {"etag": f'"{digest}"'}
        path = self._folder.path(digest)
        if size <= SMALL and "range" not in request.headers:
            # One page-cached read is shorter than the way to a thread and back.
            return Response(path.read_bytes(), headers=headers, media_type="application/octet-stream")
        return FileResponse(path, headers=headers, media_type="application/octet-stream")

    async def _get_many(self, request: Request) -> Response:
        asked = bytearray()
        async for piece in request.stream():
            asked += piece
            if len(asked) > _MANY_BYTES:
                raise HostError("store.too_large", f"more than {MANY} digests")
        try:
            digests = cbor.fields({"digests": cbor.decode(bytes(asked))}, digests=_DIGESTS)["digests"]
        except Malformed as error:
            raise HostError("store.name", str(error)[:200]) from None
        found: list[bytes | None] = []
        for digest in digests:
            size = self._folder.size(digest.hex())
            small = size is not None and size <= SMALL
            found.append(self._folder.path(digest.hex()).read_bytes() if small else None)
        self._read.inc(len(found) - found.count(None))
        return Response(cbor.encode(found), media_type="application/cbor")

    async def _put(self, request: Request) -> Response:
        digest = digest_of(request.path_params["digest"])
        announced = request.headers.get("content-length", "")
        if not announced.isascii() or not announced.isdigit() or len(announced) > 15:
            raise HostError("store.length_required", announced[:20])
        size = int(announced)
        if self._folder.size(digest) == size and await asyncio.to_thread(self._folder.holds, digest):
            # Whoever stores a blob twice need not send it: an answer before the body ends the connection.
            return JSONResponse({"digest": digest, "size": size}, 200, headers={"connection": "close"})
        writer = self._folder.begin(digest, size)
        try:
            await _receive(request, writer)
            lock = self._syncing.setdefault(digest, asyncio.Lock())
            async with lock:
                before = self._folder.size(digest)
                await asyncio.to_thread(writer.sync)
                writer.commit(before=before)
            if not lock.locked():
                self._syncing.pop(digest, None)
        finally:
            writer.abandon()
        self._stored.inc()
        return JSONResponse({"digest": digest, "size": size}, 201)


async def _receive(request: Request, writer: Writer) -> None:
    """Read the body into the writer, in pieces; who stalls is dropped."""
    pieces = request.stream().__aiter__()
    gathered = bytearray()
    while True:
        try:
            async with asyncio.timeout(_STALL):
                piece = await anext(pieces, None)
        except TimeoutError:
            raise HostError("store.length", f"no byte for {_STALL:g} s") from None
        except ClientDisconnect:
            raise HostError("store.length", "the connection ended") from None
        if piece is not None:
            gathered += piece
        if gathered and (piece is None or len(gathered) >= _PIECE):
            await asyncio.to_thread(writer.write, bytes(gathered))
            gathered.clear()
        if piece is None:
            return
