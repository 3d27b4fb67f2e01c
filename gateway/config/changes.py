"""Compares two configurations: what changes, and which changes a running gateway can apply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from gateway.config.schema import Account, Carrier, Config, Route, is_secret

LIVE_TABLES = frozenset({"policy", "retention", "webhooks"})
"""Tables that a running gateway applies as a whole; of the others only ``LIVE_KEYS``."""

LIVE_KEYS = frozenset({"log.level", "admin.token", "admin.read_token", "admin.operators"})

ADJUSTABLE = frozenset(
    {
        "rate",
        "sender_rates",
        "on_unknown",
        "source_ton",
        "source_npi",
        "dest_ton",
        "dest_npi",
        "number_format",
        "alphabet",
        "long_messages",
        "registered_delivery",
        "id_form",
        "status_table",
        "utc_offset",
        "service_type",
        "default_alphabet",
        "validity",
        "time_zone",
        "tlvs",
        "receipts",
        "receipt_text",
        "country",
    }
)
"""Keys of a carrier that apply from the next message on; a change of any other key requires a rebind."""

_TABLES = (("account", "accounts"), ("carrier", "carriers"), ("route", "routes"))


class Change(NamedTuple):
    """One table that differs. ``details``: key -> the change in words, without secrets."""

    table: str  # "carrier north", "policy", …
    kind: str  # "added" | "removed" | "changed"
    details: Mapping[str, str] = {}
    effect: str = ""  # on binds or waiting messages, in words

    def __str__(self) -> str:
        text = f"{self.table} {self.kind}"
        if self.details:
            text += ": " + ", ".join(f"{key} {change}".lstrip() for key, change in self.details.items())
        return f"{text} ({self.effect})" if self.effect else text

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON for the HTTP interface and ``--json``."""
        return {
            "table": self.table,
            "kind": self.kind,
            "details": dict(self.details),
            "effect": self.effect,
            "text": str(self),
        }

    @property
    def removed_account(self) -> str:
        """Name of the account that this removes, or ""."""
        kind, _, name = self.table.partition(" ")
        return name if kind == "account" and self.kind == "removed" else ""


class Changes(NamedTuple):
    """All differences. ``refused``: changes that need a restart; with any of them, nothing is applied."""

    changed: tuple[Change, ...] = ()
    refused: tuple[Change, ...] = ()
    settling: bool = False  # applied, but removed or changed carriers are still draining

    @property
    def removed_accounts(self) -> list[str]:
        """Names of the accounts that are removed."""
        return [change.removed_account for change in self.changed if change.removed_account]

    def with_waiting(self, counts: Mapping[str, int]) -> Changes:
        """Return the changes with the number of waiting messages of each removed account (name -> count)."""
        return self._replace(changed=tuple(_with_waiting(change, counts) for change in self.changed))

    def __bool__(self) -> bool:
        return bool(self.changed or self.refused)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON for the HTTP interface and ``--json``."""
        return {
            "changes": [change.as_json() for change in self.changed],
            "needs_restart": [change.as_json() for change in self.refused],
        }


def _with_waiting(change: Change, counts: Mapping[str, int]) -> Change:
    name = change.removed_account
    if not name or not (count := counts.get(name, 0)):
        return change
    effect = f"{count} of its messages wait and will be sent; smpp-gateway queue cancel --account {name} cancels them"
    return change._replace(effect=effect)


def compare(old: Config, new: Config, *, supervised: bool = False, rules_changed: bool = False) -> Changes:
    """Return what ``new`` changes. ``supervised``: the number of ``workers`` can change without a restart.

    ``rules_changed``: the rules differ; when ``[policy]`` is the same, the jurisdiction files have changed.
    """
    changed: list[Change] = []
    refused: list[Change] = []
    for field in msgspec.structs.fields(Config):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before == after or isinstance(before, tuple):
            continue
        if not isinstance(before, msgspec.Struct):
            live_here = supervised and field.name == "workers"
            details = {"": f"{_shown(before)} → {_shown(after)}"}
            (changed if live_here else refused).append(Change(field.encode_name, "changed", details))
            continue
        name, differing = field.encode_name, differences(before, after)
        live = {key: change for key, change in differing.items() if _is_live(name, key)}
        fixed = {key: change for key, change in differing.items() if key not in live}
        if live:
            changed.append(Change(f"[{name}]", "changed", live))
        if fixed:
            refused.append(Change(f"[{name}]", "changed", fixed))
    if rules_changed and old.policy == new.policy:
        changed.append(Change("[policy]", "changed", {"jurisdictions": "changed in their files"}))
    for table, attribute in _TABLES:
        changed += _tables(table, getattr(old, attribute), getattr(new, attribute))
    return Changes(tuple(changed), tuple(refused))


def needs_rebind(old: Carrier, new: Carrier) -> bool:
    """Whether a carrier must rebind for the change to apply."""
    return not differences(old, new).keys() <= ADJUSTABLE


def differences(old: msgspec.Struct, new: msgspec.Struct) -> dict[str, str]:
    """Return key -> change in words for every key in which two tables differ."""
    found = {}
    for field in msgspec.structs.fields(type(old)):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before != after:
            found[field.encode_name] = "changed" if is_secret(field.type) else f"{_shown(before)} → {_shown(after)}"
    return found


def _is_live(table: str, key: str) -> bool:
    return table in LIVE_TABLES or f"{table}.{key}" in LIVE_KEYS


def _tables(table: str, old: Iterable[Any], new: Iterable[Any]) -> list[Change]:
    """Return the changes of repeated tables, which are matched by name."""
    before = {_name(one): one for one in old}
    after = {_name(one): one for one in new}
    found = [
        Change(f"{table} {name}", "removed", {}, "its binds close gracefully" if table == "carrier" else "")
        for name in before
        if name not in after
    ]
    for name, one in after.items():
        if name not in before:
            found.append(Change(f"{table} {name}", "added"))
        elif details := differences(before[name], one):
            found.append(Change(f"{table} {name}", "changed", details, _effect(before[name], one)))
    if not found and list(before) != list(after):  # routes of equal rank apply in order
        found.append(Change(f"{table}s", "changed", {"order": "changed"}))
    return found


def _effect(old: Account | Carrier | Route, new: Account | Carrier | Route) -> str:
    if not isinstance(old, Carrier) or not isinstance(new, Carrier):
        return ""
    return "its binds reconnect" if needs_rebind(old, new) else "its binds stay up"


def _name(one: Account | Carrier | Route) -> str:
    return one.lane if isinstance(one, Route) else one.name


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value) if value != "" else '""'
