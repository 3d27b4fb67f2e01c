"""What the store knows of recipients: their rules (consent, opt-outs) and the reservations under their caps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.model import Cap, Facts, Recipient, Rule
from gateway.store.arguments import read_rules
from gateway.store.codec import pack_caps
from gateway.store.layout import RULE
from gateway.store.partition_calls import PartitionCalls, slices
from gateway.store.requests import OptChange, OptRecord


class RecipientCalls(PartitionCalls):
    """The calls of ``MessageStore`` about recipients. Every method may raise StoreError."""

    async def facts(self, recipients: Sequence[Recipient], caps: Sequence[Sequence[Cap]] = ()) -> list[Facts]:
        """Return the rules of each recipient; with ``caps`` (one sequence each) also the reservations under them."""
        if not caps:
            return await self._rules(recipients)
        calls, orders = [], []
        for partition, indices in slices([recipient.partition for recipient in recipients]):
            args: list[Any] = []
            for index in indices:
                args += (recipients[index].key, pack_caps(tuple(caps[index])))
            calls.append((partition, "facts", args))
            orders.append(indices)
        out = [Facts()] * len(recipients)
        for order, reply in zip(orders, await self._link.calls(calls), strict=True):
            for index, rules, used in zip(order, reply[::2], reply[1::2], strict=True):
                if rules or used:
                    out[index] = Facts(read_rules(rules), tuple(used[::2]), tuple(used[1::2]))
        return out

    async def _rules(self, recipients: Sequence[Recipient]) -> list[Facts]:
        """Return the rules by an ordinary command, which costs the store a tenth of a function call."""
        commands, orders = [], []
        for partition, indices in slices([recipient.partition for recipient in recipients]):
            commands.append((partition, (b"HMGET", self._rules_keys[partition], *[recipients[i].key for i in indices])))
            orders.append(indices)
        out = [Facts()] * len(recipients)
        for order, reply in zip(orders, await self._link.commands(commands), strict=True):
            for index, rules in zip(order, reply, strict=True):
                if rules:
                    out[index] = Facts(read_rules(rules))
        return out

    async def opt(self, items: Sequence[OptChange]) -> list[bool]:
        """Write consents and opt-outs.

        False: a later change, or a stricter one of the same instant, is stored already; nothing was written.
        """
        calls, orders = [], []
        for partition, indices in slices([item.recipient.partition for item in items]):
            args: list[Any] = [self._settings]
            for index in indices:
                item = items[index]
                rule = RULE.pack(item.group, item.status, item.scope, item.at, item.until)
                args += (item.recipient.key, rule, self._vault.seal(item.detail) if item.detail else b"")
            calls.append((partition, "opt", args))
            orders.append(indices)
        out = [False] * len(items)
        for order, reply in zip(orders, await self._link.calls(calls), strict=True):
            for index, applied in zip(order, reply, strict=True):
                out[index] = applied == 1
        return out

    async def opts(self, recipient: Recipient) -> list[OptRecord]:
        """Return every rule of a recipient with its detail."""
        packed, *details = await self._link.call(recipient.partition, "opts", recipient.key)
        rules: Sequence[Rule] = read_rules(packed)
        return [
            OptRecord(*rule, self._vault.open(detail) if detail else b"")
            for rule, detail in zip(rules, details, strict=True)
        ]
