"""How a record lies in the store: one table of head fields, used by Python's ``struct`` and by Lua's alike.

    head | recipient | account | route | envelope | permission | content | carrier | parts | trail

The head has a fixed size and ends with the lengths of the sections behind it; the recipient's key has 16 octets. At a
final state permission and content are cut off. Envelope and content are sealed: the functions never look into them.
When it was accepted stands in its id.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

HEAD_FIELDS: tuple[tuple[str, str], ...] = (
    ("reference_number", "H"),  # given by ``accept``; stays first
    ("state", "B"),
    ("reason", "B"),
    ("final", "B"),
    ("resent", "B"),  # an unknown was queued once more
    ("cancel", "B"),  # marked while at a carrier
    ("reserved", "B"),  # counted under its caps
    ("pinned", "B"),  # its carrier has accepted a part
    ("listed", "B"),  # 1: in u:<carrier>, it may get a receipt whose id nobody told us; + 2 x its state counted in a
    ("category", "B"),
    ("checks", "B"),
    ("priority", "B"),
    ("on_unknown", "B"),
    ("place", "B"),
    ("attempts", "B"),
    ("segments", "B"),
    ("weight", "H"),
    ("sequence", "I"),
    ("due", "Q"),
    ("expires", "Q"),
    ("lease", "Q"),
    ("account_len", "B"),
    ("route_len", "B"),
    ("envelope_len", "H"),
    ("permission_len", "H"),
    ("content_len", "I"),
    ("carrier_len", "B"),
    ("parts_len", "H"),
    ("trail_len", "H"),
)
"""(name, code of Python's ``struct``), in order, big-endian."""

WORKING = ("id", "raw", "dirty", "carrier", "parts", "steps", "bare")
"""Slots of a record in Lua before those of the head: what a function knows or changes beside it."""

_LUA = {"B": "B", "H": "I2", "I": "I4", "Q": "I8", "d": "d", "8s": "c8", "16s": "c16"}


class Head(NamedTuple):
    """The head as Python reads it. Same order as ``HEAD_FIELDS``."""

    reference_number: int
    state: int
    reason: int
    final: int
    resent: int
    cancel: int
    reserved: int
    pinned: int
    listed: int
    category: int
    checks: int
    priority: int
    on_unknown: int
    place: int
    attempts: int
    segments: int
    weight: int
    sequence: int
    due: int
    expires: int
    lease: int
    account_len: int
    route_len: int
    envelope_len: int
    permission_len: int
    content_len: int
    carrier_len: int
    parts_len: int
    trail_len: int


HEAD = Struct(">" + "".join(code for _, code in HEAD_FIELDS))
PERMISSION = Struct(">QQI8s8s8s")  # opens, closes, epoch, scopes of account, brand, template; then caps
CAP = Struct(">8sII")  # scope, limit, window in seconds
RULE = Struct(">BB8sQQ")  # group, status, scope, at, until
ANSWER = Struct(">16sQBBIQBBBBB")  # id, lease, fate, reason, status, due, on_unknown, last place, total, parts, carrier
ANSWER_PART = Struct(">BBIB")  # index, state, status, length of the id behind it
RECEIPT = Struct(">BBB")
"""carrier, state, number of fields of the id map; behind it each of these with its length, then the carrier's date when
the state is marked by ``DATED``, then the error text."""
PART = Struct(">BIB")
"""state, hour of the id map (0: none), length of the carrier's id; behind it the id, then the carrier's date when the
state is marked by ``DATED``."""
DATED = 128
"""Added to the state of a part, or of a final receipt, that has the carrier's date: seconds since 1970, 4 octets."""
EVENT = Struct(">16sIBBBBIBBBBB")
"""id, sequence, state, previous (0: none), reason, final, status, parts accepted, then four lengths: account, carrier,
carrier's id, error; these follow. All events of an entry have its instant."""
TOLD = Struct(">IBIBH")
"""Beside events while they are followed, of each final one, and of every one of accounts that want all: where it
begins, segments, the latest of its carrier's dates in seconds (0: none), then two lengths: the carrier's id, the sealed
envelope; these follow."""
SETTINGS = Struct(">IIIIIIII")
"""``Retention``, in its order."""
TURN = Struct(">QQB")  # lease, due, whether it is its turn then
ASK = Struct(">BdddI")  # whole numbers only (0/1), limit, held, wanted, up
PORTION = Struct(">QdddI")  # round, limit, held, wanted, up; the member's start follows
GRANT = Struct(">ddIII")  # share, target, members, before, up elsewhere


class Size(IntEnum):
    """The functions' own small numbers."""

    RULE_SIZE = RULE.size
    CAP_SIZE = CAP.size
    PERMISSION_SIZE = PERMISSION.size
    HEAD_SIZE = HEAD.size
    SETTINGS_SIZE = SETTINGS.size
    RAW = WORKING.index("raw") + 1
    FIRST = len(WORKING) + 1
    LAST = len(WORKING) + len(HEAD_FIELDS)
    ACCOUNT_AT = HEAD.size + 16
    DATED = DATED


def lua_format(shape: Struct) -> str:
    """The same format for Lua's struct."""
    codes = shape.format.lstrip(">")
    out, digits = ">", ""
    for code in codes:
        if code.isdigit():
            digits += code
        else:
            out += _LUA[digits + code]
            digits = ""
    return out


SLOTS = {name: number for number, name in enumerate((*WORKING, *(name for name, _ in HEAD_FIELDS)), 1)}
"""``r.<name>`` in a function is ``r[SLOTS[name]]``."""
