"""What a new configuration changes of the one in force, and what of that a running gateway can take over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from gateway.config.schema import Account, Carrier, Config, Route, is_secret

LIVE_SECTIONS = frozenset({"policy", "retention", "webhooks"})
"""Sections that are taken over whole while the gateway runs; of the others only ``LIVE_KEYS``."""

LIVE_KEYS = frozenset({"log.level", "admin.token", "admin.read_token", "admin.operators"})

ADJUSTED = frozenset(
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
"""Keys of a carrier that hold from the next message on; any other key needs its binds made anew."""

_TABLES = (("account", "accounts"), ("carrier", "carriers"), ("route", "routes"))


class Change(NamedTuple):
    """One table that differs. ``details``: key -> what became of it in words, secrets never shown."""

    table: str  # "carrier north", "policy", …
    kind: str  # "added" | "removed" | "changed"
    details: Mapping[str, str] = {}
    effect: str = ""  # what it means for binds, in words

    def __str__(self) -> str:
        text = f"{self.table} {self.kind}"
        if self.details:
            text += ": " + ", ".join(f"{key} {words}".lstrip() for key, words in self.details.items())
        return f"{text} ({self.effect})" if self.effect else text

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "table": self.table,
            "kind": self.kind,
            "details": dict(self.details),
            "effect": self.effect,
            "text": str(self),
        }

    @property
    def departed(self) -> str:
        """The account that leaves the configuration by this, "" when none does."""
        kind, _, name = self.table.partition(" ")
        return name if kind == "account" and self.kind == "removed" else ""


class Changes(NamedTuple):
    """All that differs. With ``refused`` nothing at all is taken over: those keys need a restart."""

    changed: tuple[Change, ...] = ()
    refused: tuple[Change, ...] = ()
    settling: bool = False  # taken over, but carriers that end or start anew still empty their windows

    @property
    def departed(self) -> list[str]:
        """The accounts that leave the configuration."""
        return [change.departed for change in self.changed if change.departed]

    def waiting(self, counts: Mapping[str, int]) -> Changes:
        """The same, with how many messages of accounts that leave still wait."""
        return self._replace(changed=tuple(_with_waiting(change, counts) for change in self.changed))

    def __bool__(self) -> bool:
        return bool(self.changed or self.refused)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "changes": [change.as_json() for change in self.changed],
            "needs_restart": [change.as_json() for change in self.refused],
        }


def _with_waiting(change: Change, counts: Mapping[str, int]) -> Change:
    name = change.departed
    if not name or not (count := counts.get(name, 0)):
        return change
    words = f"{count} of its messages wait and will go out; smpp-gateway queue cancel --account {name} ends them"
    return change._replace(effect=words)


def compare(old: Config, new: Config, *, supervised: bool = False, laws: bool = False) -> Changes:
    """What ``new`` changes. A supervisor can change the number of its ``workers``; one process alone cannot.

    ``laws``: the rules differ, which comes of the jurisdictions' files when ``[policy]`` is the same.
    """
    changed: list[Change] = []
    refused: list[Change] = []
    for field in msgspec.structs.fields(Config):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before == after or isinstance(before, tuple):
            continue
        if not isinstance(before, msgspec.Struct):
            live_here = supervised and field.name == "workers"
            words = {"": f"{_shown(before)} → {_shown(after)}"}
            (changed if live_here else refused).append(Change(field.encode_name, "changed", words))
            continue
        name, details = field.encode_name, differences(before, after)
        live = {key: words for key, words in details.items() if _is_live(name, key)}
        fixed = {key: words for key, words in details.items() if key not in live}
        if live:
            changed.append(Change(f"[{name}]", "changed", live))
        if fixed:
            refused.append(Change(f"[{name}]", "changed", fixed))
    if laws and old.policy == new.policy:
        changed.append(Change("[policy]", "changed", {"jurisdictions": "changed in their files"}))
    for table, attribute in _TABLES:
        changed += _tables(table, getattr(old, attribute), getattr(new, attribute))
    return Changes(tuple(changed), tuple(refused))


def restarts(old: Carrier, new: Carrier) -> bool:
    """Whether the binds of a carrier must be made anew for what has changed."""
    return not differences(old, new).keys() <= ADJUSTED


def differences(old: msgspec.Struct, new: msgspec.Struct) -> dict[str, str]:
    """Key -> words, of all keys in which two tables of a kind differ."""
    found = {}
    for field in msgspec.structs.fields(type(old)):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before != after:
            found[field.encode_name] = "changed" if is_secret(field.type) else f"{_shown(before)} → {_shown(after)}"
    return found


def _is_live(section: str, key: str) -> bool:
    return section in LIVE_SECTIONS or f"{section}.{key}" in LIVE_KEYS


def _tables(table: str, old: Iterable[Any], new: Iterable[Any]) -> list[Change]:
    """Tables that repeat are known by their names."""
    before = {_name(one): one for one in old}
    after = {_name(one): one for one in new}
    found = [
        Change(f"{table} {name}", "removed", {}, "its binds end in order" if table == "carrier" else "")
        for name in before
        if name not in after
    ]
    for name, one in after.items():
        if name not in before:
            found.append(Change(f"{table} {name}", "added"))
        elif details := differences(before[name], one):
            found.append(Change(f"{table} {name}", "changed", details, _effect(before[name], one)))
    if not found and list(before) != list(after):  # among equals the order decides
        found.append(Change(f"{table}s", "changed", {"order": "changed"}))
    return found


def _effect(old: Account | Carrier | Route, new: Account | Carrier | Route) -> str:
    if not isinstance(old, Carrier) or not isinstance(new, Carrier):
        return ""
    return "its binds are made anew" if restarts(old, new) else "its binds stay up"


def _name(one: Account | Carrier | Route) -> str:
    return one.lane if isinstance(one, Route) else one.name


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value) if value != "" else '""'
