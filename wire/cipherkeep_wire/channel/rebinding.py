"""The only place that moves calls from one connection to its successor while stubs stay the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

import grpc
import grpc.aio


class Link:
    """One connection and the number of its calls in flight."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self._calls = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._callables: dict[tuple[object, ...], Callable[..., Any]] = {}

    def call(self, kind: str, method: tuple[Any, ...], registered: bool, arguments: tuple[Any, ...], named: Any) -> Any:
        """Begin a call on this connection and count it until it is done."""
        key = (kind, *method)
        begin = self._callables.get(key)
        if begin is None:
            begin = getattr(self.channel, kind)(*method, _registered_method=registered)
            self._callables[key] = begin
        call = begin(*arguments, **named)
        self._calls += 1
        self._quiet.clear()
        call.add_done_callback(self._done)
        return call

    def _done(self, _: object) -> None:
        self._calls -= 1
        if self._calls == 0:
            self._quiet.set()

    async def drained(self) -> None:
        """Wait until no call is in flight."""
        await self._quiet.wait()

    async def lost(self) -> None:
        """Wait until the connection cannot be had again at once, or is closed. Keeps it connected until then."""
        state = self.channel.get_state(try_to_connect=True)
        while state not in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
            await self.channel.wait_for_state_change(state)
            state = self.channel.get_state(try_to_connect=True)


class RebindingChannel(grpc.aio.Channel):
    """Looks like a channel to stubs; each call begins on the link that is current then. Its owner closes it."""

    def __init__(self, current: Callable[[], Link]) -> None:
        self._current = current

    def _bind(self, kind: str, method: tuple[Any, ...], registered: bool | None) -> Any:
        def begin(*arguments: Any, **named: Any) -> Any:
            return self._current().call(kind, method, bool(registered), arguments, named)

        return begin

    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """As `grpc.aio.Channel.unary_unary`."""
        return self._bind("unary_unary", (method, request_serializer, response_deserializer), _registered_method)

    def unary_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """As `grpc.aio.Channel.unary_stream`."""
        return self._bind("unary_stream", (method, request_serializer, response_deserializer), _registered_method)

    def stream_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """As `grpc.aio.Channel.stream_unary`."""
        return self._bind("stream_unary", (method, request_serializer, response_deserializer), _registered_method)

    def stream_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """As `grpc.aio.Channel.stream_stream`."""
        return self._bind("stream_stream", (method, request_serializer, response_deserializer), _registered_method)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """The state of the current connection."""
        return self._current().channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """A change of the connection that is current now."""
        await self._current().channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait for the connection that is current now."""
        await self._current().channel.channel_ready()

    async def close(self, grace: float | None = None) -> NoReturn:
        """Not here: AttestedChannel.close ends the session too."""
        raise TypeError("close the AttestedChannel")

    async def __aenter__(self) -> RebindingChannel:
        return self

    async def __aexit__(self, *_: object) -> NoReturn:
        await self.close()
