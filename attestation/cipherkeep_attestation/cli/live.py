"""The only place that talks to a network: a node's RPC and a proxy's attestation endpoint. Nothing heard is believed.

Addresses are `http://HOST:PORT`, `https://HOST` or `unix:///path/of/socket`. Answers are read with a bound and a time
limit; no redirect is followed, no proxy and no environment variable is looked at.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cipherkeep_attestation import cbor
from cipherkeep_attestation.chain import rpc_json
from cipherkeep_attestation.chain.header import LIMITS, LightBlock, Validator, ValidatorSet
from cipherkeep_attestation.chain.state import StateProof
from cipherkeep_attestation.cli.inputs import NotJsonError, UsageError, strict_json
from cipherkeep_attestation.errors import EvidenceError, Malformed, Refused

SECONDS = 20.0  # for one answer
PAGE = 100  # validators; the node's own maximum
_MAX_ANSWER = 4 << 20  # bytes


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the path instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(url: str) -> tuple[http.client.HTTPConnection, str]:
    """A connection, and the path that the URL ends with."""
    if url.startswith("unix:///"):
        return _UnixConnection(url.removeprefix("unix://")), ""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme not in ("http", "https") or parts.query or parts.username is not None:
        raise UsageError(f"{url[:80]}: not http://HOST:PORT, https://HOST or unix:///PATH")
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=SECONDS), parts.path.rstrip("/")
    context = ssl.create_default_context()
    return http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context), parts.path.rstrip("/")


def post(url: str, path: str, body: dict[str, Any]) -> Any:
    """The JSON answer to a POST. UsageError when nobody answers there, `Malformed("party.node")` for another answer."""
    connection, base = _connection(url)
    try:
        connection.request("POST", base + path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = answer.read(_MAX_ANSWER + 1)
        status = answer.status
    except (OSError, http.client.HTTPException) as error:
        raise UsageError(f"{url}: {error or type(error).__name__}") from None
    finally:
        connection.close()
    if status != 200 or len(data) > _MAX_ANSWER:
        raise Malformed("party.node", f"{url}{path}: HTTP status {status}, {len(data)} bytes")
    try:
        return strict_json(data)
    except NotJsonError as error:
        raise Malformed("party.node", f"{url}{path}: {error}"[:200]) from None


@dataclass(frozen=True, slots=True)
class Node:
    """A node behind its JSON-RPC, at a URL."""

    url: str

    def call(self, method: str, **parameters: object) -> Any:
        """The result of one call."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        answer = post(self.url, "/", body)
        if not isinstance(answer, dict) or "result" not in answer:
            failure = answer.get("error") if isinstance(answer, dict) else None
            raise Malformed("party.node", f"{method}: {json.dumps(failure)}"[:200])
        return answer["result"]

    def light_block(self, height: int | None = None) -> LightBlock:
        """Header, commit and validators of a height, the newest without one; well-formed and unjudged."""
        arguments = {} if height is None else {"height": str(height)}
        found = rpc_json.names(self.call("commit", **arguments), ("signed_header",), ("canonical",), what="commit")
        header, commit = rpc_json.signed_header(found["signed_header"])
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


def ask_document(url: str, nonce: bytes) -> bytes:
    """What the enclave behind a proxy answers to step 1 of the handshake over this nonce; unjudged."""
    answer = post(url, "/attestation" if not url.rstrip("/").endswith("/attestation") else "", {"nonce": nonce.hex()})
    try:
        message = answer["message"]
        if isinstance(message, str):
            return bytes.fromhex(message)
    except (KeyError, TypeError, ValueError, EvidenceError):
        pass
    raise Malformed("party.node", f"{url}: no message")
