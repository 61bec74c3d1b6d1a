"""The only place for the coprocessor's HTTP interface.

    POST /inputs                body: requests.Inputs      {"handles": [hex], "bindings": [binding]}
    POST /compute               body: requests.Compute     binding
    GET  /ciphertexts/{handle}                             binding
    GET  /public-key                                       {"key_id", "public_key": piece, "server_key": piece}
    GET  /crs                                              {"bits", "digest", "size"}
    GET  /healthz /metrics

A piece is {"digest", "size"} of a blob in the store; a binding is as in `bindings`. While the key is being loaded,
calls are answered `coprocessor.starting`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cipherkeep_host.coprocessor import bindings
from cipherkeep_host.coprocessor.requests import MAX_BODY, Compute, Inputs
from cipherkeep_host.coprocessor.service import Coprocessor
from cipherkeep_host.errors import HostError
from cipherkeep_host.process import health_routes, refusal_handlers

_STATUS = {
    "coprocessor.request": 400,
    "coprocessor.list": 400,
    "coprocessor.operation": 400,
    "coprocessor.owner": 403,
    "coprocessor.proof": 403,
    "coprocessor.handle": 404,
    "coprocessor.too_large": 413,
    "coprocessor.poison": 422,
    "coprocessor.busy": 503,
    "coprocessor.starting": 503,
    "coprocessor.worker": 503,
}
_STALL = 30.0  # seconds for a body to arrive


@dataclass(frozen=True, slots=True)
class Published:
    """A blob in the store."""

    digest: bytes
    size: int

    def to_json(self) -> dict[str, object]:
        """As JSON."""
        return {"digest": self.digest.hex(), "size": self.size}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A coprocessor that serves, and what its clients need."""

    coprocessor: Coprocessor
    public_key: Published
    server_key: Published
    crs: Published
    crs_bits: int


@dataclass
class Service:
    """The routes. `loaded` is set once the key is there; `waits_for` says what is missing until then."""

    waits_for: str = "start"
    loaded: Loaded | None = None
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    _seconds: Histogram = field(init=False)
    _refused: Counter = field(init=False)

    def __post_init__(self) -> None:
        self._seconds = Histogram(
            "coprocessor_seconds",
            "Time of a call that is not refused",
            ["call"],
            buckets=(0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60),
            registry=self.registry,
        )
        self._refused = Counter("coprocessor_refused", "Calls refused", ["code"], registry=self.registry)

    def app(self) -> Starlette:
        """The application to serve."""
        routes = [
            Route("/inputs", self._inputs, methods=["POST"]),
            Route("/compute", self._compute, methods=["POST"]),
            Route("/ciphertexts/{handle}", self._ciphertext, methods=["GET"]),
            Route("/public-key", self._public_key, methods=["GET"]),
            Route("/crs", self._crs, methods=["GET"]),
            *health_routes(self.registry, self._health),
        ]
        return Starlette(routes=routes, exception_handlers={**refusal_handlers(_STATUS, self._refused)})

    async def _health(self) -> dict[str, object]:
        ready = self.loaded is not None
        return {"ready": ready, "waits_for": "" if ready else self.waits_for}

    def _need(self) -> Loaded:
        if self.loaded is None:
            raise HostError("coprocessor.starting", self.waits_for)
        return self.loaded

    async def _inputs(self, request: Request) -> Response:
        coprocessor = self._need().coprocessor
        asked = Inputs.decode(await _body(request))
        with self._seconds.labels("inputs").time():
            bound = await coprocessor.inputs(asked)
        rows = [bindings.to_json(item) for item in bound]
        return JSONResponse({"handles": [item.handle.hex() for item in bound], "bindings": rows})

    async def _compute(self, request: Request) -> Response:
        coprocessor = self._need().coprocessor
        asked = Compute.decode(await _body(request))
        with self._seconds.labels("compute").time():
            bound = await coprocessor.compute(asked)
        return JSONResponse(bindings.to_json(bound))

    async def _ciphertext(self, request: Request) -> Response:
        text = request.path_params["handle"]
        try:
            handle = bytes.fromhex(text)
        except ValueError:
            handle = b""
        if len(handle) != 32 or handle.hex() != text:
            raise HostError("coprocessor.request", "a handle has 64 hexadecimal digits")
        return JSONResponse(bindings.to_json(self._need().coprocessor.find(handle)))

    async def _public_key(self, _: Request) -> Response:
        loaded = self._need()
        return JSONResponse(
            {
                "key_id": loaded.coprocessor.key_id.hex(),
                "public_key": loaded.public_key.to_json(),
                "server_key": loaded.server_key.to_json(),
            }
        )

    async def _crs(self, _: Request) -> Response:
        loaded = self._need()
        return JSONResponse({"bits": loaded.crs_bits, **loaded.crs.to_json()})


async def _body(request: Request) -> bytes:
    """The body, of at most `MAX_BODY` bytes: what announces or sends more is refused before it is read on."""
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:15]) > MAX_BODY:
        raise HostError("coprocessor.too_large", f"{announced[:15]} bytes, at most {MAX_BODY}")
    data = bytearray()
    try:
        async with asyncio.timeout(_STALL):
            async for piece in request.stream():
                data += piece
                if len(data) > MAX_BODY:
                    raise HostError("coprocessor.too_large", f"more than {MAX_BODY} bytes")
    except (TimeoutError, ClientDisconnect):
        raise HostError("coprocessor.request", "the body did not arrive") from None
    return bytes(data)
