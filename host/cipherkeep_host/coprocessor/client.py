"""The only place that talks to a coprocessor. What leaves here has its form; whether it holds is judged elsewhere."""

from __future__ import annotations

from typing import Any

import httpx
from cipherkeep_attestation.statements.binding import Ciphertext
from cipherkeep_wire.transport import Address

from cipherkeep_host.coprocessor import bindings
from cipherkeep_host.coprocessor.requests import Compute, Inputs
from cipherkeep_host.errors import HostError
from cipherkeep_host.store.client import http_client, refusal

_TIMEOUT = httpx.Timeout(180.0, connect=5.0)  # proofs take seconds, and others may wait in front


class CoprocessorClient:
    """A coprocessor at one address. Every call raises `HostError("coprocessor.…")`."""

    def __init__(self, address: Address) -> None:
        self._http = http_client(address, timeout=_TIMEOUT)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def inputs(self, asked: Inputs) -> list[Ciphertext]:
        """Hand over a proven list; the bindings of its values."""
        rows = (await self._call("POST", "/inputs", content=asked.encode())).get("bindings")
        if not isinstance(rows, list):
            raise HostError("coprocessor.answer", "bindings are an array")
        return [bindings.of_json(row) for row in rows]

    async def compute(self, asked: Compute) -> Ciphertext:
        """Have something computed; the result's binding."""
        return bindings.of_json(await self._call("POST", "/compute", content=asked.encode()))

    async def ciphertext(self, handle: bytes) -> Ciphertext:
        """The binding of a handle."""
        bound = bindings.of_json(await self._call("GET", f"/ciphertexts/{handle.hex()}"))
        if bound.handle != handle:
            raise HostError("coprocessor.answer", "another handle's binding")
        return bound

    async def key_id(self) -> bytes:
        """The id of the key that it serves (32 bytes)."""
        return await self._named("/public-key", "key_id")

    async def reference_string(self) -> bytes:
        """The digest of its common reference string in the store (32 bytes)."""
        return await self._named("/crs", "digest")

    async def _named(self, path: str, name: str) -> bytes:
        """32 bytes under a name of the answer."""
        try:
            found = bytes.fromhex(str((await self._call("GET", path)).get(name)))
        except ValueError:
            found = b""
        if len(found) != 32:
            raise HostError("coprocessor.answer", f"{path}: {name} has 64 hexadecimal digits")
        return found

    async def _call(self, method: str, path: str, *, content: bytes = b"") -> dict[str, Any]:
        try:
            answer = await self._http.request(method, path, content=content)
        except httpx.HTTPError as problem:
            raise HostError("coprocessor.unreachable", str(problem)[:200] or type(problem).__name__) from None
        if answer.status_code != 200:
            raise refusal(answer, "coprocessor.answer")
        try:
            value = answer.json()
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise HostError("coprocessor.answer", "not an object")
        return value
