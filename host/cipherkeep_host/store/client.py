"""The only place that talks to the store: blobs by digest, compared with it on arrival.

The store is not trusted: what it hands out under a digest has that digest when it leaves here.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_wire.transport import Address

from cipherkeep_host import durable
from cipherkeep_host.errors import HOST_RULES, HostError

_PIECE = 1 << 20  # bytes read from a file at once
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_MANY = 64  # blobs of one call: at most 4 MiB
_MANY_LIMITS = cbor.Limits(size=8 << 20, depth=1, items=_MANY + 1)
MAX_TEXT = 1 << 16  # bytes of an error's JSON that are read


def http_client(address: Address, *, timeout: httpx.Timeout = _TIMEOUT, connections: int = 32) -> httpx.AsyncClient:
    """An HTTP client for one server at unix:// or tcp:// (ValueError for other forms). Proxies of the environment
    are not used."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    if address.scheme == "unix":
        transport = httpx.AsyncHTTPTransport(uds=address.path, limits=limits)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=timeout, trust_env=False)
    if address.scheme == "tcp":
        base = f"http://127.0.0.1:{address.port}"
        return httpx.AsyncClient(base_url=base, timeout=timeout, limits=limits, trust_env=False)
    raise ValueError(f"{address} is no address of an HTTP server")


class StoreClient:
    """A store at one address. Every call raises `HostError("store.…")`."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._http = http_client(address)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()

    async def put_bytes(self, data: bytes) -> bytes:
        """Store; returns the digest (32 bytes) once the store has it on disk."""
        digest = hashlib.sha256(data).digest()
        await self._put(digest, data, len(data))
        return digest

    async def put_file(self, path: Path) -> bytes:
        """Store a file's content as a stream; returns its digest (32 bytes)."""
        digest, size = await asyncio.to_thread(_measure, path)
        await self._put(digest, _pieces(path), size)
        return digest

    async def has(self, digest: bytes) -> bool:
        """Whether the store holds this blob."""
        try:
            answer = await self._http.head(f"/blobs/{digest.hex()}")
        except httpx.HTTPError as problem:
            raise _unreachable(problem) from None
        if answer.status_code not in (200, 404):
            raise HostError("store.answer", f"status {answer.status_code}")
        return answer.status_code == 200

    async def get_bytes(self, digest: bytes, *, limit: int) -> bytes:
        """A blob of at most `limit` bytes. `store.unknown`, `store.too_large`, `store.digest` (the store lied)."""
        pieces = []
        size = 0
        hashed = hashlib.sha256()
        async for piece in self._get(digest, limit):
            size += len(piece)
            if size > limit:
                raise HostError("store.too_large", f"more than {limit} bytes")
            hashed.update(piece)
            pieces.append(piece)
        if hashed.digest() != digest:
            raise HostError("store.digest", f"asked for {digest.hex()}")
        return b"".join(pieces)

    async def get_many(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        """The blobs of up to 64 KiB among these, at most 64 in one call to the store.

        Whatever the store lacks, is larger, or does not have its digest is left out, so that one bad blob costs the
        others nothing: `get_bytes` says what is wrong with it.
        """
        found: dict[bytes, bytes] = {}
        for start in range(0, len(digests), _MANY):
            part = digests[start : start + _MANY]
            try:
                answer = await self._http.post("/blobs", content=cbor.encode(list(part)))
            except httpx.HTTPError as problem:
                raise _unreachable(problem) from None
            if answer.status_code != 200:
                raise refusal(answer, "store.answer")
            try:
                rows = cbor.decode(answer.content, limits=_MANY_LIMITS)
            except EvidenceError as error:
                raise HostError("store.answer", str(error)[:200]) from None
            if not isinstance(rows, list) or len(rows) != len(part):
                raise HostError("store.answer", "one blob for each digest")
            for digest, data in zip(part, rows, strict=True):
                if isinstance(data, bytes) and hashlib.sha256(data).digest() == digest:
                    found[digest] = data
        return found

    async def get_to_file(self, digest: bytes, path: Path, *, limit: int) -> None:
        """Fetch a blob into a file, which appears whole and compared or not at all."""
        temporary = durable.temporary_beside(path)
        try:
            size = 0
            hashed = hashlib.sha256()
            with temporary.open("xb") as file:
                async for piece in self._get(digest, limit):
                    size += len(piece)
                    if size > limit:
                        raise HostError("store.too_large", f"more than {limit} bytes")
                    hashed.update(piece)
                    await asyncio.to_thread(file.write, piece)
                await asyncio.to_thread(durable.sync_file, file)
            if hashed.digest() != digest:
                raise HostError("store.digest", f"asked for {digest.hex()}")
            temporary.replace(path)
            durable.sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)

    async def _put(self, digest: bytes, content: bytes | AsyncIterator[bytes], size: int) -> None:
        url = f"/blobs/{digest.hex()}"
        headers = {"content-length": str(size), "content-type": "application/octet-stream"}
        try:
            if size > _PIECE and await self._holds(digest, size):
                return
            answer = await self._http.put(url, content=content, headers=headers)
        except httpx.HTTPError as problem:
            raise _unreachable(problem) from None
        if answer.status_code not in (200, 201):
            raise refusal(answer, "store.answer")

    async def _holds(self, digest: bytes, size: int) -> bool:
        """Whether the store hands out this blob, whole: reading it costs both sides less than writing it again."""
        hashed = hashlib.sha256()
        try:
            async for piece in self._get(digest, size):
                hashed.update(piece)
        except HostError as error:
            if error.code not in ("store.unknown", "store.too_large"):
                raise
        return hashed.digest() == digest

    async def _get(self, digest: bytes, limit: int) -> AsyncIterator[bytes]:
        try:
            async with self._http.stream("GET", f"/blobs/{digest.hex()}") as answer:
                if answer.status_code == 404:
                    raise HostError("store.unknown", digest.hex())
                if answer.status_code != 200:
                    raise HostError("store.answer", f"status {answer.status_code}")
                announced = answer.headers.get("content-length", "")
                if announced.isdigit() and int(announced) > limit:
                    raise HostError("store.too_large", f"{announced} bytes, at most {limit}")
                async for piece in answer.aiter_raw(_PIECE):
                    yield piece
        except httpx.HTTPError as problem:
            raise _unreachable(problem) from None


def refusal(answer: httpx.Response, otherwise: str) -> HostError:
    """The `HostError` that a server of ours answered with, or `otherwise` for anything else."""
    try:
        body = answer.json() if len(answer.content) <= MAX_TEXT else None
    except ValueError:
        body = None
    code = body.get("code") if isinstance(body, dict) else None
    if isinstance(body, dict) and isinstance(code, str) and code in HOST_RULES:
        return HostError(code, str(body.get("detail", ""))[:500])
    return HostError(otherwise, f"status {answer.status_code}")


def _unreachable(problem: httpx.HTTPError) -> HostError:
    return HostError("store.unreachable", str(problem)[:200] or type(problem).__name__)


def _measure(path: Path) -> tuple[bytes, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest(), path.stat().st_size


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece
