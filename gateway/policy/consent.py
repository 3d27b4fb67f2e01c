"""What a recipient has said: consent, opt-out from marketing, opt-out from everything; and what an operator suppressed.

The store keeps one rule per (group, scope) of a recipient: the latest by the instant it was said. A rule of the scope
``EVERYBODY`` is an operator's: a hard suppression.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from gateway.model import Rule, RuleGroup, RuleStatus

EVERYBODY = bytes(8)


class ConsentState(IntEnum):
    """Where consent for a brand stands."""

    MISSING = 0  # never given, or given and run out
    REVOKED = 1
    GRANTED = 2


# Names of the module: reading a member off its enum costs 60 ns, and this runs for every rule of every recipient.
_MISSING, _REVOKED, _GRANTED = ConsentState
_CONSENT, _OPT_OUT, _ALL = RuleGroup.CONSENT, RuleGroup.MARKETING, RuleGroup.ALL
_STOPS = RuleStatus.STOPS


def consent(rules: Sequence[Rule], brand: bytes, now: int) -> ConsentState:
    """Whether the recipient agreed to marketing of this brand. Of several rules the strictest counts."""
    found = _MISSING
    for rule in rules:
        if rule.group == _CONSENT and rule.scope == brand and rule.holds(now):
            if rule.status == _STOPS:
                return _REVOKED
            found = _GRANTED
    return found


def suppressed(rules: Sequence[Rule], marketing: bool, now: int) -> bool:
    """Whether an operator suppressed the number for everybody."""
    return opted_out(rules, (EVERYBODY,), marketing, now)


def opted_out(rules: Sequence[Rule], scopes: tuple[bytes, ...], marketing: bool, now: int) -> bool:
    """Whether the recipient opted out at one of these scopes (brand, account): of marketing, or of everything."""
    for rule in rules:
        concerns = rule.group == _ALL or (marketing and rule.group == _OPT_OUT)
        if concerns and rule.scope in scopes and rule.status == _STOPS and rule.holds(now):
            return True
    return False
