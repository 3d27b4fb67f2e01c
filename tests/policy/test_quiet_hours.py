"""Permitted hours on wall clocks: half-open, in every zone, over clock changes, strict over several zones."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from importlib import resources
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.quiet_hours import ALWAYS, Profile, daily, known_zone, tighten, window, zone_of
from gateway.policy.rulebook import DEFAULT

ZONES = sorted(
    {
        line.split("\t")[2]
        for line in resources.files("tzdata").joinpath("zoneinfo/zone.tab").read_text().splitlines()
        if not line.startswith("#")
    }
)
START = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
YEAR = 366 * 86_400_000
DAY = 86_400_000

TEXAS = Profile("tx", (((540, 1260),),) * 6 + (((720, 1260),),))
FRANCE = Profile("fr", (((480, 1320),),) * 6 + ((),), frozenset({date(2026, 12, 25), date(2026, 7, 14)}))
LUNCH = Profile("lunch", (((480, 720), (780, 1200)),) * 7)
PROFILES = (DEFAULT, TEXAS, FRANCE, LUNCH, daily("late", 600, 1440))


def ms(text: str, zone: str = "UTC", fold: int = 0) -> int:
    """A wall time as an instant."""
    wall = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return int(wall.timestamp() * 1000)


def permitted(instant: int, zones: tuple[str, ...], profile: Profile) -> bool:
    """The same question asked the simple way: what do the clocks there show?"""

    def one(zone: str) -> bool:
        wall = datetime.fromtimestamp(instant / 1000, zone_of(zone))
        return any(start <= wall.hour * 60 + wall.minute < end for start, end in profile.on(wall.date()))

    return all(map(one, zones))


zone_sets = st.lists(st.sampled_from(ZONES), min_size=1, max_size=3, unique=True).map(
    lambda names: tuple(sorted(names))
)
instants = st.integers(START, START + YEAR)


# ── examples ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wall", "opens", "closes"),
    [
        ("2026-11-21T22:59:59.999", "2026-11-21T08:00", "2026-11-21T23:00"),
        ("2026-11-21T23:00:00", "2026-11-22T08:00", "2026-11-22T23:00"),
        ("2026-11-22T07:59:59.999", "2026-11-22T08:00", "2026-11-22T23:00"),
        ("2026-11-22T08:00:00", "2026-11-22T08:00", "2026-11-22T23:00"),
    ],
)
@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/St_Johns", "Asia/Kathmandu", "Pacific/Kiritimati", "UTC"])
def test_blocked_at_23_sharp_and_open_at_8_sharp(zone: str, wall: str, opens: str, closes: str):
    assert window(ms(wall, zone), (zone,), DEFAULT) == (ms(opens, zone), ms(closes, zone))


def test_sundays_and_holidays():
    paris = ("Europe/Paris",)
    saturday_night = ms("2026-11-21T22:00", "Europe/Paris")
    assert window(saturday_night, paris, FRANCE) == (
        ms("2026-11-23T08:00", "Europe/Paris"),
        ms("2026-11-23T22:00", "Europe/Paris"),
    )
    christmas = ms("2026-12-25T12:00", "Europe/Paris")
    assert window(christmas, paris, FRANCE)[0] == ms("2026-12-26T08:00", "Europe/Paris")
    dallas = ("America/Chicago",)
    assert window(ms("2026-11-22T09:30", *dallas), dallas, TEXAS)[0] == ms("2026-11-22T12:00", *dallas)
    assert window(ms("2026-11-23T09:30", *dallas), dallas, TEXAS)[0] == ms("2026-11-23T09:00", *dallas)


def test_the_day_the_clock_springs_forward_and_back():
    # Nuuk skips 23:00 to 24:00 on Saturday 2026-03-28 and repeats that hour on 2026-10-24.
    zone = ("America/Nuuk",)
    late = daily("late", 600, 23 * 60 + 30)
    spring = window(ms("2026-03-28T12:00", *zone), zone, late)
    assert spring.closes == int(datetime(2026, 3, 29, 1, tzinfo=UTC).timestamp() * 1000)
    autumn = window(ms("2026-10-24T12:00", *zone), zone, late)
    assert autumn.closes == ms("2026-10-24T23:30", *zone, fold=0)
    early = daily("early", 90, 600)  # 01:30 comes twice in New York on 2026-11-01
    new_york = ("America/New_York",)
    assert window(ms("2026-11-01T00:30", *new_york), new_york, early).opens == ms("2026-11-01T01:30", *new_york, fold=1)


def test_a_number_in_several_zones_is_sent_to_only_when_all_permit():
    coasts = ("America/Los_Angeles", "America/New_York")
    found = window(ms("2026-11-21T08:00", "America/New_York"), coasts, DEFAULT)
    assert found == (ms("2026-11-21T08:00", "America/Los_Angeles"), ms("2026-11-21T23:00", "America/New_York"))


def test_no_window_when_the_zones_never_agree():
    assert window(START, ("Asia/Tokyo", "Europe/London"), daily("short", 600, 660)) is None
    assert window(START, ("Europe/London",), Profile("never", ((),) * 7)) is None
    assert window(START, (), DEFAULT) is None


def test_hours_around_the_clock_have_no_gap_at_midnight():
    opens, closes = window(START + DAY // 3, ("Asia/Tokyo",), ALWAYS)
    assert opens < START
    assert closes > START + 14 * DAY


def test_hours_with_too_little_left_are_passed_over():
    zone = ("Asia/Tokyo",)
    evening = ms("2026-11-21T22:30", *zone)
    assert window(evening, zone, DEFAULT, least=30 * 60_000 - 1).closes == ms("2026-11-21T23:00", *zone)
    assert window(evening, zone, DEFAULT, least=30 * 60_000).opens == ms("2026-11-22T08:00", *zone)


def test_zone_names():
    assert known_zone("Asia/Shanghai")
    assert not any(map(known_zone, ("", "Mars", "../etc/passwd", "Asia", "asia/shanghai")))
    with pytest.raises(KeyError):
        zone_of("../etc/passwd")


# ── properties ───────────────────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None)
@given(instant=instants, zone=st.sampled_from(ZONES))
def test_permitted_is_what_the_clock_there_says(instant: int, zone: str):
    opens, closes = window(instant, (zone,), DEFAULT)
    assert instant < closes
    assert (opens <= instant) == permitted(instant, (zone,), DEFAULT)


@pytest.mark.parametrize("zone", ZONES)
def test_edges_are_sharp_in_every_zone_on_days_the_clock_changes(zone: str):
    tz = zone_of(zone)
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    days = [noon + timedelta(days=n) for n in range(366)]
    changes = [a for a, b in pairwise(days) if a.astimezone(tz).utcoffset() != b.astimezone(tz).utcoffset()]
    for day in [*changes, days[40], days[200]]:
        instant = int(day.timestamp() * 1000) - DAY
        for _ in range(4):
            opens, closes = window(instant, (zone,), DEFAULT)
            assert permitted(opens, (zone,), DEFAULT)
            assert not permitted(opens - 1, (zone,), DEFAULT)
            assert permitted(closes - 1, (zone,), DEFAULT)
            assert not permitted(closes, (zone,), DEFAULT)
            instant = closes


@settings(deadline=None)
@given(instant=instants, zones=zone_sets, profile=st.sampled_from(PROFILES))
def test_strict_means_every_zone(instant: int, zones: tuple[str, ...], profile: Profile):
    found = window(instant, zones, profile)
    if found is None:
        assert not permitted(instant, zones, profile)
        return
    assert instant < found.closes
    assert (found.opens <= instant) == permitted(instant, zones, profile)
    for inside in (found.opens, (found.opens + found.closes) // 2, found.closes - 1):
        assert permitted(inside, zones, profile)
    for zone in zones:
        alone = window(found.opens, (zone,), profile)
        assert alone.opens <= found.opens
        assert found.closes <= alone.closes


@settings(deadline=None)
@given(instant=instants, zones=zone_sets, mine=st.sampled_from(PROFILES), theirs=st.sampled_from(PROFILES))
def test_a_layer_only_tightens(instant: int, zones: tuple[str, ...], mine: Profile, theirs: Profile):
    both = window(instant, zones, tighten(mine, theirs))
    if both is not None:
        for inside in (both.opens, both.closes - 1):
            assert permitted(inside, zones, mine)
            assert permitted(inside, zones, theirs)
    assert both == window(instant, zones, tighten(theirs, mine))


@settings(max_examples=50, deadline=None)
@given(instant=instants, zones=zone_sets, later=st.integers(0, 3 * DAY))
def test_time_never_brings_an_earlier_window(instant: int, zones: tuple[str, ...], later: int):
    first, second = window(instant, zones, DEFAULT), window(instant + later, zones, DEFAULT)
    if first is not None and second is not None:
        assert first.opens <= second.opens
        assert (first == second) or second.opens >= first.closes
