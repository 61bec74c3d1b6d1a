"""What the demo prints while something takes long, and the error that is a plain sentence."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from cipherkeep_host.cli import output

TERMINAL, PIPE = 1, 10  # seconds between looks at the clock: one line rewritten, or one line each
say = output.out.print


class Wrong(Exception):
    """Something was not as it must be; the message is a plain sentence."""


@contextlib.asynccontextmanager
async def elapsing(what: str, expected: int) -> AsyncIterator[None]:
    """Show, while it runs, how long something has taken and how long it usually takes."""
    begun = time.monotonic()
    with (
        output.out.status(f"{what}: about {expected} s") if output.out.is_terminal else contextlib.nullcontext() as line
    ):

        async def tick() -> None:
            while True:
                await asyncio.sleep(PIPE if line is None else TERMINAL)
                text = f"{what}: {time.monotonic() - begun:.0f} s of about {expected} s"
                line.update(text) if line is not None else say(f"  … {text}")

        ticking = asyncio.create_task(tick())
        try:
            yield
        finally:
            ticking.cancel()


@contextlib.asynccontextmanager
async def step(what: str, expected: int) -> AsyncIterator[None]:
    """A longer step: what it is, its progress, and in the end that it is done and how long it took."""
    begun = time.monotonic()
    async with elapsing(what, expected):
        yield
    say(f"  [green]✓[/green] {what} [dim]({time.monotonic() - begun:.1f} s)[/dim]")
