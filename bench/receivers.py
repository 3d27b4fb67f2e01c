"""Webhook receivers for a run: a healthy one, and one for each way of being dead.

Runs as ``python -m bench.receivers FILE`` until SIGTERM; reports the URL of each kind and counts of the healthy one;
the age of each event on arrival goes to the file. It uses plain sockets, since it shares the machine with what is
measured.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from array import array
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

import msgspec
import uvloop

from bench.children import report

KINDS = ("refuse", "blackhole", "mute", "drip", "500", "huge", "redirect", "close")
"""Ways of being dead: refused connection; connection never accepted; accepted, but no response; one octet of the
response per second; an error each time; a response without end; a redirect; connection closed."""

_DISCONNECTED = (ConnectionError, asyncio.IncompleteReadError)

Serve = Callable[[asyncio.StreamWriter], Awaitable[None]]


class _Event(msgspec.Struct):
    time: str


class Inbox:
    """What the healthy receiver received: POSTs, and the age of each event on arrival, ms."""

    def __init__(self) -> None:
        self.posts = 0
        self.ages = array("d")
        self._decode = msgspec.json.Decoder(list[_Event]).decode

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            while True:
                body = await _request(reader)
                now, events = time.time(), self._decode(body or b"[]")
                self.posts += bool(events)
                self.ages.extend((now - datetime.fromisoformat(event.time).timestamp()) * 1000 for event in events)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        except _DISCONNECTED:
            writer.close()


async def _request(reader: asyncio.StreamReader) -> bytes:
    """Return the body of the next request. Raises IncompleteReadError if there is none."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    at = head.find(b"\r\ncontent-length:")
    return await reader.readexactly(int(head[at + 17 :].split(b"\r\n", 1)[0])) if at >= 0 else b""


async def _mute(_writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def _drip(writer: asyncio.StreamWriter) -> None:
    for octet in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" * 100:
        writer.write(bytes([octet]))
        await asyncio.sleep(1)


async def _huge(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 1000000000\r\n\r\n")
    while True:
        writer.write(bytes(1 << 16))
        await writer.drain()


def _responding(text: bytes) -> Serve:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()

    return answer


def _dead(serve: Serve) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await _request(reader)
                await serve(writer)
        except _DISCONNECTED:
            writer.close()

    return take


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _listen(take: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> str:
    server = await asyncio.start_server(take, "127.0.0.1", 0, limit=1 << 22)
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"


def _blackhole() -> tuple[str, list[socket.socket]]:
    """Return a port whose accept queue is full, so that connecting to it waits; keep the sockets open."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    waiting = []
    for _ in range(8):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(listening.getsockname())
        waiting.append(one)
    return f"http://127.0.0.1:{listening.getsockname()[1]}/hook", [listening, *waiting]


async def serve(inbox: Inbox) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    healthy = await _listen(inbox.take)
    hole, kept = _blackhole()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        urls = {
            "healthy": healthy,
            "refuse": f"http://127.0.0.1:{unused.getsockname()[1]}/hook",
            "blackhole": hole,
            "mute": await _listen(_dead(_mute)),
            "drip": await _listen(_dead(_drip)),
            "500": await _listen(_dead(_responding(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"))),
            "huge": await _listen(_dead(_huge)),
            "redirect": await _listen(
                _dead(_responding(b"HTTP/1.1 302 No\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % healthy.encode()))
            ),
            "close": await _listen(_dead(_close)),
        }
        report(urls=urls, posts=0, events=0)
        reported = 0
        while not stop.is_set():
            await asyncio.sleep(0.1)
            if len(inbox.ages) != reported:
                reported = len(inbox.ages)
                report(posts=inbox.posts, events=reported)
    for one in kept:
        one.close()


def main() -> None:
    inbox = Inbox()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(inbox))
    Path(sys.argv[1]).write_bytes(inbox.ages.tobytes())


if __name__ == "__main__":
    main()
