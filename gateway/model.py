"""The vocabulary of the house: states and the moves between them, messages, permissions, answers, receipts.

Everything here is data. Who may do what to a message is the table ``MOVES``; the store's functions keep to it and the
reference model under ``tests/model`` is written from it.

Instants are milliseconds since the Unix epoch (UTC) unless a name says otherwise; durations are seconds.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Any, NamedTuple

import msgspec


class State(IntEnum):
    """Where a message stands. The value is one octet of its record in the store: never renumber."""

    SCHEDULED = 1  # send_at lies ahead
    DEFERRED = 2  # policy said later
    HELD = 3  # breaker or review
    QUEUED = 4  # ready in a lane, or waiting there for a retry
    SENDING = 5  # leased by one incarnation
    SENT = 6  # every part accepted by a carrier
    UNKNOWN = 7  # a submit without an answer
    DELIVERED = 8
    UNDELIVERED = 9
    EXPIRED = 10
    FAILED = 11
    REJECTED = 12
    CANCELED = 13


WAITING = frozenset({State.SCHEDULED, State.DEFERRED, State.HELD, State.QUEUED})
"""States in which nothing of the message is at a carrier's door, so cancel and expiry act at once."""

FINAL = frozenset({State.DELIVERED, State.UNDELIVERED, State.EXPIRED, State.FAILED, State.REJECTED, State.CANCELED})
"""States that nothing leaves. ``SENT`` and ``UNKNOWN`` may become final *in place* (no receipt came, never resend)."""

_DECIDED = frozenset({State.QUEUED, State.SCHEDULED, State.DEFERRED, State.HELD, State.REJECTED})
_RECEIVED = frozenset({State.DELIVERED, State.UNDELIVERED, State.EXPIRED})

_OVERTAKEN = frozenset({State.SENT, State.UNKNOWN, State.FAILED, State.UNDELIVERED, State.EXPIRED})

MOVES: dict[State, frozenset[State]] = {
    State.SCHEDULED: _DECIDED | {State.CANCELED, State.EXPIRED, State.SENT},
    State.DEFERRED: _DECIDED | _OVERTAKEN | {State.CANCELED},
    State.HELD: _DECIDED | _OVERTAKEN | {State.CANCELED},
    State.QUEUED: _DECIDED | _OVERTAKEN | {State.SENDING, State.CANCELED},
    State.SENDING: _RECEIVED
    | {State.QUEUED, State.SENT, State.UNKNOWN, State.FAILED, State.REJECTED, State.CANCELED, State.EXPIRED},
    State.SENT: _RECEIVED,
    State.UNKNOWN: _RECEIVED | {State.SENT, State.QUEUED, State.FAILED, State.REJECTED, State.CANCELED},
    **dict.fromkeys(FINAL, frozenset()),
}
"""Design section 4. What waits may be a resend, or the rest of a long message, that news of the first copy overtakes:
a late answer (``-> SENT``), a failed receipt (``-> UNDELIVERED``, ``EXPIRED``); and when a resend may not leave any
more, what became of the first copy is not known (``-> UNKNOWN``). ``DEFERRED`` or ``HELD -> FAILED``: the carrier that
has begun it is gone, or the gate refuses the rest. ``SENDING -> UNDELIVERED``: a part has failed, so the others are not
sent. ``UNKNOWN -> REJECTED``: the refusal came late. ``UNKNOWN -> CANCELED`` is a cancel that was marked while sending
and finds the outcome unknown before a resend."""


class PartState(IntEnum):
    """One segment of a message at its carrier; the message's state follows from its parts (worst of all)."""

    PENDING = 0  # never accepted by a carrier
    ACCEPTED = 1  # submit_sm_resp with status 0
    UNKNOWN = 2  # written, never answered
    DELIVERED = 3
    EXPIRED = 4  # receipt EXPIRED
    UNDELIVERED = 5  # receipt UNDELIV, REJECTD or DELETED
    # Only in a receipt, never kept as a part's state: the part stays as it is, a later receipt counts.
    RECEIPT_UNKNOWN = 6  # the carrier says that it does not know
    RECEIPT_UNREADABLE = 7  # it says something that nobody can read


class Category(IntEnum):
    """What a message is for. Unknown means marketing, the strictest."""

    OTP = 0
    TRANSACTIONAL = 1
    MARKETING = 2
    EMERGENCY = 3


class Priority(IntEnum):
    """Order of the lanes of a route."""

    OTP = 0
    TRANSACTIONAL = 1
    MARKETING = 2


PRIORITY = {
    Category.OTP: Priority.OTP,
    Category.EMERGENCY: Priority.OTP,
    Category.TRANSACTIONAL: Priority.TRANSACTIONAL,
    Category.MARKETING: Priority.MARKETING,
}


class OnUnknown(IntEnum):
    """What to do with a submit that was never answered; the larger (stricter) of carrier and category wins."""

    RESEND = 0  # a few times, at once
    HOLD = 1  # likewise, but only after the hold time has brought no receipt
    NEVER = 2  # it stays unknown until a late answer or a receipt settles it


class Check(IntFlag):
    """What the gate looks up about the recipient at every hand-out."""

    CONSENT = 1  # a granted, unexpired consent for (account, brand) must exist
    MARKETING_OPT_OUT = 2  # an opt-out from marketing (brand, account or global scope) stops it
    ALL_OPT_OUT = 4  # an opt-out from everything stops it
    BREAKER = 8  # an open breaker on one of its scopes hands it back; without it breakers are not looked at


class Reason(IntEnum):
    """Why a message is where it is. The lower-case name is the public ``code``; never renumber."""

    NONE = 0
    # refused or delayed by policy
    CONSENT_MISSING = 1
    CONSENT_REVOKED = 2
    OPTED_OUT = 3
    SUPPRESSED = 4
    QUIET_HOURS = 5
    FREQUENCY_CAP = 6
    BREAKER_OPEN = 7
    CONTENT_REFUSED = 8
    DUPLICATE = 9
    EXPIRED = 10
    NO_ROUTE = 11
    ZONE_UNKNOWN = 12
    SCHEDULED = 13  # send_at lies ahead
    # waiting inside the gateway
    THROTTLED = 32  # carrier said slow down; no attempt counted
    CARRIER_RETRY = 33  # temporary refusal; same carrier again
    NEXT_CARRIER = 34
    BIND_LOST = 35  # never written, or session fault: back to its place
    RESEND = 36  # unknown, sent once more
    UNTAKEN = 37
    PACED = 38  # it waits for a turn of its sender; no attempt counted
    TURN = 39  # its sender's turn at this carrier comes later, and is kept for it
    # ends
    CARRIER_REFUSED = 64  # permanent status of the carrier
    RETRIES_EXHAUSTED = 65
    ROUTES_EXHAUSTED = 66
    PARTIAL = 67  # some parts accepted, the rest cannot be sent
    NO_RECEIPT = 68  # stays sent
    NO_ANSWER = 69  # stays unknown
    CANCELED = 70
    RECEIPT = 71  # a delivery receipt said so
    # it stays sent, and a later receipt still counts
    RECEIPT_UNKNOWN = 72  # the carrier's receipt says UNKNOWN
    RECEIPT_UNREADABLE = 73  # no state can be read in the carrier's receipt
    AMBIGUOUS_RECEIPT = 74  # a receipt came that may be another message's
    GATEWAY_FAULT = 80  # the gateway itself cannot deal with it


class Resolution(IntEnum):
    """What the dispatcher makes of a message's answers; the store's ``progress`` carries it out."""

    SENT = 0  # every part is accepted
    BACK = 1  # to the head of its lane, no attempt counted (throttled, session fault, not written)
    RETRY = 2  # delayed until ``due``, same carrier
    NEXT = 3  # the next carrier of the route: lane route#place
    REJECTED = 4  # permanent refusal
    FAILED = 5  # retries or routes exhausted
    UNKNOWN = 6  # at least one part written and unanswered


class Outcome(IntEnum):
    """Policy's answer, ranked: the largest of all rules wins."""

    ALLOW = 0
    DEFER = 1
    HOLD = 2
    REJECT = 3


class Recipient(NamedTuple):
    """A destination: its digits (E.164 without ``+``), the HMAC-128 that names it in the store, its partition."""

    digits: str
    key: bytes
    partition: int


class Cap(NamedTuple):
    """At most ``limit`` messages in any ``window`` seconds for one recipient under one ``scope`` (8 octets)."""

    scope: bytes
    limit: int
    window: int


class RuleGroup(IntEnum):
    """What a recipient's word is about. One octet in the store: never renumber."""

    CONSENT = 0  # scope: the brand scope of (account, brand)
    MARKETING = 1  # opt-out from marketing; scope: a brand, an account, or eight zero octets for everybody
    ALL = 2  # opt-out from everything; scope as above


class RuleStatus(IntEnum):
    """The word itself; at the same instant the larger one wins."""

    ALLOWS = 0  # consent granted; opt-out taken back
    STOPS = 1  # consent revoked; opted out


class Rule(NamedTuple):
    """The latest word of a recipient about one (group, scope)."""

    group: RuleGroup
    status: RuleStatus
    scope: bytes  # 8 octets
    at: int  # when it was said: rules are ordered by this, not by when they arrived
    until: int = 0  # counts before this instant only; 0 = for ever

    def holds(self, now: int) -> bool:
        """Whether the rule still counts."""
        return self.until == 0 or now < self.until


class Facts(NamedTuple):
    """What the store knows about one recipient, for a decision."""

    rules: tuple[Rule, ...] = ()
    used: tuple[int, ...] = ()  # reservations that stand under each cap that was asked about, in that order
    room_at: tuple[int, ...] = ()  # when a full one of these caps has room again, as far as is known; 0 = it has


class Permission(msgspec.Struct, frozen=True, gc=False):
    """What policy grants and the gate enforces: an interval, an expiry, what to check, under which epoch."""

    opens: int  # may be sent from this instant
    closes: int  # … and before this one (half-open)
    expires: int  # after this instant it is expired, whatever else
    checks: int  # Check flags
    account_scope: bytes  # 8 octets, names (account) in opt-outs and breakers
    brand_scope: bytes  # 8 octets, names (account, brand) in consents, opt-outs and breakers
    template_scope: bytes = bytes(8)
    caps: tuple[Cap, ...] = ()
    epoch: int = 0


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """Policy's full answer about one message."""

    outcome: Outcome
    code: Reason
    permission: Permission
    next_at: int = 0  # when a deferred or scheduled message is decided again; refused: when another one might pass
    rules: tuple[str, ...] = ()  # every rule that did not say allow, as "rule:outcome"
    zones: tuple[str, ...] = ()
    policy_version: str = ""


class RequestedTerms(msgspec.Struct, array_like=True, gc=False):
    """What an app asked for that a fresh decision or the carrier needs: kept in ``Envelope.terms`` while it waits.

    Stored as a positional array: a field may be added at the end, with a default.
    """

    send_at: int = 0  # ms UTC; 0 = at once
    expires_at: int = 0  # ms UTC; 0 = not given
    time_zone: str = ""
    on_quiet: str = ""  # "defer" | "reject" | "" = the operator's choice
    priority: int = 0  # SMPP priority_flag (5.2.14)
    reason: str = ""  # of an emergency
    template: str = ""
    residence: str = ""  # "attested" | ""


class Envelope(msgspec.Struct, array_like=True, gc=False):
    """What is kept (encrypted) as long as the record: everything but the content."""

    to: str  # E.164 digits without +
    sender: str
    account: str
    category: int
    brand: str
    client_ref: str = ""
    callback_url: str = ""
    encoding: str = ""  # "gsm7" | "latin1" | "ucs2" | "binary"
    segments: int = 1
    metadata: Any = None
    policy_version: str = ""
    rules: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    terms: RequestedTerms | None = None  # None = all of them at their defaults


class Content(msgspec.Struct, array_like=True, gc=False):
    """What goes at the final state (encrypted)."""

    text: str
    encoding: str = ""  # asked for by the app; "" = whichever fits
    data: bytes = b""  # binary content with its own UDH, when it came through the SMPP door
    data_coding: int = 0
    esm_class: int = 0


class NewMessage(msgspec.Struct, gc=False):
    """One message as intake hands it to ``Store.accept``."""

    id: bytes  # 16 octets, uuid7 that carries its partition (see gateway.store.ids)
    recipient: Recipient
    state: State  # QUEUED | SCHEDULED | DEFERRED | HELD | REJECTED
    reason: Reason
    due: int  # when take looks at it (SCHEDULED, DEFERRED), else 0
    category: Category
    on_unknown: OnUnknown  # the category's word
    route: str  # "" when there is none (REJECTED)
    weight: int  # of its account, for the fair share
    segments: int  # by intake's count; the carrier's own splitting counts when it is sent
    permission: Permission
    envelope: Envelope
    content: Content
    reference: bytes = b""  # 16 octets: hash of (account, recipient, client_ref); b"" = none


class AcceptResult(NamedTuple):
    """What ``accept`` did: the id that counts (the first one when the reference was seen before) and whether new."""

    id: bytes
    new: bool


class Leased(msgspec.Struct, gc=False):
    """A message handed to a dispatcher by ``take``: this incarnation alone may write it."""

    id: bytes
    lease: int
    recipient: Recipient
    category: Category
    route: str
    place: int  # index into the route's carriers it has advanced to
    attempts: int
    resent: int  # how often it was queued once more, since what became of it was unknown
    pinned: str  # carrier that already accepted a part, or ""
    reference_number: int  # for concatenation; the same at every retry
    parts: bytes  # PartState of each part as octets; empty before the first answer
    expires: int
    closes: int
    envelope: Envelope
    content: Content
    turn: str = ""  # carrier at which its sender's turn has come


class Redecide(msgspec.Struct, gc=False):
    """A message that ``take`` hands back for a fresh decision; ``permit`` answers with the same ``token``."""

    id: bytes
    token: int
    recipient: Recipient
    state: State
    reason: Reason  # FREQUENCY_CAP, QUIET_HOURS, BREAKER_OPEN, SCHEDULED, or NONE for an old epoch
    accepted_at: int
    expires: int
    route: str
    envelope: Envelope
    content: Content


class Ruled(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What else policy said with a decision, kept beside the step of the timeline that it made.

    None: as it was at the door, where the envelope has it.
    """

    next_at: int = 0
    rules: tuple[str, ...] | None = None
    zones: tuple[str, ...] | None = None
    policy_version: str | None = None


class Permit(msgspec.Struct, gc=False):
    """A fresh decision for a message handed back by ``take`` or released from ``held``."""

    id: bytes
    token: int
    state: State  # QUEUED | DEFERRED | HELD | REJECTED
    reason: Reason
    due: int
    route: str
    permission: Permission
    ruled: Ruled | None = None


class PartAnswer(NamedTuple):
    """What the carrier said about one part."""

    index: int  # type: ignore[assignment]  # the word everybody uses; nobody looks for one in an answer
    state: PartState  # ACCEPTED, UNKNOWN, or PENDING when it was refused or never written
    carrier_id: bytes = b""  # normalised; b"" = accepted without an id
    status: int = 0


class SubmitResult(msgspec.Struct, gc=False):
    """What became of one leased message: the owner reports it once, when no part of it is outstanding."""

    id: bytes
    lease: int
    carrier: str
    fate: Resolution
    reason: Reason
    status: int  # the last command_status, 0 when there was none
    due: int  # for RETRY
    total: int  # number of parts in this carrier's splitting
    parts: list[PartAnswer]
    on_unknown: OnUnknown = OnUnknown.RESEND  # the carrier's word
    last_place: bool = False  # NEXT has nowhere to go: becomes FAILED (routes_exhausted)
    recipient: bytes = b""  # its key, for carriers whose receipts are found by id alone
    mark: bytes = b""  # what an excerpt of its text in a receipt must agree with; of lost and of nameless ones only
    host: str = ""  # that answered, where a carrier has several


class ReceiptDetail(NamedTuple):
    """What is told of a receipt whose id is not known, for the guesses that may be made about it."""

    guesses: tuple[tuple[int, bytes], ...]  # what the answer may have called it, by kind of form (``smpp.message_id``)
    host: str  # it came from
    mark: bytes  # of the excerpt of the text in it; b"" = it has none that can be compared
    sure: bool  # ids of this host are known by their plain form: that this one is not is no matter of forms
    early: bool = False  # told before it is looked up, since its host's form is unknown: another's id may look like it


class ReceiptFact(msgspec.Struct, gc=False):
    """A delivery receipt as the store needs it."""

    carrier: str
    ids: tuple[bytes, ...]  # in the likeliest form first
    recipient: Recipient
    state: PartState  # DELIVERED | EXPIRED | UNDELIVERED; ACCEPTED when intermediate; RECEIPT_UNKNOWN, …_UNREADABLE
    error: str = ""  # the carrier's err field, as it came
    at: int = 0  # when the carrier was done with it, by its own clock (ms UTC, whole seconds are kept); 0 = not said
    whole: bool = False  # the carrier sends one receipt for all parts: that of the last speaks for the message
    detail: ReceiptDetail | None = None
    host: str = ""  # it came from, where the ids of a carrier's hosts are kept apart


class Match(IntEnum):
    """What ``progress`` made of a receipt. All of them mean: stored, acknowledge it."""

    APPLIED = 0
    REPEATED = 1  # known already, or after a final state: nothing changed
    PARKED = 2  # no such id yet; applied when the id arrives, an orphan after 60 s
    AMBIGUOUS = 3  # several open messages to that recipient have this id: told of each, nothing is concluded


class StreamEvent(msgspec.Struct, gc=False):
    """One move of one message, as it stands in the partition's stream."""

    id: bytes
    sequence: int  # counts per message from 1
    state: State
    previous: State | None
    reason: Reason
    final: bool
    at: int
    carrier: str = ""
    carrier_id: bytes = b""
    status: int = 0
    error: str = ""
    parts_accepted: int = 0
    account: str = ""
