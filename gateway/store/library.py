"""Assembles the function library from ``scripts/``: shared parts first, then one file per promise.

Every file is ordinary Lua 5.1 (``make check`` lints them all), with three kinds of names that stand for constants and
become numbers, strings and slots here, so that nothing is written twice and nothing is looked up at run time:

- ``State.SENT``, ``Reason.EXPIRED``, ``Size.HEAD_SIZE`` … (see ``VOCABULARY``) are the values of the enums of
  ``gateway.model`` and of ``layout.FunctionConstant``.
- ``Format.HEAD``, ``Format.EVENT`` … are the formats of ``layout``, in the notation of Lua's ``struct``.
- ``r.state`` and other fields of a variable named ``r`` are slots of a record's array (``layout.SLOTS``): an array
  unpacks three times faster than a table with names.

A name that is none of these raises KeyError. Names that a shared part declares at its top level (``call``, ``open``,
``commit`` …) are known to every part behind it and to every function.

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

KEY_CLOCK = "return tonumber(call('GET', P .. 'clock') or 0)"
"""For tests: the body of a ``clock`` that returns the value of the partition's key ``<tag>clock`` (ms)."""

SHARED = (
    "base",
    "clock",
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
    "webhooks",
    "claims",
)
"""What two files need; each part uses only those before it."""
FUNCTIONS = {
    "accept": "",
    "claim": "",
    "settle": "allow-oom",
    "take": "allow-oom",
    "permit": "allow-oom",
    "untake": "allow-oom",
    "regate": "allow-oom",
    "postpone": "allow-oom",
    "untake_lost": "allow-oom",
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
    "facts": "no-writes",
    "opts": "no-writes",
    "flags": "no-writes",
    "find": "no-writes",
    "reference": "no-writes",
    "mentions": "no-writes",
    "owners": "no-writes",
    "depths": "no-writes",
    "overview": "no-writes",
    "events": "no-writes",
    "webhooks_follow": "allow-oom",
    "webhooks_unfollow": "allow-oom",
    "webhooks_want_all": "allow-oom",
    "webhooks_read": "allow-oom",
    "webhooks_move": "allow-oom",
    "webhooks_next_batch": "allow-oom",
    "webhooks_dead_letters": "allow-oom",
    "webhooks_queues": "no-writes",
}
"""Name -> flag. A full memory refuses new messages and claims, nothing else."""

CALLBACKS = {"find": "find_records", "flags": "get_flags", "events": "get_events"}
"""Lua names that differ from the function's, as the short name is taken."""

VOCABULARY: dict[str, type[IntEnum] | type[model.Check]] = {
    "State": model.State,
    "Reason": model.Reason,
    "Part": model.PartState,
    "Resolution": model.Resolution,
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
"""Tables of constants that scripts may name."""
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
    "SUMMARY": layout.SUMMARY,
    "SETTINGS": layout.SETTINGS,
    "TURN": layout.TURN,
    "ASK": layout.ASK,
    "PORTION": layout.PORTION,
    "GRANT": layout.GRANT,
}
_TOKEN = re.compile(
    r"(?P<comment>--[^\n]*)"
    r"|(?P<string>'[^'\n]*'|\"[^\"\n]*\")"
    r"|\bFormat\.(?P<format>[A-Z]+)"
    rf"|\b(?P<enum>{'|'.join(VOCABULARY)})\.(?P<member>[A-Z_]+)"
    r"|\br\.(?P<slot>[a-z_]+)"
)


class FunctionLibrary(NamedTuple):
    """The library as servers load it."""

    name: str
    source: str
    suffix: str

    def function(self, name: str) -> str:
        """Return the registered name of a function."""
        return name + self.suffix


def script_sources() -> tuple[dict[str, str], dict[str, str]]:
    """Return the shared parts and the functions as they are written: name -> source, in the order of the library."""
    here = files(__package__) / "scripts"
    shared = {name: (here / "shared" / f"{name}.lua").read_text("utf-8") for name in SHARED}
    return shared, {name: (here / f"{name}.lua").read_text("utf-8") for name in FUNCTIONS}


def build_library(clock: str = "") -> FunctionLibrary:
    """Return the whole library. ``clock``: body of a Lua function that returns the time in ms; "": the server's.

    Raises KeyError for a constant, format or slot that is not defined.
    """
    formats = {name: repr(layout.lua_format(shape)) for name, shape in _FORMATS.items()}
    written_shared, written_functions = script_sources()
    if clock:
        written_shared["clock"] = f"local function clock() {clock} end"
    shared = [_plain(part, formats) for part in written_shared.values()]
    functions = {name: _plain(part, formats) for name, part in written_functions.items()}
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
    """Put constants, formats and slots in place. Comments go, lines stay, so that errors name the right line."""

    def replace(found: re.Match[str]) -> str:
        if found["comment"]:
            return ""
        if found["string"]:
            return found["string"]
        if found["format"]:
            return formats[found["format"]]
        if found["slot"]:
            return f"r[{layout.SLOTS[found['slot']]}]"
        return str(int(VOCABULARY[found["enum"]][found["member"]]))

    return _TOKEN.sub(replace, source)
