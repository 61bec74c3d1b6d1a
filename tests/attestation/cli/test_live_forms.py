"""What a live node or proxy answers is taken in its form only, and in nothing else."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from socketserver import StreamRequestHandler, UnixStreamServer
from typing import Any

import pytest
from cipherkeep_attestation import cbor
from cipherkeep_attestation.cli.inputs import UsageError
from cipherkeep_attestation.cli.live import Node, ask_document
from cipherkeep_attestation.errors import EvidenceError

NONCE = b"n" * 32


class Liar:
    """A server on a unix socket that answers every request with the same bytes."""

    def __init__(self, path: Path) -> None:
        self.url = f"unix://{path}"
        self.status = "200 OK"
        self.body = b""

    def says(self, value: Any) -> None:
        self.body = value if isinstance(value, bytes) else json.dumps(value).encode()


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Liar]:
    found = Liar(tmp_path / "s")

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            length = 0
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            self.rfile.read(length)
            head = f"HTTP/1.1 {found.status}\r\nContent-Length: {len(found.body)}\r\nConnection: close\r\n\r\n"
            self.wfile.write(head.encode() + found.body)

    with UnixStreamServer(str(tmp_path / "s"), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield found
        server.shutdown()
        serving.join()


def response(**fields: Any) -> dict[str, Any]:
    return {"result": {"response": fields}}


def encoded(value: Any) -> str:
    return base64.b64encode(cbor.encode(value)).decode()


def proven(**changes: Any) -> dict[str, Any]:
    fields = {"height": 8, "proof": b"p", "until": 8, "value": b"v", **changes}
    return response(value=encoded(fields))


ASKING: dict[str, Callable[[str], object]] = {
    "call": lambda url: Node(url).call("status"),
    "query": lambda url: Node(url).query("/path", b""),
    "prove": lambda url: Node(url).prove("one", "parties", 1, under=9),
    "document": lambda url: ask_document(url, NONCE),
}


@pytest.mark.parametrize(
    ("asked", "body"),
    [
        ("call", b""),
        ("call", b"{"),
        ("call", b"[NaN]"),
        ("call", b" " * ((4 << 20) + 1)),
        ("call", []),
        ("call", {"error": {"message": "no"}}),
        ("query", {"result": 1}),
        ("query", {"result": {"response": []}}),
        ("query", response(code=1, log="no such path")),
        ("prove", proven(value=None)),
        ("prove", proven(height=9)),
        ("prove", proven(until=7, height=7)),
        ("document", []),
        ("document", {"message": 1}),
        ("document", {"message": "no hexadecimal"}),
    ],
)
def test_an_answer_of_another_form_is_refused(liar: Liar, asked: str, body: Any) -> None:
    """Whatever a node says instead of what was asked, the refusal says that it is the node's."""
    liar.says(body)
    with pytest.raises(EvidenceError) as refusal:
        ASKING[asked](liar.url)
    assert refusal.value.code == "party.node"


def test_an_error_or_a_redirect_is_no_answer(liar: Liar) -> None:
    """Nobody is followed to somewhere else."""
    liar.says({"result": 1})
    assert Node(liar.url).call("status") == 1
    for status in ("500 Internal Server Error", "302 Found", "204 No Content"):
        liar.status = status
        with pytest.raises(EvidenceError) as refusal:
            Node(liar.url).call("status")
        assert refusal.value.code == "party.node"


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "http://", "http://user@host", "http://host:port", "x"])
def test_an_address_is_one_of_three_kinds(url: str) -> None:
    """Anything else is a slip of whoever typed it."""
    with pytest.raises(UsageError):
        Node(url).call("status")


def test_where_nobody_answers_is_said(tmp_path: Path) -> None:
    """That nobody is there proves nothing about a party."""
    with pytest.raises(UsageError, match="nobody"):
        Node(f"unix://{tmp_path}/nobody").call("status")
