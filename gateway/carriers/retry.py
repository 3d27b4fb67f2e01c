"""Decides what becomes of a message whose parts were answered: pure, one decision from the worst response.

The classes come from ``smpp.status`` (and a carrier's ``status_table``). Nothing here looks at a clock: delays are
seconds, and the caller's random number spreads them so that a thousand refused together do not return together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.model import Reason, Resolution
from gateway.smpp.status import VENDOR, RetryClass, classify

TRIES = 3
"""Tries of a temporary refusal (RSYSERR and its class) at one carrier before the next carrier gets the message."""

FEWER_TRIES = 2
"""Tries for vague statuses: RSUBMITFAIL, RUNKNOWNERR, the vendor range, undefined values, and lost framing."""

RETRY_DELAY = 10.0
"""Seconds before the second try; three times as long before each further one."""

RETRY_GROWTH = 3.0
RETRY_LIMIT = 600.0

QUEUE_FULL_DELAY = 30.0
"""Seconds after RMSGQFUL (one destination's queue, mostly); doubles up to ``QUEUE_FULL_LIMIT``, only expiry ends it."""

QUEUE_FULL_LIMIT = 300.0

SPREAD = 0.2
"""Delays vary by this share to either side."""

STEP_ASIDE_AFTER = {RetryClass.THROTTLE: 5, RetryClass.SESSION: 3}
"""How often one message is refused for the sake of pace or session before it counts as the cause."""

STEP_ASIDE, STEP_ASIDE_LIMIT = 5.0, 300.0
"""Seconds for which such a message lets others pass; doubles each time."""

_RANK = {
    RetryClass.SESSION: 1,
    RetryClass.THROTTLE: 2,
    RetryClass.QUEUE_FULL: 3,
    RetryClass.RETRY: 4,
    RetryClass.OTHER: 5,
    RetryClass.PERMANENT: 6,
    RetryClass.NOT_APPLICABLE: 6,
}
_INVALID_COMMAND_LENGTH = 0x02
_SUBMIT_FAILED = 0x45
_UNKNOWN_ERROR = 0xFF


class RetryDecision(NamedTuple):
    """The decision: what ``store.progress`` shall do, why, after how many seconds (RETRY only), on which status."""

    resolution: Resolution
    reason: Reason
    delay: float = 0.0
    status: int = 0


ACCEPTED = RetryDecision(Resolution.SENT, Reason.NONE)
UNANSWERED = RetryDecision(Resolution.UNKNOWN, Reason.NO_ANSWER)
UNWRITTEN = RetryDecision(Resolution.BACK, Reason.BIND_LOST)


def decide(
    refused: Sequence[int],
    *,
    unknown: bool = False,
    unwritten: bool = False,
    attempts: int = 0,
    last_place: bool = True,
    overrides: Mapping[int, RetryClass] | None = None,
    random: float = 0.5,
) -> RetryDecision:
    """Decide on a message from the statuses of its refused parts and whether any part is unknown or unwritten.

    ``attempts``: tries at this carrier before this one. ``last_place``: the route has no further carrier.
    An unknown part outranks everything, since the message may be on its way; then the worst refusal counts.
    """
    if unknown:
        return UNANSWERED
    if not refused:
        return UNWRITTEN if unwritten else ACCEPTED
    status, kind = worst(refused, overrides)
    return _by_class(status, kind, attempts, last_place, most=tries(status, overrides), random=random)


def _by_class(
    status: int, kind: RetryClass, attempts: int, last_place: bool, *, most: int, random: float
) -> RetryDecision:
    match kind:
        case RetryClass.THROTTLE:
            return RetryDecision(Resolution.BACK, Reason.THROTTLED, 0.0, status)
        case RetryClass.SESSION if status != _INVALID_COMMAND_LENGTH:
            return RetryDecision(Resolution.BACK, Reason.BIND_LOST, 0.0, status)
        case RetryClass.QUEUE_FULL:
            delay = min(QUEUE_FULL_LIMIT, QUEUE_FULL_DELAY * 2 ** min(attempts, 8))
            return RetryDecision(Resolution.RETRY, Reason.CARRIER_RETRY, spread(delay, random), status)
        case RetryClass.RETRY | RetryClass.SESSION:
            return _again(status, attempts, last_place, most, random)
        case RetryClass.OTHER if not last_place:
            return RetryDecision(Resolution.NEXT, Reason.NEXT_CARRIER, 0.0, status)
    return RetryDecision(Resolution.REJECTED, Reason.CARRIER_REFUSED, 0.0, status)


def step_aside(
    decision: RetryDecision,
    kind: RetryClass,
    times: int,
    attempts: int,
    last_place: bool,
    *,
    others: bool,
    random: float = 0.5,
) -> RetryDecision:
    """Return the decision on a message refused ``times`` times with a status that blames the pace or the session.

    At the head of its lane it would hold up or cut off everything behind it, again and again. ``others``: the carrier
    has accepted something else meanwhile. Then a throttled message waits as for a full queue of its recipient, and one
    that makes the carrier complain of the session is tried as often as after any temporary refusal, and no more.
    """
    over = times - STEP_ASIDE_AFTER.get(kind, times + 1)
    if over < 0 or (kind is RetryClass.THROTTLE and not others):
        return decision
    if kind is RetryClass.SESSION and others:
        return _again(decision.status, attempts, last_place, TRIES, random)
    delay = min(STEP_ASIDE_LIMIT, STEP_ASIDE * 2 ** min(over, 8))
    return RetryDecision(Resolution.RETRY, decision.reason, spread(delay, random), decision.status)


def worst(refused: Sequence[int], overrides: Mapping[int, RetryClass] | None = None) -> tuple[int, RetryClass]:
    """Return the status that decides, and its class."""
    found = max(refused, key=lambda status: _RANK.get(classify(status, overrides), 0))
    return found, classify(found, overrides)


def tries(status: int, overrides: Mapping[int, RetryClass] | None = None) -> int:
    """Return how many tries a temporary refusal gets at one carrier."""
    if overrides is not None and status in overrides:
        return TRIES
    vague = status in (_INVALID_COMMAND_LENGTH, _SUBMIT_FAILED, _UNKNOWN_ERROR) or status in VENDOR
    return FEWER_TRIES if vague or status > 0x112 else TRIES


def spread(delay: float, random: float) -> float:
    """Return ``delay`` moved by up to ``SPREAD`` to either side; ``random`` lies in [0, 1)."""
    return delay * (1 + SPREAD * (2 * random - 1))


def _again(status: int, attempts: int, last_place: bool, most: int, random: float) -> RetryDecision:
    """Decide on a temporary refusal: the same carrier later, then the next one, then failed."""
    if attempts + 1 < most:
        delay = min(RETRY_LIMIT, RETRY_DELAY * RETRY_GROWTH**attempts)
        return RetryDecision(Resolution.RETRY, Reason.CARRIER_RETRY, spread(delay, random), status)
    if last_place:
        return RetryDecision(Resolution.FAILED, Reason.RETRIES_EXHAUSTED, 0.0, status)
    return RetryDecision(Resolution.NEXT, Reason.NEXT_CARRIER, 0.0, status)
