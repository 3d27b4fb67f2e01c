"""The time zones of a country, and those of them that apply to a number.

Both tables are in the tzdata package: ``zone.tab`` has the zones of each country, the links of ``tzdata.zi`` the names
of the same clock (Godthab is Nuuk).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, lru_cache
from importlib import resources

Zones = tuple[str, ...]


@cache
def of_countries() -> dict[str, frozenset[str]]:
    """Return the zones by ISO country, as named in ``zone.tab``."""
    found: dict[str, set[str]] = {}
    for line in _lines("zone.tab"):
        if not line.startswith("#"):
            country, _, zone = line.split("\t")[:3]
            found.setdefault(country, set()).add(zone)
    return {country: frozenset(zones) for country, zones in found.items()}


@cache
def _clocks() -> dict[str, str]:
    """Return the target zone of each link. Equal since 1970, which suffices here."""
    links = [line.split() for line in _lines("tzdata.zi") if line.startswith("L ")]
    return {name: target for _, target, name in links}


def _lines(name: str) -> list[str]:
    return resources.files("tzdata").joinpath("zoneinfo", name).read_text(encoding="utf-8").splitlines()


def clock(zone: str) -> str:
    """Return the zone that ``zone`` is a link to, else ``zone`` itself."""
    return _clocks().get(zone, zone)


def in_country(zones: Iterable[str], region: str) -> Zones:
    """Return a number's zones narrowed to its country's, links resolved, sorted.

    When none is in the country, the data about the number is wrong and all zones of the country count. For a region
    without zones of its own (the world, Kosovo) the number's zones count.
    """
    known = of_countries().get(region, frozenset())
    own = tuple(zone for zone in zones if zone != "Etc/Unknown")
    if not known:
        return tuple(sorted(own))
    found = {zone for zone in own if zone in known}
    others = {clock(zone) for zone in own if zone not in known}
    found |= {zone for zone in known if clock(zone) in others}
    return tuple(sorted(found or known))


@lru_cache(maxsize=4096)
def chosen(zone: str, of_number: Zones, region: str) -> Zones:
    """Return the zones that count when an app names ``zone`` for a number.

    The app may select one of the zones of the number and its country; any other counts in addition to the number's own,
    or naming a zone where it is day would loosen the law of the number's country.
    """
    at_home = {clock(one) for one in (*of_number, *of_countries().get(region, ()))}
    if not at_home or clock(zone) in at_home:
        return (zone,)
    return tuple(sorted({*of_number, zone}))
