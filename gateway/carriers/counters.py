"""Counters of a carrier for operators: added to once a batch, read at a scrape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from gateway.histogram import SLOW, Histogram, sample
from gateway.model import Category
from gateway.store.ids import time_of


class CarrierCounters:
    """Counters of one carrier. ``resolutions`` counts messages, the others count parts."""

    __slots__ = ("accepted", "answer", "lost", "refused", "resent", "resolutions", "submit", "unwritten")

    def __init__(self) -> None:
        self.accepted = 0  # submit_sm answered with status 0
        self.refused: Counter[int] = Counter()  # … with another status, by status
        self.lost = 0  # … never answered
        self.resent = 0  # parts sent once more, which may be delivered twice
        self.unwritten = 0  # parts that never left
        self.resolutions: Counter[tuple[int, int]] = Counter()  # results of messages except SENT: (resolution, reason)
        self.submit = {category: Histogram(SLOW) for category in Category}  # from acceptance to submit_sm
        self.answer = Histogram()  # from submit_sm to its response

    def __repr__(self) -> str:
        return f"<CarrierCounters {self.accepted} accepted, {sum(self.refused.values())} refused, {self.lost} lost>"

    def answered(self, answers: Sequence[Any], now: float, clock: int) -> None:
        """Observe how long the submits of a batch of responses (``smpp.events.Answered``) had taken.

        ``now`` is the loop's time (seconds), ``clock`` the same instant in ms UTC.
        """
        for (context, *_), weight in sample(answers):
            message = context[0]
            took = now - message.started
            self.answer.observe(took, weight)
            leased = message.leased
            self.submit[leased.category].observe(max(0.0, (clock - time_of(leased.id)) / 1000 - took), weight)
