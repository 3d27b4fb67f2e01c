"""Notify systemd of a service of ``Type=notify``: ready, reloading, stopping, watchdog (sd_notify(3)).

One datagram to the socket named in the environment; without one, nothing happens. Errors are logged, never raised.
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
    """Notifies the service manager. ``address``: its socket, "@…" in the abstract namespace, "" for none; ``watchdog``:
    seconds within which it expects a notification, 0 for none."""

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog = watchdog

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> Notifier:
        """Return the notifier of ``environment`` and remove its variables, which child processes must not inherit."""
        address = environment.pop("NOTIFY_SOCKET", "")
        period, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        ours = period.isdigit() and pid in ("", str(os.getpid()))
        return cls(address, int(period) / 1e6 if ours else 0.0)

    def ready(self, status: str) -> None:
        """Report that messages are accepted, or that a new configuration is in force."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Report that the configuration is being reloaded; ``ready`` follows in any case."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Report that no more messages are accepted and the gateway shuts down."""
        self._send("STOPPING=1", "STATUS=stopping: draining windows")

    async def watch(self, stop: asyncio.Event) -> None:
        """Send watchdog notifications in time until cancelled; report once that the gateway stops."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.watchdog / 2 or None):
                    await stop.wait()
                    self.stopping()
                    stop = asyncio.Event()  # reported; from now on watchdog only
                    continue
            self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)
                out.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.warning("service manager notification failed", error=str(error))


NO_MANAGER = Notifier()
"""For a gateway not started by a service manager."""


@contextlib.asynccontextmanager
async def notifying(notifier: Notifier, stop: asyncio.Event) -> AsyncIterator[None]:
    """Run ``notifier.watch(stop)`` while inside."""
    task = asyncio.create_task(notifier.watch(stop), name="service manager")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
