"""Which time zones a country has, and which of them a number or an app may mean.

Both tables come with the zone data (package tzdata): ``zone.tab`` says which zones belong to which country, the links
of ``tzdata.zi`` which names stand for the same clock (Godthab is Nuuk).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, lru_cache
from importlib import resources

Zones = tuple[str, ...]


@cache
def of_countries() -> dict[str, frozenset[str]]:
    """ISO country -> its zones, as ``zone.tab`` names them."""
    found: dict[str, set[str]] = {}
    for line in _lines("zone.tab"):
        if not line.startswith("#"):
            country, _, zone = line.split("\t")[:3]
            found.setdefault(country, set()).add(zone)
    return {country: frozenset(zones) for country, zones in found.items()}


@cache
def _clocks() -> dict[str, str]:
    """Link -> the zone whose clock it shows. Since 1970 alone, which is all that matters here."""
    links = [line.split() for line in _lines("tzdata.zi") if line.startswith("L ")]
    return {name: target for _, target, name in links}


def _lines(name: str) -> list[str]:
    return resources.files("tzdata").joinpath("zoneinfo", name).read_text(encoding="utf-8").splitlines()


def clock(zone: str) -> str:
    """The zone whose clock this name shows; two names of one clock have the same."""
    return _clocks().get(zone, zone)


def in_country(zones: Iterable[str], region: str) -> Zones:
    """A number's zones narrowed to its country's, other spellings resolved, sorted.

    When none of them is there, what was said of the number is wrong of its country, and all zones of the country count.
    Of a region without zones of its own (the world, Kosovo) the number's are all there is.
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
    """The zones that count when an app names ``zone`` for a number.

    It may choose among the zones of the number and its country; any other one counts beside the number's own, or naming
    a place where it is day would loosen the law of the place where the number is at home.
    """
    at_home = {clock(one) for one in (*of_number, *of_countries().get(region, ()))}
    if not at_home or clock(zone) in at_home:
        return (zone,)
    return tuple(sorted({*of_number, zone}))
