"""How long to wait before a receiver that does not take its events is tried again. Pure.

The wait is a tenth of the time the receiver has been failing for: after an outage of a minute its events come within
some six seconds, after one of an hour within six minutes. A quarter of jitter either way keeps queues apart.
"""

from __future__ import annotations

SHORTEST = 0.25
LONGEST = 900.0
LONGEST_ASKED = 6 * 3600.0
SHARE = 0.1
JITTER = 0.25


def wait(outage: float, random: float, asked: float = 0.0) -> float:
    """Seconds until the next try. ``outage``: seconds since the first failure in a row; ``random``: 0 to 1.

    ``asked``: the receiver's own wish (Retry-After), which counts up to six hours.
    """
    plain = min(LONGEST, max(SHORTEST, outage * SHARE)) * (1 - JITTER + 2 * JITTER * random)
    return max(plain, min(asked, LONGEST_ASKED))
