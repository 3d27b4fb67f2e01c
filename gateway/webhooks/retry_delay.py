"""How long to wait before a failing endpoint is tried again. Pure.

The wait is a tenth of the time the endpoint has been failing: after an outage of a minute its events come within some
six seconds, after one of an hour within six minutes. A quarter of jitter either way keeps queues apart.
"""

from __future__ import annotations

SHORTEST = 0.25
LONGEST = 900.0
LONGEST_REQUESTED = 6 * 3600.0
SHARE = 0.1
JITTER = 0.25


def retry_delay(outage: float, random: float, requested: float = 0.0) -> float:
    """Return the seconds until the next try.

    ``outage``: seconds since the first failure in a row; ``random``: 0 to 1; ``requested``: the endpoint's own
    Retry-After in seconds, honoured up to six hours.
    """
    plain = min(LONGEST, max(SHORTEST, outage * SHARE)) * (1 - JITTER + 2 * JITTER * random)
    return max(plain, min(requested, LONGEST_REQUESTED))
