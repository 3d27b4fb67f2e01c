"""Receivers of webhooks that mean no good: what they say is data, and they say it without end, in threads of their own.

In threads, so that they go on whatever the loop under test does.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Habit(NamedTuple):
    """What a receiver says: once, then again and again, with a pause between."""

    first: bytes = b""
    again: bytes = b""
    pause: float = 0.0


_OK = b"HTTP/1.1 200 OK\r\n"
_LOT = 4096

ENDLESS = {
    "informational": Habit(again=b"HTTP/1.1 100 Continue\r\n\r\n" * _LOT),
    "early hints": Habit(again=b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * _LOT),
    "headers": Habit(_OK, b"x-a: b\r\n" * _LOT),
    "one header": Habit(_OK + b"x-a: ", b"b" * _LOT),
    "status line": Habit(b"HTTP/1.1 200 ", b"O" * _LOT),
    "headers without a name": Habit(_OK, b":" * _LOT),
    "blank lines": Habit(again=b"\r\n" * _LOT),
    "slow status": Habit(b"HTTP/1.1 200 ", b"O", pause=0.05),
    "slow headers": Habit(_OK, b"x-a: b\r\n", pause=0.05),
    "slow informational": Habit(again=b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.15),
    "silence": Habit(pause=0.05),
}
"""They never come to their headers' end: no status, a failure."""

UNENDING = {
    "body": Habit(_OK + b"content-length: 1000000000\r\n\r\n", bytes(_LOT)),
    "body to the end of the connection": Habit(_OK + b"\r\n", bytes(_LOT)),
    "chunks": Habit(_OK + b"transfer-encoding: chunked\r\n\r\n", b"1\r\na\r\n" * _LOT),
    "one chunk": Habit(_OK + b"transfer-encoding: chunked\r\n\r\nfffffff\r\n", b"a" * _LOT),
    "chunk extension": Habit(_OK + b"transfer-encoding: chunked\r\n\r\n1;", b"a" * _LOT),
    "trailers": Habit(_OK + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x-a: b\r\n" * _LOT),
    "answers": Habit(_OK + b"content-length: 0\r\n\r\n", (_OK + b"content-length: 0\r\n\r\n") * _LOT),
    "slow body": Habit(_OK + b"content-length: 1000\r\n\r\n", b"a", pause=0.05),
    "slow chunks": Habit(_OK + b"transfer-encoding: chunked\r\n\r\n", b"1\r\na\r\n", pause=0.05),
    "slow trailers": Habit(_OK + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x-a: b\r\n", pause=0.05),
}
"""They say 200, and then they never end: the events were taken."""


def _serve(habit: Habit, connection: socket.socket, stop: threading.Event) -> None:
    with connection, contextlib.suppress(OSError):
        connection.settimeout(0.2)
        connection.recv(1 << 16)
        connection.sendall(habit.first)
        while not stop.is_set():
            if habit.again:
                with contextlib.suppress(TimeoutError):
                    connection.sendall(habit.again)
            if habit.pause:
                time.sleep(habit.pause)


def _listen(habit: Habit, listening: socket.socket, stop: threading.Event, tls: ssl.SSLContext | None) -> None:
    while not stop.is_set():
        with contextlib.suppress(OSError):
            connection, _ = listening.accept()
            if tls is not None:
                connection = tls.wrap_socket(connection, server_side=True)
            threading.Thread(target=_serve, args=(habit, connection, stop), daemon=True).start()


@contextmanager
def hostile(habit: Habit, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Its port."""
    stop = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.2)
    thread = threading.Thread(target=_listen, args=(habit, listening, stop, tls), daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        stop.set()
        thread.join()
        listening.close()
