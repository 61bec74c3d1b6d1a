"""The only place that talks to a network: a node's RPC and a proxy's attestation endpoint. Nothing heard is believed.

Addresses are `http://HOST:PORT`, `https://HOST` or `unix:///path/of/socket`. An answer has a largest size and one time
by which it must be whole, however it is sliced; no redirect is followed, no proxy is looked for. Where nobody can be
reached the caller named the wrong place, a `UsageError`; whatever is wrong with an answer is `Malformed("party.node")`.
"""

from __future__ import annotations

import http.client
import io
import json
import math
import re
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from cipherkeep_attestation import cbor, strict_json
from cipherkeep_attestation.chain import rpc_json
from cipherkeep_attestation.chain.header import LIMITS, LightBlock, Validator, ValidatorSet
from cipherkeep_attestation.chain.state import StateProof
from cipherkeep_attestation.cli.inputs import UsageError, reason
from cipherkeep_attestation.errors import EvidenceError, Malformed, Refused

SECONDS = 20.0  # for one answer, whole
PAGE = 100  # validators; the node's own maximum
_MAX_ANSWER = 4 << 20  # bytes
_PATH = re.compile(r"[!-~]*")


class _Timed:
    """What `http.client` needs of a connected socket, with one time at which every wait ends."""

    def __init__(self, connected: socket.socket, until: float) -> None:
        self._socket, self._until = connected, until

    def sendall(self, data: bytes) -> None:
        self._socket.settimeout(_left(self._until))
        self._socket.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._socket, self._until))

    def close(self) -> None:
        self._socket.close()


class _TimedReader(io.RawIOBase):
    def __init__(self, connected: socket.socket, until: float) -> None:
        self._socket, self._until = connected, until
        self._raw = connected.makefile("rb", buffering=0)  # keeps the connection open until it is closed itself

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._socket.settimeout(_left(self._until))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("no whole answer in time")
    return left


@dataclass(frozen=True, slots=True)
class _Place:
    """Where to ask: a unix socket's path, or host and port; and the path that the URL ends with."""

    host: str
    port: int
    path: str = ""
    tls: bool = False
    unix: str = ""

    @classmethod
    def of(cls, url: str) -> _Place:
        """UsageError for what is no such URL."""
        if url.startswith("unix:///"):
            return cls("localhost", 80, unix=url.removeprefix("unix://"))
        try:
            parts = urlsplit(url)
            host, port, path = parts.hostname, parts.port, parts.path.rstrip("/")
            more = parts.query or parts.fragment or parts.username is not None
            if host and parts.scheme in ("http", "https") and not more and _PATH.fullmatch(path):
                tls = parts.scheme == "https"
                return cls(host, port or (443 if tls else 80), path, tls)
        except ValueError:
            pass
        raise UsageError(f"{url[:80]}: not http://HOST:PORT, https://HOST or unix:///PATH")

    def reach(self, until: float) -> socket.socket:
        """A connected socket. OSError or ValueError when there is none in time, however many addresses a name has."""
        if self.unix:
            return _connected(socket.AF_UNIX, self.unix, until)
        failure: OSError | None = None
        for family, _, _, _, address in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
            try:
                found = _connected(family, address, until)
                break
            except OSError as error:
                failure = error
        else:
            raise failure or OSError("no address")
        if not self.tls:
            return found
        try:
            found.settimeout(_left(until))
            return ssl.create_default_context().wrap_socket(found, server_hostname=self.host)
        except BaseException:
            found.close()
            raise


def _connected(family: int, address: Any, until: float) -> socket.socket:
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.settimeout(_left(until))
        found.connect(address)
    except BaseException:
        found.close()
        raise
    return found


def post(url: str, path: str, body: dict[str, Any], *, until: float = math.inf) -> Any:
    """The JSON answer to a POST. UsageError when nobody can be reached, `Malformed("party.node")` for a bad answer.

    `until` is a time of the monotonic clock at which the answer must be there, `SECONDS` from now at the latest.
    """
    now = time.monotonic()
    if now >= until:
        raise Malformed("party.node", f"{url}{path}: not asked, the time is over"[:200])
    until = min(until, now + SECONDS)
    place = _Place.of(url)
    try:
        connection = http.client.HTTPConnection(place.host, place.port)
        connection.sock = cast(socket.socket, _Timed(place.reach(until), until))
    except (OSError, ValueError, http.client.InvalidURL) as error:  # names that no resolver takes are ValueErrors
        raise UsageError(f"{url[:80]}: {reason(error)}") from None
    try:
        connection.request("POST", place.path + path, json.dumps(body), {"Content-Type": "application/json"})
        with connection.getresponse() as answer:
            data, status = answer.read(_MAX_ANSWER + 1), answer.status
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Malformed("party.node", f"{url}{path}: {error or type(error).__name__}"[:200]) from None
    finally:
        connection.close()
    if status != 200 or len(data) > _MAX_ANSWER:
        raise Malformed("party.node", f"{url}{path}: HTTP status {status}, {len(data)} bytes"[:200])
    try:
        return strict_json.loads(data)
    except strict_json.NotJsonError as error:
        raise Malformed("party.node", f"{url}{path}: {error}"[:200]) from None


@dataclass(frozen=True, slots=True)
class Node:
    """A node behind its JSON-RPC, at a URL. `until` is when the last answer must be there, by the monotonic clock."""

    url: str
    until: float = math.inf

    def call(self, method: str, **parameters: object) -> Any:
        """The result of one call."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        answer = post(self.url, "/", body, until=self.until)
        if not isinstance(answer, dict) or "result" not in answer:
            failure = answer.get("error") if isinstance(answer, dict) else None
            raise Malformed("party.node", f"{method}: {json.dumps(failure)}"[:200])
        return answer["result"]

    def light_block(self, height: int | None = None) -> LightBlock:
        """Header, commit and validators of a height, the newest without one; well-formed and unjudged."""
        arguments = {} if height is None else {"height": str(height)}
        header, commit = rpc_json.commit_answer(self.call("commit", **arguments))
        rows: list[Validator] = []
        for number in range(1, LIMITS.validators // PAGE + 1):
            at = {"height": str(header.height), "page": str(number), "per_page": str(PAGE)}
            page = rpc_json.validators_page(self.call("validators", **at))
            rows += page.validators
            if len(rows) >= page.total:
                break
        return LightBlock(header, commit, ValidatorSet(tuple(rows)))

    def query(self, path: str, data: bytes, *, height: int = 0) -> Any:
        """The application's answer to a query: CBOR. `Refused("party.node")` with its sentence when it refuses."""
        result = self.call("abci_query", path=path, data=data.hex(), height=str(height), prove=False)
        response = result.get("response") if isinstance(result, dict) else None
        if not isinstance(response, dict) or response.get("code", 0) != 0:
            log = response.get("log", "") if isinstance(response, dict) else ""
            raise Refused("party.node", f"{path}: {log}"[:200])
        return cbor.decode(rpc_json.base64_bytes(response.get("value"), "value"))

    def prove(self, instance: str, collection: str, key: int, *, under: int) -> tuple[bytes, StateProof]:
        """A value and its proof under the header of height `under`. `Refused("party.node")` when it is not there."""
        found = cbor.fields(
            self.query(f"/state/{instance}/{collection}", key.to_bytes(8, "big"), height=under - 1),
            height=cbor.uint(),
            proof=cbor.raw(1, 1 << 21),
            until=cbor.uint(),
            value=cbor.nullable(cbor.raw(1, 1 << 18)),
        )
        if found["value"] is None or not found["height"] < under <= found["until"] + 1:
            raise Refused("party.node", f"{collection} {key} is not to be had under header {under}")
        return found["value"], StateProof.decode(found["proof"])


def ask_document(url: str, nonce: bytes, *, until: float = math.inf) -> bytes:
    """What the enclave behind a proxy answers to step 1 of the handshake over this nonce; unjudged."""
    path = "" if url.rstrip("/").endswith("/attestation") and not url.startswith("unix:") else "/attestation"
    answer = post(url, path, {"nonce": nonce.hex()}, until=until)
    try:
        message = answer["message"]
        if isinstance(message, str):
            return bytes.fromhex(message)
    except (KeyError, TypeError, ValueError, EvidenceError):
        pass
    raise Malformed("party.node", f"{url}: no message")
