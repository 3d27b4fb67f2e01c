"""How long the store takes to answer, by function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable
from time import perf_counter
from typing import Any

from gateway.histogram import Histogram
from gateway.store.errors import StoreError


class CallTimes:
    """Times round trips: ``seconds`` by function; ``errors`` by (function, class of the StoreError)."""

    def __init__(self) -> None:
        self.seconds: dict[str, Histogram] = {}
        self.errors: Counter[tuple[str, str]] = Counter()

    async def observe(self, function: str, round_trip: Awaitable[list[Any]]) -> list[Any]:
        """Return the replies of ``round_trip``, timed; StoreErrors among them, or raised by it, are counted."""
        start = perf_counter()
        try:
            replies = await round_trip
            self.errors.update((function, type(reply).__name__) for reply in replies if isinstance(reply, StoreError))
            return replies
        except StoreError as error:
            self.errors[function, type(error).__name__] += 1
            raise
        finally:
            times = self.seconds.get(function)
            if times is None:
                times = self.seconds[function] = Histogram()
            times.observe(perf_counter() - start)
