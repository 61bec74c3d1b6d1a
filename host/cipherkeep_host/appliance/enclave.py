"""The only place that keeps the enclave running: one that ends is launched again, as its host would, and one that
always ends is given up with its last words.

What is launched again is the image that was measured at the start, which the policies name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from cipherkeep_host.appliance.children import Pauses
from cipherkeep_host.emulated.launcher import Launcher
from cipherkeep_host.errors import HostError

ATTEMPTS = 8  # ends in a row, each soon after a launch: about half a minute of trying
_WORDS = 400  # bytes of the enclave's log that an error shows

log = structlog.get_logger()


async def keep(launcher: Launcher, *, launched: Callable[[], None]) -> None:
    """Launch the enclave again whenever it ends; `launched` is told. `HostError("appliance.enclave")` in the end."""
    loop, pauses = asyncio.get_running_loop(), Pauses()
    while True:
        begun = loop.time()
        why = f"exit status {await launcher.wait()}: {_last_words(launcher)}"
        lived = loop.time() - begun
        while True:
            pause = pauses.after(lived)
            if pauses.quick_ends >= ATTEMPTS:
                raise HostError("appliance.enclave", f"{pauses.quick_ends} times in a row, at last {why}")
            log.warning("enclave ended", why=why, again_in=pause)
            await launcher.kill()
            await asyncio.sleep(pause)
            try:
                await launcher.relaunch()
            except (HostError, OSError) as error:  # a busy machine is tried again; a changed image is not
                if isinstance(error, HostError) and error.code != "emulator.start":
                    raise
                why, lived = str(error), 0.0
            else:
                launched()
                break


def _last_words(launcher: Launcher) -> str:
    try:
        return launcher.status.log.read_bytes()[-_WORDS:].decode(errors="replace") if launcher.status else ""
    except OSError:
        return ""
