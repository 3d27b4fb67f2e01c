"""A worker's process: ``python -m gateway.cluster.workers NUMBER DESCRIPTOR``, started by the supervisor and nobody
else.

All it needs to know comes over the descriptor: nothing secret stands on the command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

import structlog

from gateway import logs
from gateway.app import App, linked
from gateway.cluster.workers.channel import BEAT_EVERY, WorkerOrders, WorkerReport, line, receive
from gateway.config import ConfigError
from gateway.runner import Interrupted, leaves, run
from gateway.store.errors import StoreError

FAILED, INTERRUPTED = 4, 130
log = structlog.get_logger(__name__)


def main(number: str, descriptor: str) -> int:
    """The exit code."""
    structlog.contextvars.bind_contextvars(worker=number)
    channel = socket.socket(fileno=int(descriptor))
    try:
        orders = receive(channel)
        logs.configure(orders.config.log.level, orders.config.log.format)
        run(lambda stop: work(orders, channel.dup(), stop))
    except EOFError:
        return FAILED
    except Interrupted:
        return INTERRUPTED
    except (ConfigError, StoreError, OSError, ExceptionGroup) as error:
        causes = list(leaves(error))
        if not all(isinstance(cause, ConfigError | StoreError | OSError) for cause in causes):
            raise
        with contextlib.suppress(OSError):
            channel.sendall(line(WorkerReport("failed", "; ".join(map(str, causes)))))
        return FAILED
    return 0


async def work(orders: WorkerOrders, channel: socket.socket, stop: asyncio.Event) -> None:
    """Be a gateway until ``stop`` is set or the supervisor is gone. Raises as ``App.start``."""
    reader, writer = await asyncio.open_unix_connection(sock=channel)
    company = [asyncio.create_task(_beat(writer)), asyncio.create_task(_watch(reader, stop))]
    try:
        async with linked(orders.config, orders.worker_identity.store) as (link, secrets):
            app = App(orders.config, link, secrets, worker_identity=orders.worker_identity)
            try:
                await app.start()
                _say(writer, WorkerReport("ready"))
                await app.run(stop)
            finally:
                await app.close()
    finally:
        for task in company:
            task.cancel()
        writer.close()


async def _beat(writer: asyncio.StreamWriter) -> None:
    """Tell that the loop turns."""
    while True:
        _say(writer, WorkerReport())
        await asyncio.sleep(BEAT_EVERY)


def _say(writer: asyncio.StreamWriter, word: WorkerReport) -> None:
    """To a supervisor that is gone, nothing."""
    if not writer.is_closing():
        writer.write(line(word))


async def _watch(reader: asyncio.StreamReader, stop: asyncio.Event) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read()
    if not stop.is_set():
        log.warning("the supervisor is gone: stopping in order")
        stop.set()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
