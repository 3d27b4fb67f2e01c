"""The rulebook of policy: laws, operator settings and open breakers, with a version.

Immutable: a reload or a flag makes a new one (``with_flags``), and a batch is decided by one rulebook throughout.
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
"""No marketing from 23:00 to 08:00, where no law is in force."""

Limits = tuple[tuple[int, int], ...]
"""Caps as (limit, rolling seconds)."""

ByCategory = tuple[T, T, T, T]
"""One value per category, indexed by its number (a dict of enums would cost a microsecond a decision)."""


def by_category(*, otp: T, transactional: T, marketing: T, emergency: T) -> ByCategory[T]:
    """Return a ``ByCategory``."""
    named = {"OTP": otp, "TRANSACTIONAL": transactional, "MARKETING": marketing, "EMERGENCY": emergency}
    first, second, third, fourth = (named[category.name] for category in sorted(Category))
    return first, second, third, fourth


OTP_CAPS: Limits = ((1, 60), (5, 3600), (10, 86_400))
"""Anti-bombing: one-time passwords per number."""

_HOUR = 3_600_000
EXPIRY = by_category(otp=_HOUR // 6, transactional=24 * _HOUR, marketing=72 * _HOUR, emergency=24 * _HOUR)
"""Longest time (ms) that a message without its own expiry waits."""

NO_LIMITS: Limits = ()
CAPS = by_category(otp=OTP_CAPS, transactional=NO_LIMITS, marketing=NO_LIMITS, emergency=NO_LIMITS)


@dataclass(frozen=True)
class Rulebook:
    """The rules in force."""

    version: str = "builtin"
    epoch: int = 0  # a message decided under an older epoch is decided again when taken
    default: Hours = DEFAULT
    countries: Mapping[str, tuple[Law, ...]] = field(default_factory=dict)  # ISO country -> laws of any date
    prefixes: Mapping[str, tuple[Law, ...]] = field(default_factory=dict)  # leading digits of a number -> laws
    caps: ByCategory[Limits] = CAPS
    expiry: ByCategory[int] = EXPIRY
    on_quiet: str = "defer"  # or "reject"; a message may choose
    default_zone: str = ""  # for numbers without one; "" = refuse their marketing
    max_segments: int = MAX_SEGMENTS
    velocity: VelocityTable = NO_VELOCITIES  # for every account
    allow_prefixes: tuple[str, ...] = ()  # digits: expensive ranges that may be sent to
    held: frozenset[bytes] = frozenset()  # scopes (8 octets) whose breaker is open
    pulled: frozenset[bytes] = frozenset()  # scopes of pulled templates
    restored: int = 0  # ms UTC; what was accepted earlier is held, as the store was restored from a backup

    @cached_property
    def _prefix_lengths(self) -> tuple[int, ...]:
        return tuple(sorted({len(prefix) for prefix in self.prefixes}, reverse=True))

    @cached_property
    def _profiles(self) -> dict[tuple[str, str], Hours]:
        return {}

    def profile(self, digits: str, region: str) -> Hours:
        """Return the hours for a number: of the longest prefix with a law in force, else country, else default."""
        for length in self._prefix_lengths:
            prefix = digits[:length]
            if prefix in self.prefixes:
                return self._hours(prefix, region)
        return self._hours("", region)

    def _hours(self, prefix: str, region: str) -> Hours:
        """Make the hours of a prefix and country once: calendars are cached by identity."""
        found = self._profiles.get((prefix, region))
        if found is None:
            found = self.default
            shorter = [self.prefixes.get(prefix[:length], ()) for length in range(1, len(prefix) + 1)]
            for laws in (self.countries.get(region, ()), *shorter):
                found = Dated(laws, found) if laws else found
            self._profiles[prefix, region] = found
        return found

    def with_flags(
        self, epoch: int, held: Iterable[bytes] = (), pulled: Iterable[bytes] = (), restored: int = 0
    ) -> Rulebook:
        """Return the same rules with other flags."""
        return replace(self, epoch=epoch, held=frozenset(held), pulled=frozenset(pulled), restored=restored)
