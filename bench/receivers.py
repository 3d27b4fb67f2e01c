"""Receivers of webhooks for a run: one that is well, and others that are dead in every way there is.

Runs as ``python -m bench.receivers FILE`` until SIGTERM; tells the URL of each kind and how much the healthy one was
given; how old each event was when it came goes to the file.
Standard library and plain sockets, so that it costs little of the machine it shares with what is measured.
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

from bench.children import say

KINDS = ("refuse", "blackhole", "mute", "drip", "500", "huge", "redirect", "close")
"""Ways to be dead: nobody listens; connections are never answered; they are taken, and nobody says a word; an octet of
the answer a second; an error each time; an answer without end; "go elsewhere"; hung up on."""

_hung_up = (ConnectionError, asyncio.IncompleteReadError)

Serve = Callable[[asyncio.StreamWriter], Awaitable[None]]


class _Event(msgspec.Struct):
    time: str


class Inbox:
    """What the healthy receiver was given: events, posts, and how old each event was when it came, ms."""

    def __init__(self) -> None:
        self.posts = 0
        self.ages = array("d")
        self._decode = msgspec.json.Decoder(list[_Event]).decode

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                body = await _request(reader)
                now, events = time.time(), self._decode(body or b"[]")
                self.posts += bool(events)
                self.ages.extend((now - datetime.fromisoformat(event.time).timestamp()) * 1000 for event in events)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        except _hung_up:
            writer.close()


async def _request(reader: asyncio.StreamReader) -> bytes:
    """The body of the next request. Raises IncompleteReadError when there is none."""
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


def _saying(text: bytes) -> Serve:
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
        except _hung_up:
            writer.close()

    return take


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _listen(take: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> str:
    server = await asyncio.start_server(take, "127.0.0.1", 0, limit=1 << 22)
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"


def _blackhole() -> tuple[str, list[socket.socket]]:
    """A port whose queue of connections is full: whoever dials it waits. The sockets must be kept."""
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
    """Until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    well = await _listen(inbox.take)
    hole, kept = _blackhole()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        urls = {
            "well": well,
            "refuse": f"http://127.0.0.1:{nobody.getsockname()[1]}/hook",
            "blackhole": hole,
            "mute": await _listen(_dead(_mute)),
            "drip": await _listen(_dead(_drip)),
            "500": await _listen(_dead(_saying(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"))),
            "huge": await _listen(_dead(_huge)),
            "redirect": await _listen(
                _dead(_saying(b"HTTP/1.1 302 No\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % well.encode()))
            ),
            "close": await _listen(_dead(_close)),
        }
        say(urls=urls, posts=0, events=0)
        told = 0
        while not stop.is_set():
            await asyncio.sleep(0.1)
            if len(inbox.ages) != told:
                told = len(inbox.ages)
                say(posts=inbox.posts, events=told)
    for one in kept:
        one.close()


def main() -> None:
    inbox = Inbox()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(inbox))
    Path(sys.argv[1]).write_bytes(inbox.ages.tobytes())


if __name__ == "__main__":
    main()
