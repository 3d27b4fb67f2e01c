"""Response times of a peer, and the response timeout derived from them."""

from __future__ import annotations

LONGEST = 60.0
"""Seconds: the longest timeout that a slow peer can lead to."""

MARGIN = 1.5
"""The timeout as a multiple of the 99.9th percentile of response times."""

KEPT_FOR = 300.0
"""Seconds of one generation of observations; the current and the previous one count."""

STEP = 1.15  # upper edge of a bucket, as a multiple of the one before


class ResponseTimes:
    """A histogram of one peer's response times, shared by its sessions and kept across reconnects.

    Responses within ``slow`` seconds are only counted (``count``); slower ones are also observed (``observe``).
    """

    def __init__(self, configured: float) -> None:
        self.configured = configured
        self.slow = configured / MARGIN
        self._edges = _edges(self.slow)
        self._now = [0] * len(self._edges)
        self._before = [0] * len(self._edges)
        self._answers = self._answers_before = 0
        self._since: float | None = None

    def __repr__(self) -> str:
        slow = sum(self._now) + sum(self._before)
        return f"<ResponseTimes {slow} of {self._answers + self._answers_before} slower than {self.slow:g} s>"

    def count(self, answers: int) -> None:
        """Add ``answers`` responses to the count, the slow ones included."""
        self._answers += answers

    def observe(self, seconds: float) -> None:
        """Record the time of one slow response; those within ``slow`` need not be recorded."""
        for number, edge in enumerate(self._edges):
            if seconds <= edge:
                self._now[number] += 1
                return
        if self._edges:
            self._now[-1] += 1

    def timeout(self, now: float) -> float:
        """Return seconds to wait for a response: 1.5 times the 99.9th percentile, from ``configured`` to 60 s."""
        self._rotate(now)
        left = (self._answers + self._answers_before) // 1000  # this many may be slower
        for number in range(len(self._edges) - 1, -1, -1):
            left -= self._now[number] + self._before[number]
            if left < 0:
                return max(self.configured, min(LONGEST, self._edges[number] * MARGIN))
        return self.configured

    def _rotate(self, now: float) -> None:
        if self._since is None:
            self._since = now
        while now - self._since >= KEPT_FOR:
            self._since = max(self._since + KEPT_FOR, now - KEPT_FOR)
            self._before, self._now = self._now, [0] * len(self._edges)
            self._answers_before, self._answers = self._answers, 0


def _edges(slow: float) -> list[float]:
    """Return the upper edges of the buckets, the last at or beyond the longest timeout."""
    edges, edge = [], slow
    while edge < LONGEST:
        edge *= STEP
        edges.append(edge)
    return edges
