"""Decides when a bind is tried again: pure, seconds in, seconds out.

Full jitter, so that a thousand binds do not return at once.
"""

from __future__ import annotations

from enum import Enum

from gateway.smpp.status import CommandStatus


class BindFailure(Enum):
    """Why a bind is not up."""

    UNREACHABLE = "unreachable"  # refused, reset, timed out, no response to the bind
    REFUSED = "refused"  # the bind was answered with some status
    FORBIDDEN = "forbidden"  # password, system_id or system_type: the configuration must be corrected
    DROPPED = "dropped"  # it was up and worked; the carrier or the network ended it


FORBIDDEN = frozenset({CommandStatus.ESME_RINVPASWD, CommandStatus.ESME_RINVSYSID, CommandStatus.ESME_RINVSYSTYP})

UNREACHABLE_FIRST, UNREACHABLE_MOST = 0.5, 30.0
REFUSED_FIRST, REFUSED_MOST = 1.0, 60.0
FORBIDDEN_FIRST, FORBIDDEN_MOST = 60.0, 900.0
DROPPED_MOST = 0.5

PROVEN_AFTER = 10.0
"""Seconds after which a bind counts as having worked even if nothing was sent over it."""


def failure(refused: int | None, *, was_up: float, proven: bool) -> BindFailure:
    """Return the kind of failure. ``refused``: the bind's status, ``was_up``: its age in seconds (0 = never bound)."""
    if refused is not None:
        return BindFailure.FORBIDDEN if refused in FORBIDDEN else BindFailure.REFUSED
    return BindFailure.DROPPED if proven or was_up >= PROVEN_AFTER else BindFailure.UNREACHABLE


def delay(kind: BindFailure, tries: int, random: float) -> float:
    """Return seconds until the next try. ``tries``: failures of this kind in a row. ``random`` lies in [0, 1)."""
    doublings = 2.0 ** min(tries - 1, 16)
    match kind:
        case BindFailure.DROPPED:
            return DROPPED_MOST * random
        case BindFailure.UNREACHABLE:
            most = min(UNREACHABLE_MOST, 2 * UNREACHABLE_FIRST * doublings)
            return UNREACHABLE_FIRST + (most - UNREACHABLE_FIRST) * random
        case BindFailure.REFUSED:
            return min(REFUSED_MOST, REFUSED_FIRST * doublings) * (0.5 + 0.5 * random)
        case BindFailure.FORBIDDEN:
            return min(FORBIDDEN_MOST, FORBIDDEN_FIRST * doublings * (1 + 0.1 * random))
