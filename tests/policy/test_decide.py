"""The decision: every rule, their rank, and that nothing stricter ever loosens it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gateway.model import Category, Check, Facts, Outcome, Reason, Rule, RuleGroup, RuleStatus
from gateway.policy.decide import FOREVER, Request, caps_for, decide
from gateway.policy.quiet_hours import ALWAYS, LAST_MINUTE, Law, Profile, daily
from gateway.policy.rulebook import Rulebook, by_category

ACCOUNT, BRAND, TEMPLATE, NO_SCOPE = b"account-", b"brand---", b"template", bytes(8)
CHINA, US_EAST, TOLL_FREE, SATELLITE = "8613800138000", "12125550123", "18005551234", "870773111632"
HOUR = 3_600_000
RULES = Rulebook(version="t1", epoch=7)
CONSENTED = Facts((Rule(RuleGroup.CONSENT, RuleStatus.ALLOWS, BRAND, 0),))
NOTHING = Facts()


def at(text: str, zone: str = "Asia/Shanghai") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


DAY, NIGHT, MORNING = at("2026-11-23T12:00"), at("2026-11-23T23:30"), at("2026-11-24T08:00")


def request(category: Category = Category.MARKETING, **more: Any) -> Request:
    given: dict[str, Any] = {
        "digits": CHINA,
        "account_scope": ACCOUNT,
        "brand_scope": BRAND,
        "route": "*",
        "segments": 1,
        "reason": "flight CA981 moved" if category is Category.EMERGENCY else "",
    }
    return Request(category=category, **{**given, **more})


def facts_with(group: RuleGroup, status: RuleStatus, scope: bytes, until: int = 0) -> Facts:
    return Facts((*CONSENTED.rules, Rule(group, status, scope, 0, until)))


# ── marketing ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_marketing_by_day_with_consent():
    verdict = decide(request(), CONSENTED, DAY, RULES)
    assert (verdict.outcome, verdict.code, verdict.rules) == (Outcome.ALLOW, Reason.NONE, ())
    assert verdict.zones == ("Asia/Shanghai",)
    assert verdict.policy_version == "t1"
    granted = verdict.permission
    assert (granted.opens, granted.closes) == (at("2026-11-23T08:00"), at("2026-11-23T22:59"))
    assert granted.expires == DAY + 72 * HOUR
    assert granted.checks == Check.CONSENT | Check.MARKETING_OPT_OUT | Check.ALL_OPT_OUT | Check.BREAKER
    assert (granted.account_scope, granted.brand_scope, granted.epoch) == (ACCOUNT, BRAND, 7)
    assert granted.caps == ()


def test_marketing_by_night_waits_for_the_morning():
    verdict = decide(request(), CONSENTED, NIGHT, RULES)
    assert (verdict.outcome, verdict.code, verdict.next_at) == (Outcome.DEFER, Reason.QUIET_HOURS, MORNING)
    assert verdict.rules == ("quiet_hours:defer",)
    assert verdict.permission.opens == MORNING
    assert decide(request(accepted_at=NIGHT), CONSENTED, MORNING, RULES).outcome is Outcome.ALLOW


@pytest.mark.parametrize(
    ("more", "rules"),
    [
        ({"on_quiet": "reject"}, RULES),
        ({}, Rulebook(on_quiet="reject")),
        ({"expires_at": MORNING}, RULES),  # over before the morning
        ({}, Rulebook(expiry=by_category(otp=1, transactional=1, marketing=8 * HOUR, emergency=1))),
    ],
)
def test_marketing_by_night_is_refused_when_the_morning_is_too_late(more: dict[str, Any], rules: Rulebook):
    verdict = decide(request(**more), CONSENTED, NIGHT, rules)
    assert (verdict.outcome, verdict.code) == (Outcome.REJECT, Reason.QUIET_HOURS)
    assert verdict.next_at == 0


@pytest.mark.parametrize(
    ("facts", "code", "rule"),
    [
        (NOTHING, Reason.CONSENT_MISSING, "consent:reject"),
        (facts_with(RuleGroup.CONSENT, RuleStatus.STOPS, BRAND), Reason.CONSENT_REVOKED, "consent:reject"),
        (facts_with(RuleGroup.MARKETING, RuleStatus.STOPS, BRAND), Reason.OPTED_OUT, "opt_out:reject"),
        (facts_with(RuleGroup.MARKETING, RuleStatus.STOPS, ACCOUNT), Reason.OPTED_OUT, "opt_out:reject"),
        (facts_with(RuleGroup.ALL, RuleStatus.STOPS, ACCOUNT), Reason.OPTED_OUT, "opt_out:reject"),
        (facts_with(RuleGroup.ALL, RuleStatus.STOPS, NO_SCOPE), Reason.SUPPRESSED, "suppression:reject"),
        (facts_with(RuleGroup.MARKETING, RuleStatus.STOPS, NO_SCOPE), Reason.SUPPRESSED, "suppression:reject"),
    ],
)
def test_rules_of_the_recipient_stop_marketing(facts: Facts, code: Reason, rule: str):
    verdict = decide(request(), facts, DAY, RULES)
    assert (verdict.outcome, verdict.code, verdict.rules) == (Outcome.REJECT, code, (rule,))


def test_every_rule_is_reported_and_the_worst_counts():
    facts = Facts((Rule(RuleGroup.ALL, RuleStatus.STOPS, ACCOUNT, 0),))
    rules = RULES.with_flags(8, held=[BRAND])
    verdict = decide(request(route="", segments=0), facts, NIGHT, rules)
    assert verdict.outcome is Outcome.REJECT
    assert verdict.code is Reason.OPTED_OUT
    assert verdict.rules == (
        "opt_out:reject",
        "consent:reject",
        "breaker:hold",
        "content_empty:reject",
        "quiet_hours:defer",
        "route:reject",
    )
    assert decide(request(), CONSENTED, NIGHT, rules).code is Reason.BREAKER_OPEN  # hold ranks over defer


@pytest.mark.parametrize("category", list(Category))
def test_what_was_accepted_before_the_restored_backup_is_held_whatever_its_category(category: Category):
    rules = RULES.with_flags(8, restored=DAY)
    asked = request(category=category, reason="flood", accepted_at=DAY - 1)
    verdict = decide(asked, CONSENTED, DAY, rules)
    assert (verdict.outcome, verdict.code, verdict.rules) == (Outcome.HOLD, Reason.RESTORED, ("restored:hold",))
    for at in (DAY, 0):
        later = decide(request(category=category, reason="flood", accepted_at=at), CONSENTED, DAY, rules)
        assert later.outcome is Outcome.ALLOW


@pytest.mark.parametrize("scope", [BRAND, ACCOUNT, TEMPLATE, NO_SCOPE])
def test_an_open_breaker_holds_marketing_and_nothing_else(scope: bytes):
    rules = RULES.with_flags(8, held=[scope])
    assert decide(request(template_scope=TEMPLATE), CONSENTED, DAY, rules).outcome is Outcome.HOLD
    for category in (Category.OTP, Category.TRANSACTIONAL, Category.EMERGENCY):
        verdict = decide(request(category, template_scope=TEMPLATE), NOTHING, DAY, rules)
        assert verdict.outcome is Outcome.ALLOW
        assert not verdict.permission.checks & Check.BREAKER  # or the gate would hand it back for ever


def test_a_pulled_template():
    rules = RULES.with_flags(8, pulled=[TEMPLATE])
    assert decide(request(template_scope=TEMPLATE), CONSENTED, DAY, rules).code is Reason.CONTENT_REFUSED
    assert decide(request(), CONSENTED, DAY, rules).outcome is Outcome.ALLOW


# ── zones ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_naming_a_foreign_zone_never_permits_sending_at_night():
    two_at_night = at("2026-11-23T02:00")  # 13:00 in New York
    verdict = decide(request(time_zone="America/New_York"), CONSENTED, two_at_night, RULES)
    assert (verdict.outcome, verdict.code) == (Outcome.DEFER, Reason.QUIET_HOURS)
    assert verdict.zones == ("America/New_York", "Asia/Shanghai")
    assert verdict.next_at == at("2026-11-23T08:00")  # 19:00 in New York: day in both


def test_an_attested_residence_counts_alone():
    two_at_night = at("2026-11-23T02:00")
    verdict = decide(request(time_zone="America/New_York", residence=True), CONSENTED, two_at_night, RULES)
    assert (verdict.outcome, verdict.zones) == (Outcome.ALLOW, ("America/New_York",))
    noon_there = at("2026-11-23T12:00")  # 23:00 the day before in New York
    assert decide(request(time_zone="America/New_York", residence=True), CONSENTED, noon_there, RULES).next_at


def test_a_zone_of_the_country_is_a_choice():
    early = at("2026-11-23T08:30", "America/New_York")  # 05:30 in Los Angeles
    west = "14155552671"
    assert decide(request(digits=west), CONSENTED, early, RULES).outcome is Outcome.DEFER
    verdict = decide(request(digits=west, time_zone="America/New_York"), CONSENTED, early, RULES)
    assert (verdict.outcome, verdict.zones) == (Outcome.ALLOW, ("America/New_York",))


@pytest.mark.parametrize("more", [{"digits": SATELLITE}, {"time_zone": "Mars/Olympus"}])
def test_without_a_zone_marketing_is_refused_and_a_code_is_not(more: dict[str, Any]):
    verdict = decide(request(**more), CONSENTED, DAY, RULES)
    assert (verdict.outcome, verdict.code, verdict.rules) == (Outcome.REJECT, Reason.ZONE_UNKNOWN, ("zone:reject",))
    assert decide(request(Category.OTP, **more), NOTHING, DAY, RULES).outcome is Outcome.ALLOW


def test_a_default_zone_helps_numbers_without_one():
    verdict = decide(request(digits=SATELLITE), CONSENTED, DAY, Rulebook(default_zone="Asia/Shanghai"))
    assert (verdict.outcome, verdict.zones) == (Outcome.ALLOW, ("Asia/Shanghai",))


def test_zones_that_never_agree_ask_for_one():
    rules = Rulebook(default=daily("short", 600, 660))
    verdict = decide(request(digits=TOLL_FREE), CONSENTED, DAY, rules)
    assert verdict.code is Reason.ZONE_UNKNOWN
    assert len(verdict.zones) > 30
    assert decide(request(digits=TOLL_FREE, time_zone="America/Denver"), CONSENTED, DAY, rules).outcome is Outcome.DEFER


def test_the_law_of_the_number():
    florida = daily("us-fl", 480, 1200)
    rules = Rulebook(countries={"US": (Law(daily("us", 480, 1260)),)}, prefixes={"1305": (Law(florida),)})
    evening = at("2026-11-23T20:30", "America/New_York")
    assert decide(request(digits=US_EAST), CONSENTED, evening, rules).outcome is Outcome.ALLOW
    assert decide(request(digits="13055550123"), CONSENTED, evening, rules).outcome is Outcome.DEFER


def test_a_law_that_closes_for_days():
    closed = Profile("fr", (((480, 1320),),) * 6 + ((),), frozenset({date(2026, 12, 25)}))
    rules = Rulebook(countries={"CN": (Law(closed),)})
    verdict = decide(request(), CONSENTED, at("2026-12-24T23:00"), rules)
    assert verdict.next_at == at("2026-12-26T08:00")


def test_a_law_begins_and_ends_at_midnight_there_without_a_restart():
    strict = daily("strict", 600, 1200)
    law = Law(strict, date(2026, 11, 24), date(2026, 11, 26))
    rules = Rulebook(countries={"CN": (law,)})
    for day, outcome in ((23, Outcome.ALLOW), (24, Outcome.DEFER), (25, Outcome.DEFER), (26, Outcome.ALLOW)):
        verdict = decide(request(), CONSENTED, at(f"2026-11-{day}T09:00"), rules)
        assert verdict.outcome is outcome
    before = decide(request(), CONSENTED, at("2026-11-23T23:30"), rules)
    assert before.next_at == at("2026-11-24T10:00")  # decided the day before, by the law of the day it goes


def test_what_was_permitted_before_a_law_began_ends_with_that_day():
    law = Law(daily("strict", 600, 1200), date(2026, 11, 24))
    rules = Rulebook(default=ALWAYS, countries={"CN": (law,)})
    granted = decide(request(), CONSENTED, at("2026-11-23T21:00"), rules).permission
    assert granted.closes == at("2026-11-24T00:00") - LAST_MINUTE


def test_a_prefix_whose_law_is_over_falls_back_to_its_country():
    over = Law(daily("over", 600, 660), until=date(2026, 11, 1))
    rules = Rulebook(countries={"US": (Law(daily("us", 480, 1200)),)}, prefixes={"1305": (over,)})
    verdict = decide(request(digits="13055550123"), CONSENTED, at("2026-11-23T20:30", "America/New_York"), rules)
    assert verdict.next_at == at("2026-11-24T08:00", "America/New_York")


def test_what_has_less_than_a_minute_left_waits_for_the_next_opening():
    last = at("2026-11-23T22:59")
    assert decide(request(), CONSENTED, last - 1, RULES).outcome is Outcome.ALLOW
    verdict = decide(request(), CONSENTED, last, RULES)
    assert (verdict.outcome, verdict.code, verdict.next_at) == (Outcome.DEFER, Reason.QUIET_HOURS, MORNING)


def test_hours_of_less_than_a_minute_are_never_open():
    brief = Profile("brief", ((((600, 601), (720, 780))),) * 7)
    assert decide(request(), CONSENTED, at("2026-11-23T09:00"), Rulebook(default=brief)).next_at == at(
        "2026-11-23T12:00"
    )


# ── the other categories ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("category", [Category.OTP, Category.TRANSACTIONAL, Category.EMERGENCY])
def test_exempt_categories_go_by_night_without_consent(category: Category):
    facts = Facts((Rule(RuleGroup.MARKETING, RuleStatus.STOPS, BRAND, 0),))
    verdict = decide(request(category), facts, NIGHT, RULES)
    assert (verdict.outcome, verdict.rules, verdict.zones) == (Outcome.ALLOW, (), ())
    assert (verdict.permission.opens, verdict.permission.closes) == (0, FOREVER)
    assert verdict.permission.checks == Check.ALL_OPT_OUT


@pytest.mark.parametrize("category", list(Category))
@pytest.mark.parametrize("scope", [BRAND, ACCOUNT, NO_SCOPE])
def test_an_opt_out_from_everything_stops_exempt_categories(category: Category, scope: bytes):
    facts = Facts((*CONSENTED.rules, Rule(RuleGroup.ALL, RuleStatus.STOPS, scope, 0)))
    assert decide(request(category), facts, DAY, RULES).outcome is Outcome.REJECT


def test_an_emergency_needs_a_reason():
    verdict = decide(request(Category.EMERGENCY, reason=""), NOTHING, DAY, RULES)
    assert (verdict.outcome, verdict.rules) == (Outcome.REJECT, ("emergency_reason:reject",))


def test_codes_are_capped_per_account_and_marketing_per_brand():
    caps = decide(request(Category.OTP), NOTHING, DAY, RULES).permission.caps
    assert [(cap.limit, cap.window) for cap in caps] == [(1, 60), (5, 3600), (10, 86400)]
    limits = by_category(otp=((1, 60),), transactional=((1, 60),), marketing=((1, 60),), emergency=())
    scopes = {}
    for category in Category:
        for brand in (BRAND, b"another-"):
            granted = decide(request(category, brand_scope=brand), NOTHING, DAY, Rulebook(caps=limits)).permission
            scopes[category, brand] = {cap.scope for cap in granted.caps}
    assert scopes[Category.OTP, BRAND] == scopes[Category.OTP, b"another-"]
    assert scopes[Category.MARKETING, BRAND] != scopes[Category.MARKETING, b"another-"]
    assert len({min(found) for found in scopes.values() if found}) == 5
    assert not scopes[Category.EMERGENCY, BRAND]


def test_caps_are_known_before_the_decision():
    assert (
        caps_for(Category.OTP, ACCOUNT, BRAND, RULES)
        == decide(request(Category.OTP), NOTHING, DAY, RULES).permission.caps
    )
    assert caps_for(Category.MARKETING, ACCOUNT, BRAND, RULES) == ()


def test_a_code_over_its_cap_is_refused():
    verdict = decide(request(Category.OTP), Facts((), (1, 1, 1)), DAY, RULES)
    assert (verdict.outcome, verdict.code) == (Outcome.REJECT, Reason.FREQUENCY_CAP)


def test_marketing_over_its_cap_waits_and_wakes_in_permitted_hours():
    rules = Rulebook(caps=by_category(otp=(), transactional=(), marketing=((1, 13 * 3600),), emergency=()))
    full = CONSENTED._replace(used=(1,))
    verdict = decide(request(), full, DAY, rules)  # 13 hours later it is 01:00
    assert (verdict.outcome, verdict.code, verdict.next_at) == (Outcome.DEFER, Reason.FREQUENCY_CAP, MORNING)
    assert verdict.rules == ("frequency:defer", "quiet_hours:defer")
    late = decide(request(expires_at=DAY + HOUR), full, DAY, rules)
    assert (late.outcome, late.code) == (Outcome.REJECT, Reason.FREQUENCY_CAP)


def test_a_refusal_for_a_cap_says_when_another_might_pass():
    verdict = decide(request(Category.OTP), Facts((), (1, 1, 1), (DAY + 40_000, 0, 0)), DAY, RULES)
    assert (verdict.outcome, verdict.next_at) == (Outcome.REJECT, DAY + 40_000)


def test_the_count_of_a_cap_now_does_not_defer_a_scheduled_message():
    verdict = decide(request(Category.OTP, send_at=DAY + HOUR), Facts((), (1, 5, 10)), DAY, RULES)
    assert (verdict.outcome, verdict.code, verdict.next_at) == (Outcome.DEFER, Reason.SCHEDULED, DAY + HOUR)


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_send_at_schedules():
    for category, facts in ((Category.OTP, NOTHING), (Category.MARKETING, CONSENTED)):
        verdict = decide(request(category, send_at=DAY + HOUR), facts, DAY, RULES)
        assert (verdict.outcome, verdict.code, verdict.next_at) == (Outcome.DEFER, Reason.SCHEDULED, DAY + HOUR)
        assert verdict.permission.expires > DAY + HOUR
        assert decide(request(category, send_at=DAY + HOUR), facts, DAY + HOUR, RULES).outcome is Outcome.ALLOW


def test_send_at_in_the_night_says_so_at_once():
    verdict = decide(request(send_at=NIGHT), CONSENTED, DAY, RULES)
    assert (verdict.code, verdict.next_at) == (Reason.QUIET_HOURS, MORNING)
    assert verdict.rules == ("quiet_hours:defer", "send_at:defer")
    assert decide(request(send_at=NIGHT, on_quiet="reject"), CONSENTED, DAY, RULES).outcome is Outcome.REJECT


@pytest.mark.parametrize(
    "more", [{"expires_at": DAY}, {"expires_at": DAY + HOUR, "send_at": DAY + HOUR}, {"accepted_at": DAY - 73 * HOUR}]
)
def test_an_expired_message_is_refused(more: dict[str, int]):
    verdict = decide(request(**more), CONSENTED, DAY, RULES)
    assert (verdict.outcome, verdict.code) == (Outcome.REJECT, Reason.EXPIRED)


def test_no_route():
    verdict = decide(request(Category.OTP, route=""), NOTHING, DAY, RULES)
    assert (verdict.outcome, verdict.code, verdict.rules) == (Outcome.REJECT, Reason.NO_ROUTE, ("route:reject",))


def test_no_outcome_but_reject_lacks_a_usable_permission():
    for now in (DAY, NIGHT):
        for more in ({}, {"send_at": now + HOUR}):
            verdict = decide(request(**more), CONSENTED, now, RULES)
            granted = verdict.permission
            start = verdict.next_at or now
            assert granted.opens <= start < granted.closes
            assert start < granted.expires


# ── properties ───────────────────────────────────────────────────────────────────────────────────────────────────

scopes = st.sampled_from([ACCOUNT, BRAND, NO_SCOPE, b"another-"])
rules_said = st.builds(
    Rule,
    st.sampled_from(RuleGroup),
    st.sampled_from(RuleStatus),
    scopes,
    st.just(0),
    st.sampled_from([0, DAY, DAY + 100 * HOUR]),
)
stops = st.builds(Rule, st.sampled_from(RuleGroup), st.just(RuleStatus.STOPS), scopes, st.just(0))
moments = st.integers(DAY, DAY + 48 * HOUR)
requests = st.builds(
    request,
    category=st.sampled_from(Category),
    digits=st.sampled_from([CHINA, US_EAST, TOLL_FREE, SATELLITE, "61412345678"]),
    route=st.sampled_from(["*", "*", "*", ""]),
    segments=st.sampled_from([1, 1, 1, 0, 300]),
    accepted_at=st.just(DAY),
    send_at=st.sampled_from([0, 0, DAY + 20 * HOUR, DAY + 30 * HOUR]),
    expires_at=st.sampled_from([0, 0, DAY + 10 * HOUR, DAY + 60 * HOUR]),
    time_zone=st.sampled_from(["", "", "Asia/Shanghai", "nowhere"]),
    on_quiet=st.sampled_from(["", "defer", "reject"]),
    template_scope=st.sampled_from([NO_SCOPE, TEMPLATE]),
)
LIMITS = by_category(otp=((1, 60),), transactional=((2, 60),), marketing=((1, 36_000),), emergency=())
BOOK = Rulebook(caps=LIMITS)


@settings(deadline=None)
@given(asked=requests, now=moments, before=st.lists(rules_said, max_size=4), more=stops)
def test_a_stop_never_loosens(asked: Request, now: int, before: list[Rule], more: Rule):
    facts = Facts((*CONSENTED.rules, *before))
    after = Facts((*facts.rules, more))
    assert decide(asked, after, now, BOOK).outcome >= decide(asked, facts, now, BOOK).outcome


@settings(deadline=None)
@given(
    asked=requests,
    now=moments,
    stricter=st.sampled_from(
        [
            {"route": ""},
            {"segments": 0},
            {"on_quiet": "reject"},
            {"expires_at": DAY + HOUR},
            {"time_zone": "nowhere"},
        ]
    ),
)
def test_a_stricter_request_never_loosens(asked: Request, now: int, stricter: dict[str, Any]):
    # an expiry of one's own is stricter than a later one, not than the category's
    assume("expires_at" not in stricter or asked.expires_at >= stricter["expires_at"])
    after = msgspec.structs.replace(asked, **stricter)
    assert decide(after, CONSENTED, now, BOOK).outcome >= decide(asked, CONSENTED, now, BOOK).outcome


@settings(deadline=None)
@given(asked=requests, now=moments, used=st.tuples(st.integers(0, 3)), more=st.integers(1, 3))
def test_one_more_counted_message_never_loosens(asked: Request, now: int, used: tuple[int], more: int):
    fewer, facts = CONSENTED._replace(used=used), CONSENTED._replace(used=(used[0] + more,))
    assert decide(asked, facts, now, BOOK).outcome >= decide(asked, fewer, now, BOOK).outcome


@settings(deadline=None)
@given(
    asked=requests,
    now=moments,
    book=st.sampled_from(
        [
            BOOK.with_flags(1, held=[ACCOUNT]),
            BOOK.with_flags(1, pulled=[TEMPLATE]),
            Rulebook(caps=LIMITS, max_segments=0),
            Rulebook(caps=LIMITS, on_quiet="reject"),
            Rulebook(caps=LIMITS, default=daily("narrow", 720, 780)),
        ]
    ),
)
def test_a_stricter_rulebook_never_loosens(asked: Request, now: int, book: Rulebook):
    assert decide(asked, CONSENTED, now, book).outcome >= decide(asked, CONSENTED, now, BOOK).outcome


@settings(suppress_health_check=[HealthCheck.filter_too_much], deadline=None)
@given(
    asked=st.builds(
        request,
        category=st.sampled_from(Category),
        digits=st.sampled_from([CHINA, US_EAST, TOLL_FREE, "61412345678"]),
        accepted_at=st.just(DAY),
        send_at=st.sampled_from([0, DAY + 20 * HOUR, DAY + 30 * HOUR, DAY + 47 * HOUR]),
        expires_at=st.sampled_from([0, DAY + 100 * HOUR]),
    ),
    now=moments,
)
def test_a_deferral_ends_where_it_says(asked: Request, now: int):
    first = decide(asked, CONSENTED, now, BOOK)
    assume(first.outcome is Outcome.DEFER)
    assert now < first.next_at < first.permission.expires
    assert first.permission.opens <= first.next_at < first.permission.closes
    again = decide(asked, CONSENTED, first.next_at, BOOK)
    assert again.outcome is Outcome.ALLOW
    assert again.permission.expires == first.permission.expires


@settings(deadline=None)
@given(asked=requests, now=moments, facts=st.lists(rules_said, max_size=4))
def test_outcome_and_reports_agree(asked: Request, now: int, facts: list[Rule]):
    verdict = decide(asked, Facts(tuple(facts)), now, BOOK)
    outcomes = [Outcome[text.split(":")[1].upper()] for text in verdict.rules]
    assert verdict.outcome == max(outcomes, default=Outcome.ALLOW)
    assert (verdict.code is Reason.NONE) == (verdict.outcome is Outcome.ALLOW)
    assert bool(verdict.next_at) == (verdict.outcome is Outcome.DEFER)
