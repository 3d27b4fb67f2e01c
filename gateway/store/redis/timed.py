"""How long the store takes: the connection as ``Store`` sees it, with a clock around every call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Sequence
from time import perf_counter
from typing import Any, Protocol

from gateway.histogram import Histogram
from gateway.store.errors import StoreError


class TimedCaller(Protocol):
    """What is measured (``gateway.store.redis.connection.StoreConnection``)."""

    async def call(self, partition: int, function: str, *args: Any) -> Any: ...
    async def calls(
        self, requests: Sequence[tuple[int, str, Sequence[Any]]], *, partial: bool = False
    ) -> list[Any]: ...
    async def commands(self, requests: Sequence[tuple[int, Sequence[Any]]]) -> list[Any]: ...


class TimedConnection:
    """Passes everything on. ``seconds`` by function, one observation a round trip; ``errors`` by (function, kind)."""

    def __init__(self, link: TimedCaller) -> None:
        self._link = link
        self.seconds: dict[str, Histogram] = {}
        self.errors: Counter[tuple[str, str]] = Counter()

    def __repr__(self) -> str:
        return f"<TimedConnection {self._link!r}>"

    async def call(self, partition: int, function: str, *args: Any) -> Any:
        """As the link's."""
        (reply,) = await self.calls([(partition, function, args)])
        return reply

    async def calls(self, requests: Sequence[tuple[int, str, Sequence[Any]]], *, partial: bool = False) -> list[Any]:
        """As the link's. All requests of one call are of one function, as ``Store`` makes them."""
        if not requests:
            return []
        return await self._timed(requests[0][1], self._link.calls(requests, partial=partial))

    async def commands(self, requests: Sequence[tuple[int, Sequence[Any]]]) -> list[Any]:
        """As the link's, under the name of the command. All requests of one call are of one command."""
        if not requests:
            return []
        return await self._timed(requests[0][1][0].decode().lower(), self._link.commands(requests))

    async def _timed(self, name: str, replies: Awaitable[list[Any]]) -> list[Any]:
        start = perf_counter()
        try:
            said = await replies
            self.errors.update((name, type(reply).__name__) for reply in said if isinstance(reply, StoreError))
            return said
        except StoreError as error:
            self.errors[name, type(error).__name__] += 1
            raise
        finally:
            seen = self.seconds.get(name)
            if seen is None:
                seen = self.seconds[name] = Histogram()
            seen.observe(perf_counter() - start)
