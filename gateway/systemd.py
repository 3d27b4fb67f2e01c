"""What systemd is told of a service of ``Type=notify``: it is ready, it reloads, it stops, it lives (sd_notify(3)).

One datagram to the socket that the environment names; without one, nothing happens. Nothing here ever fails a gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, MutableMapping

import structlog

log = structlog.get_logger(__name__)


class Notifier:
    """Tells the service manager. ``address``: of its socket, "@…" in the abstract namespace, "" for none;
    ``watchdog``: seconds within which it must hear of us again, 0 for never."""

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog = watchdog

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> Notifier:
        """The one that the environment names; its variables are taken out of it, since they are for us alone."""
        address = environment.pop("NOTIFY_SOCKET", "")
        period, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        ours = period.isdigit() and pid in ("", str(os.getpid()))
        return cls(address, int(period) / 1e6 if ours else 0.0)

    def ready(self, status: str) -> None:
        """It takes messages, or has taken a new configuration over."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """It reads its configuration; ``ready`` follows, whatever comes of it."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """It takes no more messages and comes to its end."""
        self._tell("STOPPING=1", "STATUS=stopping: windows are emptied")

    async def watch(self, stop: asyncio.Event) -> None:
        """Say that the loop lives, in time, until cancelled; and once, that it stops."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.watchdog / 2 or None):
                    await stop.wait()
                    self.stopping()
                    stop = asyncio.Event()  # told; from now on for the watchdog alone
                    continue
            self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)
                out.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.warning("the service manager does not hear us", error=str(error))


NOBODY = Notifier()
"""For a gateway that no service manager started."""


@contextlib.asynccontextmanager
async def told(notifier: Notifier, stop: asyncio.Event) -> AsyncIterator[None]:
    """Inside, the manager hears that we live, and that we stop once ``stop`` is set."""
    task = asyncio.create_task(notifier.watch(stop), name="service manager")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
