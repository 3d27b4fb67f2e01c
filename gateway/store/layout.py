"""How a record lies in the store: one table of head fields, used by Python's ``struct`` and by Lua's alike.

    head | recipient | account | route | envelope | permission | content | carrier | parts | copies | trail

The head has a fixed size and ends with the lengths of the sections behind it; the recipient's key has 16 octets. At a
final state, and once an unknown can no longer be resent, permission and content are cut off (the permission of one that
is counted under caps at its final state only). Envelope and content are sealed: the functions never look into them.
When it was accepted stands in its id.

``parts`` is what is known of each segment over all its copies. ``copies`` is empty but for messages that may be on the
wire more than once, and those whose text a receipt can be held against: the mark of the text with its length, then the
copies (``COPY``).

The format has a version, the third octet. The first format had none there but the state, which is less than 128:
such a record is brought into today's form when it is opened (``upgraded`` here and in ``record.lua``).
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

HEAD_FIELDS: tuple[tuple[str, str], ...] = (
    ("reference_number", "H"),  # given by ``accept``; stays first
    ("version", "B"),  # ``VERSION``; stays third
    ("state", "B"),
    ("reason", "B"),
    ("final", "B"),
    ("resent", "B"),  # how often an unknown was queued once more
    ("cancel", "B"),  # marked while at a carrier: 1, or ``STOPPED`` + the reason why its other parts must not follow
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
    ("copies_len", "H"),
    ("trail_len", "H"),
)
"""(name, code of Python's ``struct``), in order, big-endian."""

WORKING = ("id", "raw", "dirty", "carrier", "parts", "copies", "steps", "bare")
"""Slots of a record in Lua before those of the head: what a function knows or changes beside it."""

_LUA = {"B": "B", "H": "I2", "I": "I4", "Q": "I8", "d": "d", "8s": "c8", "16s": "c16"}


class RecordHead(NamedTuple):
    """The head as Python reads it. Same order as ``HEAD_FIELDS``."""

    reference_number: int
    version: int
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
    copies_len: int
    trail_len: int


HEAD = Struct(">" + "".join(code for _, code in HEAD_FIELDS))
VERSION = 129
"""Of the form of a record. Never below 128."""

FORMER_HEAD = HEAD.size - 3  # the first format: no version, no length of copies
_COPIES_LEN_AT = FORMER_HEAD - 2  # … which stands before that of the trail


def upgraded(raw: bytes) -> bytes:
    """A record in today's form, whichever it was written in."""
    if raw[2] >= 128:
        return raw
    return b"".join((raw[:2], bytes((VERSION,)), raw[2:_COPIES_LEN_AT], b"\0\0", raw[_COPIES_LEN_AT:]))


PERMISSION = Struct(">QQI8s8s8s")  # opens, closes, epoch, scopes of account, brand, template; then caps
CAP = Struct(">8sII")  # scope, limit, window in seconds
RULE = Struct(">BB8sQQ")  # group, status, scope, at, until
ANSWER = Struct(
    ">16sQBBIQBBBBB"
)  # id, lease, resolution, reason, status, due, on_unknown, last place, total, parts, carrier
ANSWER_PART = Struct(">BBIB")  # index, state, status, length of the id behind it; after the last: the mark of the text
RECEIPT = Struct(">BBB")
"""carrier, state, number of fields of the id map (+ ``DETAILED``); behind it each of these with its length; then what
is told of a receipt whose id is not known: ``DETAIL``, host, mark of its text, each guess (kind, id with its length);
then the date when the state is marked by ``DATED``, then the error text."""
DETAILED = 128
WHOLE = 64
"""Added to the state of a receipt that, for the last part, counts for the whole message."""
DETAIL = Struct(">BBBB")
"""1 when only the plain form of its id can be meant, or ``EARLY``; lengths of host and mark; number of guesses."""
EARLY = 2
"""Told of a receipt before it is looked up: only to see whether its id in other forms is that of others."""
PARKED = Struct(">BIH")
"""Before a receipt that is parked: 255 (the first format has the carrier's number, which is less), the second it came,
its tries so far."""
COPY = Struct(">BBIIBB")
"""part, state, hour of the id map (0: none), lease (its last four octets), lengths of carrier and its id behind it."""
PART = Struct(">BIB")
"""state, hour of the id map (0: none), length of the carrier's id; behind it the id, then the carrier's date when the
state is marked by ``DATED``."""
STOPPED = 128
DATED = 128
"""Added to the state of a part, or of a final receipt, that has the carrier's date: seconds since 1970, 4 octets."""
EVENT = Struct(">16sIBBBBIBBBBB")
"""id, sequence, state, previous (0: none), reason, final, status, parts accepted, then four lengths: account, carrier,
carrier's id, error; these follow. All events of an entry have its instant."""
TOLD = Struct(">IBIBH")
"""Beside events while they are followed, of each final one, and of every one of accounts that want all: where it
begins, segments, the latest of its carrier's dates in seconds (0: none), then two lengths: the carrier's id, the sealed
envelope; these follow."""
SETTINGS = Struct(">IIIIIIIII")
"""``Retention``, in its order."""
TURN = Struct(">QQB")  # lease, due, whether it is its turn then
ASK = Struct(">BdddI")  # whole numbers only (0/1), limit, held, wanted, up
PORTION = Struct(">QdddI")  # round, limit, held, wanted, up; the member's start follows
GRANT = Struct(">ddIII")  # share, target, members, before, up elsewhere


class FunctionConstant(IntEnum):
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
    DETAILED = DETAILED
    EARLY = EARLY
    WHOLE = WHOLE
    STOPPED = STOPPED
    VERSION = VERSION
    FORMER_HEAD = FORMER_HEAD
    PARKED_SIZE = PARKED.size
    PARKED_MOST = 20_000
    PARKED_TRIED = 25  # in one call of sweep: each costs a quarter of a millisecond with an id map of three days


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
