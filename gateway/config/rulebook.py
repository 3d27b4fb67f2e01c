"""Builds the rules of policy from ``[policy]`` and the jurisdiction files.

A jurisdiction file is data with a date and a source, never code: the numbers it applies to (countries or prefixes), the
permitted hours, holidays without any, and the dates between which it is in force. The rulebook keeps the dates, so a
law takes effect and expires by the calendar while the gateway runs.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import tzdata  # type: ignore[import-untyped]  # a package of data; IANA_VERSION is all we read of it
from msgspec import Meta

from gateway.config.problems import ConfigProblem, Diagnostics
from gateway.config.read import Reader, cap
from gateway.config.schema import Config, ConfigTable, PolicyConfig
from gateway.config.shared_checks import CAP_REMEDY, velocities
from gateway.model import Category
from gateway.policy.quiet_hours import ALWAYS, MINUTES, Dated, Hours, Law, Profile, Span, Tightened, tighten
from gateway.policy.route import RouteConditions, RouteTable
from gateway.policy.rulebook import DEFAULT, Limits, Rulebook, by_category
from gateway.policy.velocity import VelocityTable

RULES_VERSION = 2
"""Version of the code of gateway.policy: raised whenever the same data leads to other decisions."""

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_HOURS = re.compile(r"^([01]\d|2[0-4]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)$")

HoursText = Annotated[str, Meta(description="like 08:00-23:00, several with commas, empty for none")]


class Week(ConfigTable, frozen=True, kw_only=True):
    """Permitted hours of local days; ``daily`` applies to weekdays that are not given."""

    daily: HoursText
    monday: HoursText | None = None
    tuesday: HoursText | None = None
    wednesday: HoursText | None = None
    thursday: HoursText | None = None
    friday: HoursText | None = None
    saturday: HoursText | None = None
    sunday: HoursText | None = None


class Jurisdiction(ConfigTable, frozen=True, kw_only=True):
    """The content of one jurisdiction file."""

    name: str
    title: str
    source: str
    checked: date  # when it was last compared with its source
    valid_from: date
    valid_until: date | None = None  # first day on which it is no longer in force
    countries: tuple[Annotated[str, Meta(pattern=r"^[A-Z]{2}$")], ...] = ()
    prefixes: tuple[Annotated[str, Meta(pattern=r"^\+[1-9][0-9]{0,14}$")], ...] = ()
    within: str = ""  # name of a wider law that applies too
    holidays: tuple[date, ...] = ()  # nothing is permitted on these
    hours: Week

    def overlaps(self, other: Jurisdiction) -> bool:
        """Whether both are in force on some day."""
        return (other.valid_until is None or self.valid_from < other.valid_until) and (
            self.valid_until is None or other.valid_from < self.valid_until
        )


class _JurisdictionFile(NamedTuple):
    """One valid file: its content, and its hours as a profile."""

    law: Jurisdiction
    profile: Profile
    file: Path

    def dated(self, hours: Hours) -> Law:
        return Law(hours, self.law.valid_from, self.law.valid_until)


class _Laws(NamedTuple):
    """All laws with their dates, by name, country and prefix. ``digest``: of the files."""

    by_name: dict[str, tuple[Law, ...]]
    countries: dict[str, tuple[Law, ...]]
    prefixes: dict[str, tuple[Law, ...]]
    digest: str


def jurisdictions_folder() -> Path:
    """Return the folder of the files shipped with the gateway, in an installed package or a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "defaults" / "jurisdictions"
    return installed if installed.is_dir() else package.parent / "config" / "jurisdictions"


def rulebook(config: Config) -> Rulebook:
    """Return the rules with their dates. Raises ConfigError."""
    diagnostics = Diagnostics(config.policy.jurisdictions or "policy")
    book = _build(config.policy, diagnostics)
    diagnostics.raise_if_any()
    assert book is not None  # there are no problems
    return book


def route_table(config: Config) -> RouteTable:
    """Return the routes as policy looks them up, with the lane names of ``config.Route.lane``."""
    return RouteTable(
        [
            RouteConditions(
                lane=route.lane,
                prefix=route.prefix,
                country=route.country,
                sender=route.sender,
                category=Category[route.category.upper()] if route.category else None,
                account=route.account,
            )
            for route in config.routes
        ]
    )


def check_policy(policy: PolicyConfig, diagnostics: Diagnostics) -> None:
    """Report problems in ``[policy]`` and the jurisdiction files."""
    _build(policy, diagnostics)


def _build(policy: PolicyConfig, diagnostics: Diagnostics) -> Rulebook | None:
    laws = _laws(policy, diagnostics)
    named = laws.by_name.get(policy.default_profile, ())
    default = Dated(named, DEFAULT) if named else DEFAULT
    if policy.default_profile not in {*laws.by_name, "default"}:
        known = ", ".join(sorted({*laws.by_name, "default"}))
        fault = f'unknown profile "{policy.default_profile}"'
        diagnostics.problem("policy.default_profile", fault, f"Known profiles: {known}")
    narrow = _operator_hours(policy, diagnostics)
    caps = by_category(
        otp=_limits("otp", policy.otp_caps, diagnostics),
        transactional=_limits("transactional", policy.transactional_caps, diagnostics),
        marketing=_limits("marketing", policy.marketing_caps, diagnostics),
        emergency=(),
    )
    velocity = velocities(policy.velocity, "policy.velocity", diagnostics)
    if diagnostics.problems:
        return None
    return Rulebook(
        version=_version(policy, laws.digest),
        default=_narrowed(default, narrow),
        countries={country: _narrowed_laws(found, narrow) for country, found in laws.countries.items()},
        prefixes={prefix: _narrowed_laws(found, narrow) for prefix, found in laws.prefixes.items()},
        caps=caps,
        expiry=by_category(
            otp=round(policy.otp_expiry * 1000),
            transactional=round(policy.transactional_expiry * 1000),
            marketing=round(policy.marketing_expiry * 1000),
            emergency=round(policy.emergency_expiry * 1000),
        ),
        on_quiet=policy.on_quiet,
        default_zone=policy.default_zone,
        max_segments=policy.max_segments,
        velocity=VelocityTable(velocity),
        allow_prefixes=tuple(prefix[1:] for prefix in policy.allow_prefixes),
    )


def _narrowed(profile: Hours, narrow: Profile | None) -> Hours:
    return profile if narrow is None else tighten(profile, narrow)


def _narrowed_laws(laws: Iterable[Law], narrow: Profile | None) -> tuple[Law, ...]:
    return tuple(replace(law, profile=_narrowed(law.profile, narrow)) for law in laws)


def _operator_hours(policy: PolicyConfig, diagnostics: Diagnostics) -> Profile | None:
    if not policy.hours:
        return None
    spans = _spans(policy.hours)
    if spans is None:
        diagnostics.problem("policy.hours", f'invalid hours "{policy.hours}"', 'Write them like "09:00-20:00"')
        return None
    return Profile("own", (spans,) * 7)


def _limits(category: str, caps: Iterable[str], diagnostics: Diagnostics) -> Limits:
    """Return caps as (messages, seconds): (5, 3600) for ``"5/1h"``."""
    limits = []
    for index, text in enumerate(caps):
        try:
            limits.append(cap(text))
        except ValueError:
            diagnostics.problem(f"policy.{category}_caps[{index}]", f'invalid cap "{text}"', CAP_REMEDY)
    return tuple(limits)


def _laws(policy: PolicyConfig, diagnostics: Diagnostics) -> _Laws:
    folder = Path(policy.jurisdictions) if policy.jurisdictions else jurisdictions_folder()
    files = sorted(folder.glob("*.toml")) if os.path.isdir(folder) else []
    if not files:
        fault = f'no *.toml file in "{folder}"'
        diagnostics.problem("policy.jurisdictions", fault, "Name a folder of jurisdiction files")
    found: dict[str, list[_JurisdictionFile]] = {}
    digest = hashlib.sha256()
    for file in files:
        law = _read(file, diagnostics)
        profile = None if law is None else _profile(law, file, diagnostics)
        if law is None or profile is None:
            continue
        digest.update(file.read_bytes())
        same = found.setdefault(law.name, [])
        if any(law.overlaps(other.law) for other in same):
            fault = f'"{law.name}" is in force twice on the same day'
            _report(diagnostics, file, "name", fault, "Give the older file a valid_until, or another name")
        same.append(_JurisdictionFile(law, profile, file))
    return _tables(found, digest.hexdigest(), diagnostics)


def _tables(found: dict[str, list[_JurisdictionFile]], digest: str, diagnostics: Diagnostics) -> _Laws:
    laws = _Laws({}, {}, {}, digest)
    for own in chain.from_iterable(found.values()):
        law = own.law
        if law.within and law.within not in found:
            _report(
                diagnostics,
                own.file,
                "within",
                f'no file has the name "{law.within}"',
                "Write the name of another file",
            )
        wider = tuple(other.dated(other.profile) for other in found.get(law.within, ()))
        dated = own.dated(Tightened((own.profile, Dated(wider, ALWAYS))) if wider else own.profile)
        _add(laws.by_name, (law.name,), dated)
        _add(laws.countries, law.countries, dated)
        _add(laws.prefixes, (prefix[1:] for prefix in law.prefixes), dated)
    return laws


def _report(diagnostics: Diagnostics, file: Path, at: str, fault: str, remedy: str) -> None:
    diagnostics.problems.setdefault(f"{file}:{at}", ConfigProblem(str(file), at, fault, remedy))


def _add(table: dict[str, tuple[Law, ...]], keys: Iterable[str], law: Law) -> None:
    """Add a law; several laws for the same numbers all apply."""
    for key in keys:
        table[key] = (*table.get(key, ()), law)


def _read(file: Path, diagnostics: Diagnostics) -> Jurisdiction | None:
    own = Diagnostics(str(file))
    law = None
    try:
        law = Reader(own, {}).table(Jurisdiction, tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        own.problem("", f"cannot read: {error}", "Fix the file, or remove it from the folder")
    for problem in own.problems.values():
        _report(diagnostics, file, problem.path, problem.fault, problem.remedy)
    return None if own.problems else law


def _profile(law: Jurisdiction, file: Path, diagnostics: Diagnostics) -> Profile | None:
    week = []
    for weekday in _WEEKDAYS:
        text = getattr(law.hours, weekday)
        spans = _spans(law.hours.daily if text is None else text)
        if spans is None:
            at = f"hours.{'daily' if text is None else weekday}"
            _report(diagnostics, file, at, "invalid hours", 'Write them like "08:00-21:00"; "" permits nothing')
            return None
        week.append(spans)
    return Profile(law.name, tuple(week), frozenset(law.holidays))


def _spans(text: str) -> tuple[Span, ...] | None:
    """Return ``"08:00-12:00, 14:00-20:00"`` as minutes of the day; None when it is malformed."""
    spans: list[Span] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        match = _HOURS.match(part)
        if match is None:
            return None
        start, end = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
        if not (spans[-1][1] if spans else 0) <= start < end <= MINUTES:
            return None
        spans.append((start, end))
    return tuple(spans)


def _version(policy: PolicyConfig, laws: str) -> str:
    """Return the version of code, files, settings and zone data, so that a decision can be reproduced."""
    settings = hashlib.sha256(laws.encode() + msgspec.json.encode(policy)).hexdigest()[:8]
    return f"{RULES_VERSION}-{settings}-tz{tzdata.IANA_VERSION}"
