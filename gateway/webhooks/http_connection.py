"""HTTP/1.1 towards servers that nobody trusts: one request at a time on a connection, and answers bounded in all ways.

Of an answer the status counts. Before it come at most ``INFORMATIONAL`` answers of 1xx, which with the headers have at
most ``HEAD`` octets. What follows is read so that the connection may be used again, ``ANSWER`` octets in all (chunks
and trailers as they lie on the wire) and for at most ``BODY_SECONDS``; what exceeds that is cut off and the status
stands. The event loop hands over what arrives piece by piece, and the work for each piece has those bounds too, so the
timers of the time-outs always run. (A client that awaits message after message never yields while there is a next one:
a server that sends nothing but ``100 Continue`` holds up its whole process.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, cast

import httptools

INFORMATIONAL = 10
HEAD = 16 * 1024
ANSWER = 64 * 1024
BODY_SECONDS = 1.0


class HttpResponse(NamedTuple):
    """``status`` 0: there was none, ``fault`` says why."""

    status: int
    fault: str = ""
    retry_after: str = ""
    unheard: bool = False  # the server hung up before it said anything


class UnboundedResponse(Exception):
    """An answer that has no end in sight."""


class HttpConnection(asyncio.Protocol):
    """A connection to one server: ``ask`` may be called whenever it is ``idle``."""

    def __init__(self, lost: Callable[[HttpConnection], None], *, idle_seconds: float = 30.0) -> None:
        """``lost`` hears of its end."""
        self._loop = asyncio.get_running_loop()
        self._lost = lost
        self._idle_seconds = idle_seconds
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._asked: asyncio.Future[HttpResponse] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._until = 0.0
        self._begin()

    def _begin(self) -> None:
        self._status = self._octets = self._informational = 0
        self._retry_after = ""
        self._complete = self._keeps = self._lingers = False

    def __repr__(self) -> str:
        state = "closed" if self._transport is None else "busy" if self._asked else "idle"
        return f"<HttpConnection {state}>"

    @property
    def idle(self) -> bool:
        """It is open and nothing is asked on it."""
        return self._asked is None and self._transport is not None and not self._transport.is_closing()

    def ask(self, request: bytes, until: float) -> asyncio.Future[HttpResponse]:
        """Send a whole request. The future never fails; at ``until``, of the loop's time, it has timed out."""
        self._begin()
        asked = self._asked = self._loop.create_future()
        if self._transport is None:
            self._settle(HttpResponse(0, "the server hung up", unheard=True))
            return asked
        self._until = until
        self._plan(until, self._late)
        self._transport.write(request)
        return asked

    def cut(self) -> None:
        """Close it now, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    def _plan(self, at: float, what: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, what)

    def _late(self) -> None:
        self._end("timed out")

    def _end(self, fault: str, *, hung_up: bool = False) -> None:
        """Nothing more is read: the answer is the status if it has come, else the fault."""
        self.cut()
        if self._status:
            self._settle(HttpResponse(self._status, "", self._retry_after))
        else:
            self._settle(HttpResponse(0, fault[:200], unheard=hung_up and not self._octets))

    def _settle(self, answer: HttpResponse) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        asked, self._asked = self._asked, None
        if asked is not None and not asked.done():
            asked.set_result(answer)

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own are no subclass of it

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        fault = f"{type(exc).__name__}: {exc}" if exc else "the server hung up before its answer was complete"
        self._end(fault, hung_up=True)
        self._lost(self)

    def data_received(self, data: bytes) -> None:
        if self._asked is None:
            self.cut()  # nothing was asked
            return
        try:
            if not self._status:
                room = HEAD - self._octets
                self._feed(data[:room])
                data = data[room:]
            if data and self._status:
                self._feed(data[: ANSWER - self._octets])
        except httptools.HttpParserUpgrade:
            self._end("the server wants to speak another protocol")
        except httptools.HttpParserError as error:
            self._end(
                str(error.__context__)
                if isinstance(error.__context__, UnboundedResponse)
                else f"no HTTP answer: {error}"
            )
        else:
            self._go_on()

    def _feed(self, data: bytes) -> None:
        self._octets += len(data)
        self._parser.feed_data(data)

    def _go_on(self) -> None:
        """After some octets: the answer is complete, too long, or it is waited for the rest."""
        if self._complete and self._keeps:
            self._settle(HttpResponse(self._status, "", self._retry_after))
            self._plan(self._loop.time() + self._idle_seconds, self.cut)
        elif self._complete or self._octets >= (ANSWER if self._status else HEAD):
            self._end(f"its answer has more than {HEAD} octets of headers")
        elif self._status and not self._lingers:
            self._lingers = True
            self._plan(min(self._until, self._loop.time() + BODY_SECONDS), self._late)

    # -- httptools

    def on_message_begin(self) -> None:
        if self._complete:
            raise UnboundedResponse("it answers more than was asked")

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
            raise UnboundedResponse(f"more than {INFORMATIONAL} informational answers (1xx) and no other")

    def on_message_complete(self) -> None:
        if self._status:
            self._complete, self._keeps = True, self._parser.should_keep_alive()
