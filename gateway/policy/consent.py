"""Consent, opt-outs from marketing or everything, and suppression by the operator.

The store keeps one rule per (group, scope) of a recipient: the latest by the instant of its statement. A rule of the
scope ``GLOBAL_SCOPE`` is the operator's: a suppression.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from gateway.model import Rule, RuleGroup, RuleStatus

GLOBAL_SCOPE = bytes(8)


class ConsentState(IntEnum):
    """The state of consent for a brand."""

    MISSING = 0  # never given, or expired
    REVOKED = 1
    GRANTED = 2


# Module names: an enum attribute costs 60 ns, and this runs for every rule of every recipient.
_MISSING, _REVOKED, _GRANTED = ConsentState
_CONSENT, _OPT_OUT, _ALL = RuleGroup.CONSENT, RuleGroup.MARKETING, RuleGroup.ALL
_STOPS = RuleStatus.STOPS


def consent(rules: Sequence[Rule], brand: bytes, now: int) -> ConsentState:
    """Return the state of consent to marketing of a brand. Of several rules the strictest counts."""
    found = _MISSING
    for rule in rules:
        if rule.group == _CONSENT and rule.scope == brand and rule.holds(now):
            if rule.status == _STOPS:
                return _REVOKED
            found = _GRANTED
    return found


def suppressed(rules: Sequence[Rule], marketing: bool, now: int) -> bool:
    """Whether the operator suppressed the number for all accounts."""
    return opted_out(rules, (GLOBAL_SCOPE,), marketing, now)


def opted_out(rules: Sequence[Rule], scopes: tuple[bytes, ...], marketing: bool, now: int) -> bool:
    """Whether the recipient opted out of marketing or everything in one of ``scopes`` (brand, account)."""
    for rule in rules:
        applies = rule.group == _ALL or (marketing and rule.group == _OPT_OUT)
        if applies and rule.scope in scopes and rule.status == _STOPS and rule.holds(now):
            return True
    return False
