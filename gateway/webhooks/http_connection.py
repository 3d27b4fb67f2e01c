"""HTTP/1.1 to untrusted servers: one request at a time on a connection, every response bounded in all ways.

Of a response the status counts. At most ``INFORMATIONAL`` responses of 1xx may precede it, which with the headers have
at most ``HEAD`` octets. The rest is read so that the connection can be reused, ``RESPONSE`` octets in all (chunks and
trailers as they are on the wire) and for at most ``BODY_SECONDS``; what exceeds that is cut off and the status stands.
The event loop passes on data as it arrives, and the work for each piece has those bounds too, so the timers of the
timeouts always run. (A client that awaits message after message never yields while there is a next one: a server that
sends nothing but ``100 Continue`` blocks its whole process.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, cast

import httptools

INFORMATIONAL = 10
HEAD = 16 * 1024
RESPONSE = 64 * 1024
BODY_SECONDS = 1.0


class HttpResponse(NamedTuple):
    """The status of a response. 0: there was none, ``fault`` says why."""

    status: int
    fault: str = ""
    retry_after: str = ""
    closed_silently: bool = False  # the server closed the connection without sending an octet


class UnboundedResponse(Exception):
    """A response that exceeds a bound."""


class HttpConnection(asyncio.Protocol):
    """A connection to one server: ``send`` may be called whenever it is ``idle``."""

    def __init__(self, lost: Callable[[HttpConnection], None], *, idle_seconds: float = 30.0) -> None:
        """``lost``: is called when the connection has ended."""
        self._loop = asyncio.get_running_loop()
        self._on_lost = lost
        self._idle_seconds = idle_seconds
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._response: asyncio.Future[HttpResponse] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._until = 0.0
        self._begin()

    def _begin(self) -> None:
        self._status = self._octets = self._informational = 0
        self._retry_after = ""
        self._complete = self._keep_alive = self._in_body = False

    def __repr__(self) -> str:
        state = "closed" if self._transport is None else "busy" if self._response else "idle"
        return f"<HttpConnection {state}>"

    @property
    def idle(self) -> bool:
        """Whether it is open and no request is under way."""
        return self._response is None and self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes, until: float) -> asyncio.Future[HttpResponse]:
        """Send a whole request. The future never fails; at ``until``, of the loop's time, it has timed out."""
        self._begin()
        response = self._response = self._loop.create_future()
        if self._transport is None:
            self._settle(HttpResponse(0, "the server closed the connection", closed_silently=True))
            return response
        self._until = until
        self._set_timer(until, self._time_out)
        self._transport.write(request)
        return response

    def cut(self) -> None:
        """Close it now, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    def _set_timer(self, at: float, callback: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, callback)

    def _time_out(self) -> None:
        self._end("timed out")

    def _end(self, fault: str, *, closed: bool = False) -> None:
        """Read nothing more: the response is the status if it has arrived, else the fault."""
        self.cut()
        if self._status:
            self._settle(HttpResponse(self._status, "", self._retry_after))
        else:
            self._settle(HttpResponse(0, fault[:200], closed_silently=closed and not self._octets))

    def _settle(self, response: HttpResponse) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        future, self._response = self._response, None
        if future is not None and not future.done():
            future.set_result(response)

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own are no subclass of it

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        fault = f"{type(exc).__name__}: {exc}" if exc else "the server closed the connection before its response ended"
        self._end(fault, closed=True)
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        if self._response is None:
            self.cut()  # nothing was requested
            return
        try:
            if not self._status:
                room = HEAD - self._octets
                self._feed(data[:room])
                data = data[room:]
            if data and self._status:
                self._feed(data[: RESPONSE - self._octets])
        except httptools.HttpParserUpgrade:
            self._end("the server switched to another protocol")
        except httptools.HttpParserError as error:
            self._end(_fault(error))
        else:
            self._check_progress()

    def _feed(self, data: bytes) -> None:
        self._octets += len(data)
        self._parser.feed_data(data)

    def _check_progress(self) -> None:
        """After some octets: the response is complete, too long, or its rest is still to come."""
        if self._complete and self._keep_alive:
            self._settle(HttpResponse(self._status, "", self._retry_after))
            self._set_timer(self._loop.time() + self._idle_seconds, self.cut)
        elif self._complete or self._octets >= (RESPONSE if self._status else HEAD):
            self._end(f"response headers of more than {HEAD} octets")
        elif self._status and not self._in_body:
            self._in_body = True
            self._set_timer(min(self._until, self._loop.time() + BODY_SECONDS), self._time_out)

    # -- httptools

    def on_message_begin(self) -> None:
        if self._complete:
            raise UnboundedResponse("more than one response to a request")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._status and len(name) == 11 and name.lower() == b"retry-after":
            self._retry_after = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200 or status == 101:
            self._status = status
            return
        self._informational += 1
        self._retry_after = ""
        if self._informational > INFORMATIONAL:
            raise UnboundedResponse(f"more than {INFORMATIONAL} informational responses (1xx) and no other")

    def on_message_complete(self) -> None:
        if self._status:
            self._complete, self._keep_alive = True, self._parser.should_keep_alive()


def _fault(error: httptools.HttpParserError) -> str:
    """Say what is wrong with a response.

    Not in ``data_received``: an exception in one of its variables refers to its frame and would keep what was received
    in memory until the next full garbage collection.
    """
    cause = error.__context__
    return str(cause) if isinstance(cause, UnboundedResponse) else f"no HTTP response: {error}"
