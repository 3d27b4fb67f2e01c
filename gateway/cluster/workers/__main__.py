"""A worker process: ``python -m gateway.cluster.workers NUMBER DESCRIPTOR``, started by the supervisor only.

Everything it needs is sent over the descriptor: no secret is on the command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

import structlog

from gateway import logs
from gateway.app import App
from gateway.cluster.workers.channel import (
    REPORT_EVERY,
    WorkerOrders,
    WorkerReport,
    encode_line,
    receive_orders,
)
from gateway.config import ConfigError
from gateway.open_store import connect_store
from gateway.runner import Interrupted, leaves, run
from gateway.store.errors import StoreError

FAILED, INTERRUPTED = 4, 130
log = structlog.get_logger(__name__)


def main(number: str, descriptor: str) -> int:
    """Run the worker and return its exit code."""
    structlog.contextvars.bind_contextvars(worker=number)
    channel = socket.socket(fileno=int(descriptor))
    try:
        orders = receive_orders(channel)
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
            channel.sendall(encode_line(WorkerReport("failed", "; ".join(map(str, causes)))))
        return FAILED
    return 0


async def work(orders: WorkerOrders, channel: socket.socket, stop: asyncio.Event) -> None:
    """Run a gateway until ``stop`` is set or the supervisor is gone. Raise as ``App.start`` does."""
    reader, writer = await asyncio.open_unix_connection(sock=channel)
    channel_tasks = [asyncio.create_task(_report_alive(writer)), asyncio.create_task(_watch(reader, stop))]
    try:
        async with connect_store(orders.config, orders.worker_identity.store) as (link, secrets):
            app = App(orders.config, link, secrets, worker_identity=orders.worker_identity)
            try:
                await app.start()
                _send(writer, WorkerReport("ready"))
                await app.run(stop)
            finally:
                await app.close()
    finally:
        for task in channel_tasks:
            task.cancel()
        writer.close()


async def _report_alive(writer: asyncio.StreamWriter) -> None:
    """Report every second that the event loop is running."""
    while True:
        _send(writer, WorkerReport())
        await asyncio.sleep(REPORT_EVERY)


def _send(writer: asyncio.StreamWriter, report: WorkerReport) -> None:
    """Send a report; do nothing when the supervisor is gone."""
    if not writer.is_closing():
        writer.write(encode_line(report))


async def _watch(reader: asyncio.StreamReader, stop: asyncio.Event) -> None:
    """Set ``stop`` when the supervisor's end of the channel closes."""
    with contextlib.suppress(ConnectionError):
        await reader.read()
    if not stop.is_set():
        log.warning("supervisor is gone, stopping")
        stop.set()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
