"""Consent, opt-outs and suppression: which rules count."""

from __future__ import annotations

import pytest

from gateway.model import Rule, RuleGroup, RuleStatus
from gateway.policy.consent import GLOBAL_SCOPE, ConsentState, consent, opted_out, suppressed

BRAND, ACCOUNT, OTHER = b"brand---", b"account-", b"other---"
GRANTED = Rule(RuleGroup.CONSENT, RuleStatus.ALLOWS, BRAND, 10)
REVOKED = Rule(RuleGroup.CONSENT, RuleStatus.STOPS, BRAND, 10)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((), ConsentState.MISSING),
        ((GRANTED,), ConsentState.GRANTED),
        ((REVOKED,), ConsentState.REVOKED),
        ((GRANTED._replace(scope=OTHER),), ConsentState.MISSING),
        ((GRANTED._replace(until=101),), ConsentState.GRANTED),
        ((GRANTED._replace(until=100),), ConsentState.MISSING),
        ((GRANTED, REVOKED), ConsentState.REVOKED),
        ((REVOKED, GRANTED), ConsentState.REVOKED),
        ((GRANTED._replace(group=RuleGroup.MARKETING),), ConsentState.MISSING),
    ],
)
def test_consent_belongs_to_a_brand_and_may_run_out(rules: tuple[Rule, ...], expected: ConsentState):
    assert consent(rules, BRAND, 100) is expected


@pytest.mark.parametrize("scope", [BRAND, ACCOUNT])
def test_an_opt_out_from_marketing_stops_marketing_only(scope: bytes):
    rules = (Rule(RuleGroup.MARKETING, RuleStatus.STOPS, scope, 10),)
    assert opted_out(rules, (BRAND, ACCOUNT), True, 100)
    assert not opted_out(rules, (BRAND, ACCOUNT), False, 100)
    assert not opted_out(rules, (OTHER,), True, 100)


def test_an_opt_out_from_everything_stops_everything():
    rules = (Rule(RuleGroup.ALL, RuleStatus.STOPS, ACCOUNT, 10),)
    assert opted_out(rules, (BRAND, ACCOUNT), True, 100)
    assert opted_out(rules, (BRAND, ACCOUNT), False, 100)


def test_an_opt_out_taken_back_or_run_out_stops_nothing():
    for rule in (
        Rule(RuleGroup.ALL, RuleStatus.ALLOWS, ACCOUNT, 10),
        Rule(RuleGroup.ALL, RuleStatus.STOPS, ACCOUNT, 10, until=100),
    ):
        assert not opted_out((rule,), (BRAND, ACCOUNT), True, 100)


def test_suppression_applies_to_all_accounts():
    for group, marketing, stops in (
        (RuleGroup.ALL, False, True),
        (RuleGroup.ALL, True, True),
        (RuleGroup.MARKETING, True, True),
        (RuleGroup.MARKETING, False, False),
        (RuleGroup.CONSENT, True, False),
    ):
        assert suppressed((Rule(group, RuleStatus.STOPS, GLOBAL_SCOPE, 10),), marketing, 100) is stops
    assert not suppressed((Rule(RuleGroup.ALL, RuleStatus.STOPS, ACCOUNT, 10),), True, 100)
