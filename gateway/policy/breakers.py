"""Thresholds of breakers: too many opt-outs pause a scope, too many complaints pull a template.

Arithmetic only. A tripped breaker is a flag in the store, copied to every partition, and reaches policy in the
rulebook.
"""

from __future__ import annotations

from typing import NamedTuple

MINIMUM_SAMPLE = 200
"""Deliveries below which a rate is not significant."""


class Threshold(NamedTuple):
    """Largest allowed share, among at least ``minimum`` deliveries."""

    share: float
    minimum: int = MINIMUM_SAMPLE


OPT_OUTS_A_DAY = Threshold(0.005)
COMPLAINTS_A_MONTH = Threshold(0.003)
COMPLAINTS_PER_TEMPLATE = 5


def tripped(events: int, delivered: int, threshold: Threshold) -> bool:
    """Whether opt-outs or complaints attributed to deliveries exceed the share."""
    return delivered >= threshold.minimum and events > threshold.share * delivered


def pulled(complaints: int) -> bool:
    """Whether a template has too many complaints."""
    return complaints > COMPLAINTS_PER_TEMPLATE
