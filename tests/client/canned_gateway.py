"""An HTTP server that gives the responses a test has prepared and records the requests."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

NO_RESPONSE = "no response"
"""In place of a reply: the connection is closed after the request was read."""


class ReceivedRequest(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: Any


class CannedGateway:
    """``replies``: (status, body, headers) each, or NO_RESPONSE; ``requests``: those received."""

    def __init__(self) -> None:
        self.replies: list[Any] = []
        self.requests: list[ReceivedRequest] = []
        self.connections = 0
        self.url = ""

    def reply(self, status: int, body: object = None, **headers: str) -> None:
        self.replies.append((status, body, {name.replace("_", "-"): value for name, value in headers.items()}))

    def keys(self) -> list[str]:
        return [request.headers["idempotency-key"] for request in self.requests]


def _handler(gateway: CannedGateway) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            gateway.connections += 1

        def _answer(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            gateway.requests.append(
                ReceivedRequest(self.command, self.path, headers, json.loads(data) if data else None)
            )
            reply = gateway.replies.pop(0)
            if reply == NO_RESPONSE:
                self.close_connection = True
                return
            status, body, extra = reply
            text = body.encode() if isinstance(body, str) else b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            for name, value in extra.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_DELETE = _answer

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def opened() -> Iterator[CannedGateway]:
    gateway = CannedGateway()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(gateway))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    gateway.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield gateway
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
