"""What policy decides by: the laws, the operator's settings and the breakers that are open, with a version.

Immutable: a reload or a flag makes a new one (``with_flags``). Whoever holds one decides by it to the end of its batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

from gateway.model import Category
from gateway.policy.content import MAX_SEGMENTS
from gateway.policy.quiet_hours import Dated, Hours, Law, daily
from gateway.policy.velocity import VelocityTable

NO_VELOCITIES = VelocityTable()

T = TypeVar("T")

DEFAULT = daily("default", 8 * 60, 23 * 60)
"""No advertising from 23:00 to 08:00, wherever no law is stricter."""

Limits = tuple[tuple[int, int], ...]
"""Caps as (limit, rolling seconds)."""

ByCategory = tuple[T, T, T, T]
"""One value a category, at the place its number names (a dict of enums would cost a microsecond a decision)."""


def by_category(*, otp: T, transactional: T, marketing: T, emergency: T) -> ByCategory[T]:
    """A ``ByCategory``."""
    named = {"OTP": otp, "TRANSACTIONAL": transactional, "MARKETING": marketing, "EMERGENCY": emergency}
    first, second, third, fourth = (named[category.name] for category in sorted(Category))
    return first, second, third, fourth


OTP_CAPS: Limits = ((1, 60), (5, 3600), (10, 86_400))
"""Anti-bombing: one-time passwords per number."""

_HOUR = 3_600_000
EXPIRY = by_category(otp=_HOUR // 6, transactional=24 * _HOUR, marketing=72 * _HOUR, emergency=24 * _HOUR)
"""How long (ms) a message waits at most when it does not say so itself."""

NO_LIMITS: Limits = ()
CAPS = by_category(otp=OTP_CAPS, transactional=NO_LIMITS, marketing=NO_LIMITS, emergency=NO_LIMITS)


@dataclass(frozen=True)
class Rulebook:
    """The rules in force."""

    version: str = "builtin"
    epoch: int = 0  # a message decided under an older one is decided again when it is taken
    default: Hours = DEFAULT
    countries: Mapping[str, tuple[Law, ...]] = field(default_factory=dict)  # ISO country -> laws of any date
    prefixes: Mapping[str, tuple[Law, ...]] = field(default_factory=dict)  # digits a number starts with -> laws
    caps: ByCategory[Limits] = CAPS
    expiry: ByCategory[int] = EXPIRY
    on_quiet: str = "defer"  # or "reject", for messages that do not say
    default_zone: str = ""  # for numbers without one; "" = refuse their marketing
    max_segments: int = MAX_SEGMENTS
    velocity: VelocityTable = NO_VELOCITIES  # for every account
    allow_prefixes: tuple[str, ...] = ()  # digits: dear numbers that may be written to
    held: frozenset[bytes] = frozenset()  # scopes (8 octets) whose breaker is open
    pulled: frozenset[bytes] = frozenset()  # scopes of pulled templates

    @cached_property
    def _prefix_lengths(self) -> tuple[int, ...]:
        return tuple(sorted({len(prefix) for prefix in self.prefixes}, reverse=True))

    @cached_property
    def _profiles(self) -> dict[tuple[str, str], Hours]:
        return {}

    def profile(self, digits: str, region: str) -> Hours:
        """The hours that hold for a number, on each local day: those of the longest listed prefix that has a law in
        force, else the country's, else the default.
        """
        for length in self._prefix_lengths:
            prefix = digits[:length]
            if prefix in self.prefixes:
                return self._hours(prefix, region)
        return self._hours("", region)

    def _hours(self, prefix: str, region: str) -> Hours:
        """Made once for each prefix and country: by their identity calendars are kept."""
        found = self._profiles.get((prefix, region))
        if found is None:
            found = self.default
            shorter = [self.prefixes.get(prefix[:length], ()) for length in range(1, len(prefix) + 1)]
            for laws in (self.countries.get(region, ()), *shorter):
                found = Dated(laws, found) if laws else found
            self._profiles[prefix, region] = found
        return found

    def with_flags(self, epoch: int, held: Iterable[bytes] = (), pulled: Iterable[bytes] = ()) -> Rulebook:
        """The same rules under other flags."""
        return replace(self, epoch=epoch, held=frozenset(held), pulled=frozenset(pulled))
