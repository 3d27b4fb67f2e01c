"""Quiet hours for marketing: the hours a profile permits, in the recipient's local time.

A profile says when sending is permitted; quiet hours are the rest. Intervals are half-open: with 08:00-23:00 a message
is blocked at 23:00:00 and sent at 08:00:00. Computed in local wall time, returned as UTC milliseconds. When a number
may be in several zones, every zone must permit.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from importlib import resources
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

MINUTES = 24 * 60
_DAY = 86_400_000
_HORIZON = 15  # days to look ahead; the longest closed period of any profile must fit
_SPAN = 7 * _DAY  # a calendar is computed for a week

LAST_MINUTE = 60_000
"""Ms before the end of the permitted hours in which nothing is sent any more: the carrier, whose validity period ends
with the hours, would have no time to deliver."""

Span = tuple[int, int]
"""A half-open interval: of minutes in a local day, or of UTC milliseconds."""


class Hours(Protocol):
    """Permitted hours by local day. Compared by identity, so that they are a cheap cache key."""

    @property
    def name(self) -> str: ...

    def __hash__(self) -> int: ...

    def on(self, day: date) -> tuple[Span, ...]:
        """Return the permitted intervals of one local day, in minutes, in order."""
        ...


@dataclass(frozen=True, eq=False)
class Profile:
    """Permitted hours of one law or setting."""

    name: str
    week: tuple[tuple[Span, ...], ...]  # Monday to Sunday: intervals in minutes of the local day
    holidays: frozenset[date] = frozenset()  # closed all day

    def on(self, day: date) -> tuple[Span, ...]:
        return () if day in self.holidays else self.week[day.weekday()]


@dataclass(frozen=True, eq=False)
class Tightened:
    """The hours that all parts permit."""

    parts: tuple[Hours, ...]

    @property
    def name(self) -> str:
        return "&".join(part.name for part in self.parts)

    def on(self, day: date) -> tuple[Span, ...]:
        spans: Iterable[Span] = ((0, MINUTES),)
        for part in self.parts:
            spans = _intersection(tuple(spans), part.on(day))
        return tuple(spans)


@dataclass(frozen=True)
class Law:
    """A profile in force from one local day until before another (None: for good)."""

    profile: Hours
    since: date = date.min
    until: date | None = None

    def in_force(self, day: date) -> bool:
        return self.since <= day and (self.until is None or day < self.until)


@dataclass(frozen=True, eq=False)
class Dated:
    """Laws by date: on each local day the hours that all laws in force permit; ``otherwise`` when none is in force.

    A law starts and ends at the recipient's local midnight.
    """

    laws: tuple[Law, ...]
    otherwise: Hours

    @property
    def name(self) -> str:
        return "&".join(dict.fromkeys(law.profile.name for law in self.laws))

    def on(self, day: date) -> tuple[Span, ...]:
        found = tuple(law.profile for law in self.laws if law.in_force(day))
        return Tightened(found).on(day) if found else self.otherwise.on(day)


ALWAYS = Profile("always", (((0, MINUTES),),) * 7)


class Window(NamedTuple):
    """The permitted interval that contains an instant or follows it: ``opens <= t < closes``, UTC ms."""

    opens: int
    closes: int


def daily(name: str, start: int, end: int) -> Profile:
    """Return a profile with the same permitted minutes every day."""
    return Profile(name, (((start, end),),) * 7)


def tighten(profile: Hours, other: Hours) -> Hours:
    """Return the hours that both permit, so that a layer (account, carrier, recipient) can only narrow the law."""
    return Tightened((profile, other))


@cache
def _names() -> frozenset[str]:
    return frozenset(resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8").split())


def known_zone(name: str) -> bool:
    """Whether ``name`` is an IANA time zone."""
    return name in _names()


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """Return a zone from the pinned tzdata package, not the system's. Raise KeyError when unknown."""
    if not known_zone(name):
        raise KeyError(name)
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def window(now: int, zones: Sequence[str], profile: Hours, *, least: int = 0) -> Window | None:
    """Return the first permitted interval with more than ``least`` ms left after ``now``, None within two weeks."""
    opens, closes = _calendar(profile, tuple(zones), now // _SPAN)
    for index in range(bisect_right(closes, now + least), len(closes)):
        if closes[index] - opens[index] > least:
            return Window(opens[index], closes[index])
    return None


@lru_cache(maxsize=4096)
def _calendar(profile: Hours, zones: tuple[str, ...], week: int) -> tuple[list[int], list[int]]:
    """Return the permitted intervals around one week of UTC as ordered lists of opens and closes."""
    first = (datetime.fromtimestamp(week * _SPAN // 1000, UTC) - timedelta(days=2)).date()
    days = [first + timedelta(days=n) for n in range(2 + _SPAN // _DAY + _HORIZON)]
    spans: list[Span] | None = None
    for zone in zones:
        local = _merged(_in_utc(profile, zone_of(zone), days))
        spans = local if spans is None else list(_intersection(spans, local))
    return [opens for opens, _ in spans or ()], [closes for _, closes in spans or ()]


def _in_utc(profile: Hours, zone: ZoneInfo, days: Iterable[date]) -> Iterable[Span]:
    """Yield the permitted intervals of these local days in UTC ms.

    Where a clock change repeats a wall time, the stricter instant counts: the later one opens, the earlier one closes.
    A skipped wall time is the instant of the change.
    """
    for day in days:
        for start, end in profile.on(day):
            opens, closes = _instants(day, start, zone)[1], _instants(day, end, zone)[0]
            if opens < closes:
                yield opens, closes


def _instants(day: date, minute: int, zone: ZoneInfo) -> Span:
    """Return the first and last instant (UTC ms) of a wall time; they differ only when it is repeated."""
    wall = datetime(day.year, day.month, day.day, tzinfo=zone) + timedelta(minutes=minute)
    first, second = int(wall.timestamp()), int(wall.replace(fold=1).timestamp())
    if second < first:  # skipped: PEP 495 gives an hour too late and too early; the change is in between
        first = second = _change(second, first, zone)
    return first * 1000, second * 1000


def _change(before: int, after: int, zone: ZoneInfo) -> int:
    """Return the second at which the offset changes, between two with different offsets."""
    offset = datetime.fromtimestamp(before, zone).utcoffset()
    while after - before > 1:
        middle = (before + after) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Merge adjacent intervals, so that hours open past midnight are one interval."""
    merged: list[Span] = []
    for opens, closes in spans:
        if merged and opens <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(closes, merged[-1][1]))
        else:
            merged.append((opens, closes))
    return merged


def _intersection(mine: Sequence[Span], theirs: Sequence[Span]) -> Iterable[Span]:
    """Yield the intersection of two ordered lists of intervals."""
    i = j = 0
    while i < len(mine) and j < len(theirs):
        opens, closes = max(mine[i][0], theirs[j][0]), min(mine[i][1], theirs[j][1])
        if opens < closes:
            yield opens, closes
        if mine[i][1] <= theirs[j][1]:
            i += 1
        else:
            j += 1
