"""A store from before one name stood for all spellings of a number, and what ends that.

Names are keyed hashes, so nobody can read from a store whose they are; but the other spellings of a number are few. So
what is known of a recipient under one of them is looked up and copied, with its original instants, before it is
decided about or heard. A store that was made by numbers' identities never gets here.
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
    """A ``MessageStore`` that knows recipients by every spelling of their numbers. Dearer: for former stores alone."""

    async def facts(self, recipients: Sequence[Recipient], caps: Sequence[Sequence[Cap]] = ()) -> list[Facts]:
        await self.carry(recipients)
        return await super().facts(recipients, caps)

    async def opt(self, items: Sequence[OptChange]) -> list[bool]:
        """As ``MessageStore.opt``, and under the former names too: what waits under one of them obeys as well."""
        await self.carry([item.recipient for item in items])
        others = [item._replace(recipient=name) for item in items for name in self._names(item.recipient)]
        return (await super().opt([*items, *others]))[: len(items)]

    async def opts(self, recipient: Recipient) -> list[OptRecord]:
        await self.carry([recipient])
        return await super().opts(recipient)

    async def carry(self, recipients: Sequence[Recipient]) -> int:
        """Copy what stands under other names of these recipients, and is news there; answers how many words."""
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
        """The other names of a recipient; what was accepted before is itself under one of them."""
        digits = recipient.digits
        if not digits:
            return []
        everything = (self.hasher.recipient(digits), *self.hasher.spelled(digits))
        return [name for name in everything if name.key != recipient.key]


def _news(theirs: Sequence[Rule], known: Sequence[Rule]) -> bool:
    """Whether there is a later word among theirs (at the same instant: a stricter one)."""
    latest = {(rule.group, rule.scope): (rule.at, rule.status) for rule in known}
    return any((rule.at, rule.status) > latest.get((rule.group, rule.scope), (-1, 0)) for rule in theirs)


class MigrationResult(NamedTuple):
    """What a migration did."""

    former: int  # the version of the store's names before, 0 = none was recorded
    rules: int  # recipients of whom there are words, as far as partitions know
    copied: int  # words that stand under more names now
    done: bool  # names are recorded as those of ``VERSION``


async def migrate(link: StoreConnection, store: LegacyNumberStore, numbers: Sequence[str] | None) -> MigrationResult:
    """Make a store's names those of ``identity.VERSION``. Raises StoreRefused when there is no way, StoreError.

    ``numbers``: digits of everybody whose consent or opt-out is kept, each as it was written or not; None: not given,
    then only a store without any can be migrated.
    """
    former = link.numbers
    if former == VERSION:
        return MigrationResult(former, 0, 0, True)
    if former:
        raise StoreRefused(f"there is no way from names of version {former} to those of version {VERSION}")
    rules = sum(await link.commands([(p, (b"HLEN", tag + b"r")) for p, tag in enumerate(link.tags)]))
    if numbers is None and rules:
        return MigrationResult(former, rules, 0, False)
    copied = 0
    digits = list(numbers or ())
    for some in (digits[start : start + TOGETHER] for start in range(0, len(digits), TOGETHER)):
        everybody = [store.hasher.recipient(one) for one in some]
        copied += await store.carry(everybody)
        copied += await store.carry([name for one in some for name in store.hasher.spelled(one)])
    await link.set_meta(NUMBERS, str(VERSION).encode())
    return MigrationResult(former, rules, copied, True)
