"""`party verify` against nodes and proxies that lie, stall, or say nothing: a coded refusal, in time, within bounds."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cipherkeep_attestation.cli import live, party
from cipherkeep_attestation.cli.inputs import UsageError
from cipherkeep_attestation.errors import EvidenceError, Malformed

from tests.attestation.cli.running import Outcome, audit
from tests.attestation.cli.test_main import TRUST

Answer = Callable[[socket.socket], None]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def said(body: bytes, *, status: str = "200 OK", headers: bytes = b"") -> Answer:
    """An answer of these bytes."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n".encode()
    return lambda peer: peer.sendall(head + headers + b"\r\n" + body)


def for_ever(piece: bytes, *, first: bytes = b"", pause: float = 0.0) -> Answer:
    """A piece again and again, until whoever asked goes away."""

    def answer(peer: socket.socket) -> None:
        peer.sendall(first)
        while True:
            peer.sendall(piece)
            time.sleep(pause)

    return answer


def silent(peer: socket.socket) -> None:
    """Nothing, until whoever asked goes away."""
    peer.recv(1 << 16)


def request_of(peer: socket.socket) -> bytes:
    """A request with its body, which is JSON; the first bytes of anything else."""
    found = piece = peer.recv(1 << 16)
    while piece and found.startswith(b"POST ") and not found.endswith(b"}"):
        piece = peer.recv(1 << 16)
        found += piece
    return found


class Hostile:
    """A server on loopback, or on a unix socket, that gives every peer the same answer, one after another."""

    def __init__(self, answer: Answer, path: Path | None = None) -> None:
        self.answer = answer
        self.listening = socket.socket(socket.AF_INET if path is None else socket.AF_UNIX)
        self.listening.bind(("127.0.0.1", 0) if path is None else str(path))
        self.listening.listen()
        self.url = f"unix://{path}" if path else f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.asked: list[bytes] = []
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while True:
            try:
                peer, _ = self.listening.accept()
            except OSError:
                return
            with peer, contextlib.suppress(OSError):
                peer.settimeout(30)
                self.asked.append(request_of(peer))
                self.answer(peer)

    def close(self) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.thread.join(30)
        assert not self.thread.is_alive()


@pytest.fixture
def serve() -> Iterator[Callable[..., Hostile]]:
    """Starts servers, and ends them with the test."""
    started: list[Hostile] = []

    def start(answer: Answer, path: Path | None = None) -> Hostile:
        started.append(Hostile(answer, path))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second for an answer, two for all of them."""
    monkeypatch.setattr(live, "SECONDS", 0.5)
    monkeypatch.setattr(party, "_SECONDS", 2.0)
    monkeypatch.delenv("CIPHERKEEP_ATTESTATION", raising=False)


def verify(folder: Path, node: str, *more: str) -> Outcome:
    (folder / "trust.toml").write_text(TRUST)
    return audit("party", "verify", "party-1", "--node", node, "--trust", folder / "trust.toml", "--json", *more)


def rpc(result: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()


HOSTILE: dict[str, Answer] = {
    "one 100 Continue after the other": for_ever(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "headers without end": for_ever(b"X-More: of them\r\n", first=HEAD),
    "a header without end": for_ever(b"x" * 4096, first=HEAD + b"X-Long: "),
    "a status line without end": for_ever(b"H" * 4096),
    "a byte now and then": for_ever(b" ", first=HEAD + b"Content-Length: 1000000\r\n\r\n", pause=0.1),
    "a header's byte now and then": for_ever(b"x", first=HEAD + b"X-Slow: ", pause=0.1),
    "a chunk now and then": for_ever(b"1\r\n \r\n", first=HEAD + b"Transfer-Encoding: chunked\r\n\r\n", pause=0.1),
    "a body without end": for_ever(b" " * 65536, first=HEAD + b"\r\n"),
    "chunks without end": for_ever(
        b"10000\r\n" + b" " * 65536 + b"\r\n", first=HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    ),
    "a huge length": for_ever(b" " * 65536, first=HEAD + b"Content-Length: 99999999999999\r\n\r\n"),
    "a chunk of no length": said(b"", headers=b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "less than promised": lambda peer: peer.sendall(HEAD + b"Content-Length: 100\r\n\r\n{"),
    "nothing at all": silent,
    "an end at once": lambda _: None,
    "garbage": lambda peer: peer.sendall(bytes(range(256)) * 40),
    "another protocol": lambda peer: peer.sendall(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "a redirect": said(b"", status="307 Temporary Redirect", headers=b"Location: http://127.0.0.1:1/\r\n"),
    "a failure": said(b"{}", status="500 Internal Server Error"),
    "no content": lambda peer: peer.sendall(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "no JSON": said(b"<html>"),
    "no text": said(b"\xff\xfe"),
    "nothing in it": said(b""),
    "a name twice": said(b'{"result": 1, "result": 2}'),
    "nested without end": said(b"[" * 100_000),
    "a number": said(b"7"),
    "no result": said(b"{}"),
    "an error": said(b'{"error": {"code": -32603, "message": "\\u001b[31m"}}'),
    "a result of another kind": said(rpc([])),
    "an answer that refuses": said(rpc({"response": {"code": 1, "log": "no \x1b[31m"}})),
    "a log of another kind": said(rpc({"response": {"code": "1", "log": {"a": []}}})),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_node_is_refused_in_time(serve: Callable[..., Hostile], tmp_path: Path, how: str) -> None:
    """party.node, exit code 1, one JSON verdict, soon; nothing is followed or asked twice."""
    server = serve(HOSTILE[how])
    began = time.monotonic()
    done = verify(tmp_path, server.url)
    assert time.monotonic() - began < 3
    verdict = done.json()
    assert (done.code, verdict["code"], done.err) == (1, "party.node", "")
    assert "\x1b" not in done.out and len(verdict["message"]) < 400
    assert len(server.asked) == 1


WRONG: dict[str, bytes] = {
    "a value that is no base64": rpc({"response": {"code": 0, "value": "!"}}),
    "a value that is no CBOR": rpc({"response": {"code": 0, "value": "/w=="}}),
    "no value": rpc({"response": {}}),
    "no party": rpc({"response": {"code": 0, "value": "9g=="}}),
    "an index that leads nowhere": rpc({"response": {"code": 0, "value": "SAAAAAAAAAAB"}}),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_node_that_answers_beside_the_question_is_refused(
    serve: Callable[..., Hostile], tmp_path: Path, how: str
) -> None:
    """Whatever the form that it breaks, the refusal has a code of that form."""
    done = verify(tmp_path, serve(said(WRONG[how])).url)
    assert done.code == 1
    assert done.json()["code"].split(".")[0] in ("json", "encoding", "party")


def test_all_answers_together_have_their_time(serve: Callable[..., Hostile], monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that keeps within the time of each answer does not get more of it by being asked often."""
    monkeypatch.setattr(live, "SECONDS", 20.0)
    slow = serve(for_ever(b" ", first=HEAD + b"Content-Length: 1000\r\n\r\n", pause=0.05))
    began = time.monotonic()
    node = live.Node(slow.url, time.monotonic() + 0.3)
    for _ in range(2):
        with pytest.raises(Malformed) as refusal:
            node.call("commit")
        assert refusal.value.code == "party.node"
    assert time.monotonic() - began < 1
    assert len(slow.asked) == 1


def test_nobody_there_is_the_callers_mistake(tmp_path: Path) -> None:
    """A port and a socket at which nobody listens: exit code 2."""
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))
    with closed:
        for url in (f"http://127.0.0.1:{closed.getsockname()[1]}", f"unix://{tmp_path}/none", "https://127.0.0.1:1"):
            done = verify(tmp_path, url)
            assert (done.code, done.out) == (2, "")


def test_a_name_with_many_addresses_has_no_more_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server that never accepts, as often as a name service says: together they take the time of one answer."""
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    address = full.getsockname()
    kept = [socket.create_connection(address)]  # the queue is full now: further ones wait
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, 1, 6, "", address)] * 50)
    began = time.monotonic()
    try:
        for _ in range(3):
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex(address)
            kept.append(waiting)
        done = verify(tmp_path, "http://many:1")
    finally:
        for peer in (*kept, full):
            peer.close()
    assert (done.code, done.out) == (2, "")
    assert time.monotonic() - began < 2


def test_tls_with_whoever_is_not_named_is_no_answer(serve: Callable[..., Hostile], tmp_path: Path) -> None:
    """A peer that speaks no TLS, or says nothing, is nobody at that address."""
    for answer in (silent, for_ever(b"x"), said(b"{}")):
        server = serve(answer)
        assert verify(tmp_path, server.url.replace("http:", "https:")).code == 2


# --- the proxy ---


@pytest.mark.parametrize(
    "answer",
    [
        b"{}",
        b"[]",
        b"7",
        b'{"message": 7}',
        b'{"message": "zz"}',
        b'{"message": null}',
        b'{"message": "00", "message": "00"}',
    ],
)
def test_a_proxy_must_send_a_message(serve: Callable[..., Hostile], answer: bytes) -> None:
    """Hexadecimal under its name, or it is refused."""
    with pytest.raises(EvidenceError) as refusal:
        live.ask_document(serve(said(answer)).url, bytes(32))
    assert refusal.value.code == "party.node"


@pytest.mark.parametrize(("suffix", "path"), [("", b"/attestation"), ("/", b"/attestation"), ("/a", b"/a/attestation")])
def test_a_proxy_is_asked_at_its_path(serve: Callable[..., Hostile], tmp_path: Path, suffix: str, path: bytes) -> None:
    """POST /attestation below what the URL names, with the nonce; through a unix socket likewise."""
    server = serve(said(b'{"message": "abcd"}'))
    for url in (server.url + suffix, server.url + path.decode()):
        assert live.ask_document(url, b"\x07" * 32) == b"\xab\xcd"
        assert server.asked[-1].startswith(b"POST " + path + b" HTTP/1.1\r\n")
    unix = serve(said(b'{"message": "abcd"}'), tmp_path / "attestation")
    assert live.ask_document(unix.url, b"\x07" * 32) == b"\xab\xcd"
    assert unix.asked[-1].startswith(b"POST /attestation HTTP/1.1\r\n")
    assert b'{"nonce": "' + b"07" * 32 in unix.asked[-1]


def test_a_proxy_is_found_where_it_is_said_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """--attestation, else what the environment of the appliance says, else the node's own host."""
    asked: list[str] = []

    def ask(url: str, _nonce: bytes, *, until: float) -> bytes:
        assert until > time.monotonic()
        asked.append(url)
        raise Malformed("party.node")

    monkeypatch.setattr(party, "ask_document", ask)
    monkeypatch.setattr(party, "_record", lambda *_: (None, 0, None))
    verify(tmp_path, "http://node:1")
    monkeypatch.setenv("CIPHERKEEP_ATTESTATION", "unix:///appliance")
    verify(tmp_path, "http://node:1")
    done = verify(tmp_path, "http://node:1", "--attestation", "http://proxy:2")
    assert asked == ["http://node:1", "unix:///appliance", "http://proxy:2"]
    assert (done.code, done.json()["code"]) == (1, "party.node")


def test_a_time_has_no_place_at_a_live_party(tmp_path: Path) -> None:
    """It is judged when it is asked."""
    assert verify(tmp_path, "http://127.0.0.1:1", "--at", "now").code == 2


def test_an_address_is_a_url(tmp_path: Path) -> None:
    """What is no URL is the caller's mistake before anybody is asked."""
    body: dict[str, Any] = {}
    for url in ("", "127.0.0.1:1", "http://", f"unix:/{tmp_path}", "http://h/?a=1", "http://u:p@h/"):
        with pytest.raises(UsageError):
            live.post(url, "/", body)
