"""How long a peer takes to answer, and the time-out that follows from it."""

from __future__ import annotations

LONGEST = 60.0
"""Seconds: no request is waited for longer because its peer is slow."""

MARGIN = 1.5
"""The time-out is so many times what 999 of 1,000 answers take."""

KEPT_FOR = 300.0
"""Seconds after which a generation of observations becomes the old one; the old one counts as well."""

STEP = 1.15  # each bucket reaches so much further than the one before it


class ResponseTimes:
    """Answers to one peer's requests by their age. Sessions may share it, and a reconnect keeps what was learnt.

    Answers that come within ``slow`` seconds say nothing but that they came: ``count`` them, ``observe`` the others.
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
        """So many answers came, the slow ones among them."""
        self._answers += answers

    def observe(self, seconds: float) -> None:
        """One answer took so long; what is within ``slow`` need not be told."""
        for number, edge in enumerate(self._edges):
            if seconds <= edge:
                self._now[number] += 1
                return
        if self._edges:
            self._now[-1] += 1

    def timeout(self, now: float) -> float:
        """Seconds to wait for an answer: what is configured, or 1.5 times the 99.9th percentile, 60 s at most."""
        self._turn(now)
        left = (self._answers + self._answers_before) // 1000  # so many may be slower
        for number in range(len(self._edges) - 1, -1, -1):
            left -= self._now[number] + self._before[number]
            if left < 0:
                return max(self.configured, min(LONGEST, self._edges[number] * MARGIN))
        return self.configured

    def _turn(self, now: float) -> None:
        if self._since is None:
            self._since = now
        while now - self._since >= KEPT_FOR:
            self._since = max(self._since + KEPT_FOR, now - KEPT_FOR)
            self._before, self._now = self._now, [0] * len(self._edges)
            self._answers_before, self._answers = self._answers, 0


def _edges(slow: float) -> list[float]:
    """Upper ends of the buckets, the last at the age beyond which nothing is waited for."""
    edges, edge = [], slow
    while edge < LONGEST:
        edge *= STEP
        edges.append(edge)
    return edges
