"""Assembles the function library from ``scripts/``: shared parts first, then one file per promise.

The sources read like Lua with our vocabulary in it, and become plain Lua here:

- ``State.SENT``, ``Reason.EXPIRED``, … are the values of the enums of ``gateway.model``: no number is written twice.
- ``r.state`` is the slot of a head field in a record's array (``layout.SLOTS``): an array unpacks three times faster
  than a table with names.
- ``$HEAD``, ``$EVENT``, … are the formats of ``layout``, in the words of Lua's ``struct``.
- ``$CLOCK`` is the one line that tells the time, so that tests may own it.

The library's name carries a hash of its source, and so does every function's: two versions can live side by side.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum
from hashlib import blake2b
from importlib.resources import files
from typing import NamedTuple

from gateway import model
from gateway.store import layout
from gateway.store.requests import CancelResult, ClaimResult

SERVER_CLOCK = "local t = call('TIME') return t[1] * 1000 + floor(t[2] / 1000)"
KEY_CLOCK = "return tonumber(call('GET', P .. 'clock') or 0)"
"""For tests: the time is what the key ``<tag>clock`` of the partition says (ms)."""

SHARED = (
    "base",
    "record",
    "parts",
    "lanes",
    "waiting",
    "moves",
    "gate",
    "commit",
    "outcome",
    "parked",
    "proof",
    "look_up",
    "references",
    "index",
    "hooks",
    "claims",
)
"""What two files need, in the order in which it builds up."""
FUNCTIONS = {
    "accept": "",
    "claim": "",
    "settle": "allow-oom",
    "take": "allow-oom",
    "permit": "allow-oom",
    "untake": "allow-oom",
    "regate": "allow-oom",
    "postpone": "allow-oom",
    "strays": "allow-oom",
    "rescue": "allow-oom",
    "progress": "allow-oom",
    "index_ids": "allow-oom",
    "locate": "allow-oom",
    "unpark": "allow-oom",
    "relocate": "allow-oom",
    "cancel": "allow-oom",
    "cancel_account": "allow-oom",
    "opt": "allow-oom",
    "flag": "allow-oom",
    "release": "allow-oom",
    "beat": "allow-oom",
    "share": "allow-oom",
    "reclaim": "allow-oom",
    "sweep": "allow-oom",
    "trim": "allow-oom",
    "facts": "no-writes",
    "opts": "no-writes",
    "flags": "no-writes",
    "find": "no-writes",
    "reference": "no-writes",
    "mentions": "no-writes",
    "owners": "no-writes",
    "depths": "no-writes",
    "outlook": "no-writes",
    "events": "no-writes",
    "hooks_on": "allow-oom",
    "hooks_off": "allow-oom",
    "hooks_all": "allow-oom",
    "hooks_read": "allow-oom",
    "hooks_move": "allow-oom",
    "hooks_next": "allow-oom",
    "hooks_dead": "allow-oom",
    "hooks_queues": "no-writes",
}
"""Name -> flag. A full memory refuses only new messages."""

CALLBACKS = {"find": "find_records", "flags": "get_flags", "events": "get_events"}
"""Where the Lua name differs: the short one is taken."""

_ENUMS: dict[str, type[IntEnum] | type[model.Check]] = {
    "State": model.State,
    "Reason": model.Reason,
    "Part": model.PartState,
    "Fate": model.Resolution,
    "Check": model.Check,
    "OnUnknown": model.OnUnknown,
    "Priority": model.Priority,
    "Match": model.ReceiptMatch,
    "Group": model.RuleGroup,
    "Status": model.RuleStatus,
    "Cancel": CancelResult,
    "Claim": ClaimResult,
    "Size": layout.FunctionConstant,
}
_FORMATS = {
    "HEAD": layout.HEAD,
    "PERMISSION": layout.PERMISSION,
    "CAP": layout.CAP,
    "RULE": layout.RULE,
    "ANSWER": layout.ANSWER,
    "RECEIPT": layout.RECEIPT,
    "DETAIL": layout.DETAIL,
    "PARKED": layout.PARKED,
    "COPY": layout.COPY,
    "TOLD": layout.TOLD,
    "SETTINGS": layout.SETTINGS,
    "TURN": layout.TURN,
    "ASK": layout.ASK,
    "PORTION": layout.PORTION,
    "GRANT": layout.GRANT,
}
_TOKEN = re.compile(
    r"(?P<comment>--[^\n]*)"
    r"|(?P<string>'[^'\n]*'|\"[^\"\n]*\")"
    r"|\$(?P<format>[A-Z]+)"
    rf"|\b(?P<enum>{'|'.join(_ENUMS)})\.(?P<member>[A-Z_]+)"
    r"|\br\.(?P<slot>[a-z_]+)"
)


class FunctionLibrary(NamedTuple):
    """What the servers load."""

    name: str
    source: str
    suffix: str

    def function(self, name: str) -> str:
        """The registered name of a function."""
        return name + self.suffix


def build_library(clock: str = SERVER_CLOCK) -> FunctionLibrary:
    """The whole library; ``clock``: Lua statements that return the time in ms. Raises KeyError for an unknown word."""
    here = files(__package__) / "scripts"
    formats = {name: repr(layout.lua_format(shape)) for name, shape in _FORMATS.items()} | {"CLOCK": clock}
    parts = [(here / "shared" / f"{name}.lua").read_text("utf-8") for name in SHARED]
    shared = [_plain(part, formats) for part in parts]
    functions = {name: _plain((here / f"{name}.lua").read_text("utf-8"), formats) for name in FUNCTIONS}
    suffix = "_" + blake2b("\n".join((*shared, *functions.values())).encode(), digest_size=5).hexdigest()
    lines = [f"#!lua name=gateway{suffix}", *shared]
    for name, flag in FUNCTIONS.items():
        registration = (
            f"redis.register_function{{function_name='{name}{suffix}', callback={CALLBACKS.get(name, name)}, "
            f"flags={{{flag and repr(flag)}}}}}"
        )
        # A block of its own: Lua has room for 200 locals in one. What two files need is a shared part.
        lines += ["do " + functions[name], registration + " end"]
    return FunctionLibrary("gateway" + suffix, "\n".join((*lines, "")), suffix)


def _plain(source: str, formats: Mapping[str, str]) -> str:
    """Our vocabulary -> plain Lua. Comments go, lines stay, so that the line numbers in errors mean something."""

    def replace(found: re.Match[str]) -> str:
        if found["comment"]:
            return ""
        if found["string"]:
            return found["string"]
        if found["format"]:
            return formats[found["format"]]
        if found["slot"]:
            return f"r[{layout.SLOTS[found['slot']]}]"
        return str(int(_ENUMS[found["enum"]][found["member"]]))

    return _TOKEN.sub(replace, source)
