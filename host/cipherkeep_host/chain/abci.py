"""The only place that speaks the consensus engine's application interface: ABCI 2.0 over a unix socket.

Frames are protobuf messages with their length before them. CometBFT opens four connections and expects answers in
order on each. All calls run one after another in the event loop's thread, so the application needs no lock. A frame
that is too long or cannot be read ends its connection; an exception of the application ends everything: nothing more
is answered, `halted` is set, and the process has to exit, before the block that caused it is committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from cipherkeep_attestation.chain.header import Timestamp

from cipherkeep_host.chain import calls, stubs

MAX_BLOCK = 4 << 20  # bytes of a block; the consensus parameters at genesis say the same
MAX_FRAME = MAX_BLOCK + (2 << 20)  # bytes; a block, the votes on it and its evidence
CONNECTIONS = 8  # CometBFT has four; while it restarts, the old ones may still be closing

log = structlog.get_logger("cipherkeep.abci")


class Dispatcher:
    """Turns a request message into a call of the application, and what it returns into a response message."""

    def __init__(self, application: calls.Application) -> None:
        self._application = application
        self._messages = stubs.messages()
        self._calls: dict[str, Callable[[Any], Any]] = {
            "echo": lambda request: self._response("echo", message=request.message),
            "flush": lambda _: self._response("flush"),
            "info": self._info,
            "init_chain": self._init_chain,
            "query": self._query,
            "check_tx": self._check_tx,
            "prepare_proposal": self._prepare_proposal,
            "process_proposal": self._process_proposal,
            "finalize_block": self._finalize_block,
            "commit": self._commit,
            "list_snapshots": lambda _: self._response("list_snapshots"),
            # No snapshot is ever offered, so these are never asked in good faith.
            "offer_snapshot": lambda _: self._response("offer_snapshot", result=3),  # REJECT
            "load_snapshot_chunk": lambda _: self._response("load_snapshot_chunk"),
            "apply_snapshot_chunk": lambda _: self._response("apply_snapshot_chunk", result=2),  # ABORT
        }

    def parse(self, frame: bytes) -> Any:
        """A request message. ValueError where the bytes are none."""
        try:
            request = self._messages.Request.FromString(frame)
        except Exception as error:
            raise ValueError("not a request") from error
        if request.WhichOneof("value") not in self._calls:
            raise ValueError("an unknown request")
        return request

    def answer(self, request: Any) -> bytes:
        """Carry a request out; the response message's bytes."""
        name = request.WhichOneof("value")
        response: bytes = self._calls[name](getattr(request, name)).SerializeToString()
        return response

    def _response(self, name: str, **values: object) -> Any:
        suffix = "".join(word.capitalize() for word in name.split("_"))
        body = getattr(self._messages, f"Response{suffix}")(**values)
        return self._messages.Response(**{name: body})

    def _info(self, _: Any) -> Any:
        info = self._application.info()
        return self._response(
            "info",
            data="cipherkeep",
            version=info.version,
            app_version=info.app_version,
            last_block_height=info.height,
            last_block_app_hash=info.app_hash,
        )

    def _init_chain(self, request: Any) -> Any:
        app_hash = self._application.init_chain(
            request.chain_id, _time(request.time), request.app_state_bytes, request.initial_height
        )
        return self._response("init_chain", app_hash=app_hash)

    def _query(self, request: Any) -> Any:
        found = self._application.query(request.path, request.data, request.height)
        return self._response(
            "query",
            code=found.code,
            value=found.value,
            height=found.height,
            log=found.log,
            codespace="" if found.code == calls.OK else "cipherkeep",
        )

    def _check_tx(self, request: Any) -> Any:
        recheck = request.type == self._messages.CheckTxType.Value("RECHECK")
        verdict = self._application.check_tx(request.tx, recheck=recheck)
        return self._response("check_tx", **_result(verdict))

    def _prepare_proposal(self, request: Any) -> Any:
        txs = self._application.prepare_proposal(request.txs, request.max_tx_bytes)
        return self._response("prepare_proposal", txs=txs)

    def _process_proposal(self, request: Any) -> Any:
        accepted = self._application.process_proposal(request.txs)
        return self._response("process_proposal", status=1 if accepted else 2)

    def _finalize_block(self, request: Any) -> Any:
        verdicts, app_hash = self._application.finalize_block(
            request.height, _time(request.time), request.hash, request.txs
        )
        results = [self._messages.ExecTxResult(**_result(verdict)) for verdict in verdicts]
        return self._response("finalize_block", tx_results=results, app_hash=app_hash)

    def _commit(self, _: Any) -> Any:
        self._application.commit()
        return self._response("commit", retain_height=0)


def _time(stamp: Any) -> Timestamp:
    return Timestamp(stamp.seconds, stamp.nanos)


def _result(verdict: calls.Verdict) -> dict[str, object]:
    codespace = "" if verdict.code == calls.OK else "cipherkeep"
    return {"code": verdict.code, "data": verdict.data, "log": verdict.log, "codespace": codespace}


def frame(message: bytes) -> bytes:
    """A message with its length before it."""
    length, head = len(message), bytearray()
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    head.append(length)
    return bytes(head) + message


class _Connection(asyncio.Protocol):
    """One of the engine's connections."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not self._server.admit(self):
            transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # Answers that nobody reads must not pile up: then nothing more is read, until they are gone.
    def pause_writing(self) -> None:
        assert self._transport is not None
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        assert self._transport is not None
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            answers = self._take()
        except ValueError as error:
            log.error("abci.frame", reason=str(error))
            self.abort()
            return
        if answers and not self._server.halted.done() and self._transport is not None:
            self._transport.write(b"".join(answers))

    def _take(self) -> list[bytes]:
        """Answer every whole frame in the buffer."""
        answers: list[bytes] = []
        start = 0
        while not self._server.halted.done():
            head = _length(self._buffer, start)
            if head is None or head[1] + head[0] > len(self._buffer):
                break
            length, begin = head
            request = self._server.dispatcher.parse(bytes(self._buffer[begin : begin + length]))
            start = begin + length
            try:
                answers.append(frame(self._server.dispatcher.answer(request)))
            except Exception as error:  # noqa: BLE001 - whatever it is, the state is no longer to be trusted
                self._server.halt(error)
        del self._buffer[:start]
        return answers


def _length(buffer: bytearray, position: int) -> tuple[int, int] | None:
    """A frame's length and where it begins; None while the length is incomplete. ValueError when it is too long."""
    value = 0
    for count in range(4):  # four digits of seven bits reach 256 MiB
        if position + count >= len(buffer):
            return None
        byte = buffer[position + count]
        value |= (byte & 127) << (7 * count)
        if value > MAX_FRAME:
            break
        if byte < 128:
            return value, position + count + 1
    raise ValueError(f"a frame longer than {MAX_FRAME} bytes")


class Server:
    """The application's socket. Its folder decides who may connect: make it accessible to the node alone."""

    def __init__(self, path: Path, application: calls.Application) -> None:
        self.path = path
        self.dispatcher = Dispatcher(application)
        self.connections: set[_Connection] = set()
        self.halted: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; a socket that a killed process left behind is replaced."""
        self.path.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_unix_server(lambda: _Connection(self), str(self.path))
        self.path.chmod(0o600)

    def admit(self, connection: _Connection) -> bool:
        """Whether one more connection is taken."""
        if len(self.connections) >= CONNECTIONS or self.halted.done():
            return False
        self.connections.add(connection)
        return True

    def halt(self, error: BaseException) -> None:
        """Answer nothing more, on any connection."""
        log.error("abci.halt", exc_info=error)
        if not self.halted.done():
            self.halted.set_result(error)
        for connection in list(self.connections):
            connection.abort()

    async def close(self) -> None:
        """Stop listening and drop all connections."""
        if self._listener is not None:
            self._listener.close()
        for connection in list(self.connections):
            connection.abort()
        self.path.unlink(missing_ok=True)
