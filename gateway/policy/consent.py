"""What a recipient has said: consent, opt-out from marketing, opt-out from everything; and what an operator suppressed.

The store keeps one rule per (group, scope) of a recipient: the latest by the instant it was said. A rule of the scope
``EVERYBODY`` is an operator's: a hard suppression.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from gateway.model import Rule, RuleGroup, RuleStatus

EVERYBODY = bytes(8)


class Consent(IntEnum):
    """Where consent for a brand stands."""

    MISSING = 0  # never given, or given and run out
    REVOKED = 1
    GRANTED = 2


def consent(rules: Sequence[Rule], brand: bytes, now: int) -> Consent:
    """Whether the recipient agreed to marketing of this brand. Of several rules the strictest counts."""
    found = [
        Consent.REVOKED if rule.status == RuleStatus.STOPS else Consent.GRANTED
        for rule in rules
        if rule.group == RuleGroup.CONSENT and rule.scope == brand and rule.holds(now)
    ]
    return min(found, default=Consent.MISSING)


def suppressed(rules: Sequence[Rule], marketing: bool, now: int) -> bool:
    """Whether an operator suppressed the number for everybody."""
    return any(rule.scope == EVERYBODY and _stops(rule, marketing, now) for rule in rules)


def opted_out(rules: Sequence[Rule], scopes: tuple[bytes, ...], marketing: bool, now: int) -> bool:
    """Whether the recipient opted out at one of these scopes (brand, account): of marketing, or of everything."""
    return any(rule.scope in scopes and _stops(rule, marketing, now) for rule in rules)


def _stops(rule: Rule, marketing: bool, now: int) -> bool:
    concerns = rule.group == RuleGroup.ALL or (marketing and rule.group == RuleGroup.MARKETING)
    return concerns and rule.status == RuleStatus.STOPS and rule.holds(now)
