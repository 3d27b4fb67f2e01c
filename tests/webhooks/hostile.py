"""Hostile webhook servers: what they send is data, and they send it without end, in threads of their own.

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


class HostileResponse(NamedTuple):
    """What a server sends: ``first`` once, then ``again`` repeatedly, with a pause between."""

    first: bytes = b""
    again: bytes = b""
    pause: float = 0.0


_OK = b"HTTP/1.1 200 OK\r\n"
_LOT = 4096

ENDLESS = {
    "informational": HostileResponse(again=b"HTTP/1.1 100 Continue\r\n\r\n" * _LOT),
    "early hints": HostileResponse(again=b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * _LOT),
    "headers": HostileResponse(_OK, b"x-a: b\r\n" * _LOT),
    "one header": HostileResponse(_OK + b"x-a: ", b"b" * _LOT),
    "status line": HostileResponse(b"HTTP/1.1 200 ", b"O" * _LOT),
    "headers without a name": HostileResponse(_OK, b":" * _LOT),
    "blank lines": HostileResponse(again=b"\r\n" * _LOT),
    "slow status": HostileResponse(b"HTTP/1.1 200 ", b"O", pause=0.05),
    "slow headers": HostileResponse(_OK, b"x-a: b\r\n", pause=0.05),
    "slow informational": HostileResponse(again=b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.15),
    "silence": HostileResponse(pause=0.05),
}
"""Their headers never end: no status, a failure."""

UNENDING = {
    "body": HostileResponse(_OK + b"content-length: 1000000000\r\n\r\n", bytes(_LOT)),
    "body to the end of the connection": HostileResponse(_OK + b"\r\n", bytes(_LOT)),
    "chunks": HostileResponse(_OK + b"transfer-encoding: chunked\r\n\r\n", b"1\r\na\r\n" * _LOT),
    "one chunk": HostileResponse(_OK + b"transfer-encoding: chunked\r\n\r\nfffffff\r\n", b"a" * _LOT),
    "chunk extension": HostileResponse(_OK + b"transfer-encoding: chunked\r\n\r\n1;", b"a" * _LOT),
    "trailers": HostileResponse(_OK + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x-a: b\r\n" * _LOT),
    "answers": HostileResponse(_OK + b"content-length: 0\r\n\r\n", (_OK + b"content-length: 0\r\n\r\n") * _LOT),
    "slow body": HostileResponse(_OK + b"content-length: 1000\r\n\r\n", b"a", pause=0.05),
    "slow chunks": HostileResponse(_OK + b"transfer-encoding: chunked\r\n\r\n", b"1\r\na\r\n", pause=0.05),
    "slow trailers": HostileResponse(_OK + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x-a: b\r\n", pause=0.05),
}
"""They send 200 and then never end: the events were taken."""


def _serve(response: HostileResponse, connection: socket.socket, stop: threading.Event) -> None:
    with connection, contextlib.suppress(OSError):
        connection.settimeout(0.2)
        connection.recv(1 << 16)
        connection.sendall(response.first)
        while not stop.is_set():
            if response.again:
                with contextlib.suppress(TimeoutError):
                    connection.sendall(response.again)
            if response.pause:
                time.sleep(response.pause)


def _listen(
    response: HostileResponse, listening: socket.socket, stop: threading.Event, tls: ssl.SSLContext | None
) -> None:
    while not stop.is_set():
        with contextlib.suppress(OSError):
            connection, _ = listening.accept()
            if tls is not None:
                connection = tls.wrap_socket(connection, server_side=True)
            threading.Thread(target=_serve, args=(response, connection, stop), daemon=True).start()


@contextmanager
def hostile(response: HostileResponse, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Run a hostile server; yields its port."""
    stop = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.2)
    thread = threading.Thread(target=_listen, args=(response, listening, stop, tls), daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        stop.set()
        thread.join()
        listening.close()
