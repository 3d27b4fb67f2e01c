"""The layout of records, answers, receipts and events, used by Python's ``struct`` and by Lua's alike.

A record:

    head | recipient | account | route | envelope | permission | content | carrier | parts | copies | trail

The head has a fixed size and ends with the lengths of the sections; the recipient's key has 16 octets. In a final
state, and once an unknown message can no longer be resent, permission and content are cut off (the permission of one
that is counted under caps only in its final state). Envelope and content are sealed; the functions never read them. The
instant of acceptance is in the id.

``parts`` has the state of each segment over all its copies. ``copies`` has, for messages that may be on the wire more
than once or whose text a receipt may be compared with, the excerpt of the text with its length, then the copies
(``COPY``). ``trail`` is the timeline; a step: state, reason, ms since acceptance (5 octets), length of the rest, which
is empty or status (4), length of the carrier's name, name, error text.

The third octet is the version of the format. In the first format it was the state, which is less than 128; such a
record is converted when it is opened (``upgraded`` here and in ``record.lua``).
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Annotated, NamedTuple, get_type_hints

from gateway.store.owner import DEAD_AFTER

U8 = Annotated[int, "B"]
U16 = Annotated[int, "H"]
U32 = Annotated[int, "I"]
U64 = Annotated[int, "Q"]


class RecordHead(NamedTuple):
    """The head: its fields in order, big-endian, each with its size. Python's and Lua's formats are made from it."""

    reference_number: U16  # given by ``accept``; stays first
    version: U8  # ``VERSION``; stays third
    state: U8
    reason: U8
    final: U8
    resent: U8  # how often it was queued again after an unknown outcome
    cancel: U8  # marked at a carrier: 1 = canceled, else ``STOPPED`` + the reason not to send its other parts
    reserved: U8  # counted under its caps
    pinned: U8  # its carrier has accepted a part
    listed: U8  # 1: in u:<carrier>, as a receipt may have an unknown id; + 2 x the state it is counted under in a
    category: U8
    checks: U8
    priority: U8
    on_unknown: U8
    place: U8
    attempts: U8
    segments: U8
    weight: U16
    sequence: U32
    due: U64
    expires: U64
    lease: U64
    account_len: U8
    route_len: U8
    envelope_len: U16
    permission_len: U16
    content_len: U32
    carrier_len: U8
    parts_len: U16
    copies_len: U16
    trail_len: U16


HEAD_FIELDS: tuple[tuple[str, str], ...] = tuple(
    (name, hint.__metadata__[0]) for name, hint in get_type_hints(RecordHead, include_extras=True).items()
)
"""(name, code of Python's ``struct``) of each field of ``RecordHead``."""

WORKING = ("id", "raw", "dirty", "carrier", "parts", "copies", "steps", "bare")
"""Slots of a record in Lua before those of the head: what a function reads or changes beside it."""

_LUA = {"B": "B", "H": "I2", "I": "I4", "Q": "I8", "d": "d", "8s": "c8", "16s": "c16"}


HEAD = Struct(">" + "".join(code for _, code in HEAD_FIELDS))
VERSION = 129
"""Version of the record format. Never below 128."""

FORMER_HEAD = HEAD.size - 3  # the first format: no version, no length of copies
_COPIES_LEN_AT = FORMER_HEAD - 2  # followed only by the length of the trail


def upgraded(raw: bytes) -> bytes:
    """Return a record in the current format."""
    if raw[2] >= 128:
        return raw
    return b"".join((raw[:2], bytes((VERSION,)), raw[2:_COPIES_LEN_AT], b"\0\0", raw[_COPIES_LEN_AT:]))


PERMISSION = Struct(">QQI8s8s8s")
"""opens, closes, epoch, scopes of account, brand, template; then caps (``CAP``)."""
OPENS, CLOSES = slice(0, 8), slice(8, 16)
"""Where the first two of these are."""
SCOPES_AT = 20
"""Where the three scopes begin."""
RULED_STEP = 0xFFFFFFFE
"""In place of the status of a step: the details of a policy decision follow in place of the error text."""
RULED_STEP_OCTETS = 250
"""Most octets of these details."""
INTERMEDIATE_STEP = 0xFFFFFFFF
"""In place of the status of a step: the state did not change, a receipt was noted."""
CAP = Struct(">8sII")  # scope, limit, window in seconds
RULE = Struct(">BB8sQQ")  # group, status, scope, at, until
ANSWER = Struct(">16sQBBIQBBBBB")
"""id, lease, resolution, reason, status, due, on_unknown, last place, total parts, answered parts, carrier; then the
parts."""
ANSWER_PART = Struct(">BBIB")
"""index, state, status, length of the carrier's id, which follows; behind the last part, the excerpt of the text."""
RECEIPT = Struct(">BBB")
"""carrier, state, number of fields of the id map (+ ``DETAILED``); then each of these with its length; if ``DETAILED``:
``DETAIL``, host, excerpt of its text, each guess (kind, id with its length); if ``DATED``: the done date; the error
text."""
DETAILED = 128
WHOLE = 64
"""Added to the state of a receipt that counts for the whole message when it is about the last part."""
DETAIL = Struct(">BBBB")
"""1 when its id can only be meant in its plain form, or ``EARLY``; lengths of host and excerpt; number of guesses."""
EARLY = 2
"""The details are only to check whether its id, in other forms, is that of other messages."""
PARKED = Struct(">BIH")
"""Before a parked receipt: 255 (the first format has the carrier's number, which is less), the second it came, how
often sweep has tried it."""
COPY = Struct(">BBIIBB")
"""part, state, hour of the id map (0 = none), lease (its last 4 octets), lengths of carrier and id, which follow."""
PART = Struct(">BIB")
"""state, hour of the id map (0 = none), length of the carrier's id; then the id and, if ``DATED``, the done date."""
STOPPED = 128
"""Added to the reason in ``cancel``."""
DATED = 128
"""Added to the state of a part, or of a final receipt, that has the carrier's done date: seconds since 1970, 4
octets."""
EVENT = Struct(">16sIBBBBIBBBBB")
"""id, sequence, state, previous (0 = none), reason, final, status, parts accepted, then the lengths of account,
carrier, carrier's id and error, which follow. All events of an entry have its instant."""
SUMMARY = Struct(">IBIBH")
"""Summary of the message of an event, for final events and for accounts that want all, while webhooks follow: where the
event begins, segments, the latest done date in seconds (0 = none), then the lengths of the carrier's id and of the
sealed envelope, which follow."""
SETTINGS = Struct(">IIIIIIIII")
"""``Retention``, in its order."""
TURN = Struct(">QQB")  # lease, due, 1 = it has its turn then
ASK = Struct(">BdddI")  # whole numbers only (0/1), limit, held, wanted, up
PORTION = Struct(">QdddI")  # round, limit, held, wanted, up; the member's start follows
GRANT = Struct(">ddIII")  # share, target, members, before, up elsewhere


class FunctionConstant(IntEnum):
    """Numbers that the functions use as Size.X."""

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
    RULED_STEP = RULED_STEP
    RULED_STEP_OCTETS = RULED_STEP_OCTETS
    INTERMEDIATE_STEP = INTERMEDIATE_STEP
    SCOPES_AT = SCOPES_AT
    WHOLE = WHOLE
    STOPPED = STOPPED
    VERSION = VERSION
    FORMER_HEAD = FORMER_HEAD
    DEAD_AFTER = int(DEAD_AFTER * 1000)  # ms
    PARKED_SIZE = PARKED.size
    PARKED_MOST = 20_000
    PARKED_TRIED = 25  # in one call of sweep: each costs a quarter of a millisecond with an id map of three days


def lua_format(shape: Struct) -> str:
    """Return the same format in the notation of Lua's struct."""
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
