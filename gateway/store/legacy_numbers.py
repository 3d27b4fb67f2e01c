"""Stores made before one name stood for all spellings of a number, and their migration.

Names are keyed hashes, so the numbers behind them cannot be read from a store; but the other spellings of a number are
few. So the rules of a recipient under another spelling are looked up and copied, with their original instants, before
a decision or a change. A store that names recipients by their numbers' identities never needs this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from gateway.model import Cap, Facts, Recipient, Rule
from gateway.policy.identity import VERSION
from gateway.store.errors import StoreRefused
from gateway.store.keys import NUMBERS
from gateway.store.messages import MessageStore
from gateway.store.requests import OptChange, OptRecord

if TYPE_CHECKING:
    from gateway.store.redis.connection import StoreConnection

TOGETHER = 200
"""Numbers of a migration that are looked up in one call."""


class LegacyNumberStore(MessageStore):
    """A ``MessageStore`` that finds recipients by every spelling of their numbers, at a higher cost."""

    async def facts(self, recipients: Sequence[Recipient], caps: Sequence[Sequence[Cap]] = ()) -> list[Facts]:
        await self.carry(recipients)
        return await super().facts(recipients, caps)

    async def opt(self, items: Sequence[OptChange]) -> list[bool]:
        """Write as ``MessageStore.opt``, under the former names too: what waits under one of them must obey."""
        await self.carry([item.recipient for item in items])
        others = [item._replace(recipient=name) for item in items for name in self._names(item.recipient)]
        return (await super().opt([*items, *others]))[: len(items)]

    async def opts(self, recipient: Recipient) -> list[OptRecord]:
        await self.carry([recipient])
        return await super().opts(recipient)

    async def carry(self, recipients: Sequence[Recipient]) -> int:
        """Copy newer rules that stand under other names of these recipients; return how many."""
        asked = {recipient.key: recipient for recipient in recipients}
        pairs = [(recipient, name) for recipient in asked.values() for name in self._names(recipient)]
        if not pairs:
            return 0
        known = dict(zip(asked, await super().facts(list(asked.values())), strict=True))
        copies: list[OptChange] = []
        for (recipient, name), theirs in zip(pairs, await super().facts([name for _, name in pairs]), strict=True):
            if _news(theirs.rules, known[recipient.key].rules):
                copies += [OptChange(recipient, *record) for record in await super().opts(name)]
        return sum(await super().opt(copies)) if copies else 0

    def _names(self, recipient: Recipient) -> list[Recipient]:
        """Return the other names of a recipient; messages accepted before are under one of them."""
        digits = recipient.digits
        if not digits:
            return []
        everything = (self.hasher.recipient(digits), *self.hasher.spelled(digits))
        return [name for name in everything if name.key != recipient.key]


def _news(theirs: Sequence[Rule], known: Sequence[Rule]) -> bool:
    """Tell whether one of these rules is later than what is known (at the same instant: stricter)."""
    latest = {(rule.group, rule.scope): (rule.at, rule.status) for rule in known}
    return any((rule.at, rule.status) > latest.get((rule.group, rule.scope), (-1, 0)) for rule in theirs)


class MigrationResult(NamedTuple):
    """What a migration did."""

    former: int  # the version of the store's names before, 0 = none was recorded
    rules: int  # names that have rules
    copied: int  # rules copied to another name
    done: bool  # the names are recorded as those of ``VERSION``


async def migrate(link: StoreConnection, store: LegacyNumberStore, numbers: Sequence[str] | None) -> MigrationResult:
    """Make a store's names those of ``identity.VERSION``. Raises StoreRefused when that is not possible, StoreError.

    ``numbers``: digits, in any spelling, of all whose consent or opt-out is stored. None: not given; then only a store
    without any rules can be migrated.
    """
    former = link.numbers
    if former == VERSION:
        return MigrationResult(former, 0, 0, True)
    if former:
        raise StoreRefused(f"names of version {former} cannot be migrated to version {VERSION}")
    rules = sum(await link.commands([(p, (b"HLEN", tag + b"r")) for p, tag in enumerate(link.tags)]))
    if numbers is None and rules:
        return MigrationResult(former, rules, 0, False)
    copied = 0
    digits = list(numbers or ())
    for some in (digits[start : start + TOGETHER] for start in range(0, len(digits), TOGETHER)):
        recipients = [store.hasher.recipient(one) for one in some]
        copied += await store.carry(recipients)
        copied += await store.carry([name for one in some for name in store.hasher.spelled(one)])
    await link.set_meta(NUMBERS, str(VERSION).encode())
    return MigrationResult(former, rules, copied, True)
