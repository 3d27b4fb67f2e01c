"""The vocabulary of the gateway: states and transitions, messages, permissions, responses, receipts.

Everything here is data. ``MOVES`` is the table of allowed transitions; the store's functions follow it, and the
reference model in ``tests/model`` is written from it.

Instants are milliseconds since the Unix epoch (UTC) unless a name says otherwise; durations are seconds.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Any, NamedTuple

import msgspec


class State(IntEnum):
    """The state of a message. One octet of its record in the store: never renumber."""

    SCHEDULED = 1  # send_at is in the future
    DEFERRED = 2  # policy decided: later
    HELD = 3  # breaker, restored backup or review
    QUEUED = 4  # ready in a lane, or waiting there for a retry
    SENDING = 5  # leased by one incarnation
    SENT = 6  # every part accepted by a carrier
    UNKNOWN = 7  # a submit without a response
    DELIVERED = 8
    UNDELIVERED = 9
    EXPIRED = 10
    FAILED = 11
    REJECTED = 12
    CANCELED = 13


WAITING = frozenset({State.SCHEDULED, State.DEFERRED, State.HELD, State.QUEUED})
"""States in which no submit of the message is in flight, so that cancel and expiry take effect at once."""

FINAL = frozenset({State.DELIVERED, State.UNDELIVERED, State.EXPIRED, State.FAILED, State.REJECTED, State.CANCELED})
"""States without a transition. ``SENT`` and ``UNKNOWN`` may become final *in place* (no receipt, never resend)."""

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
"""State -> states it may change to. A waiting message may be a resend, or the rest of a long message, that a result of
the first copy overtakes: a late response (``-> SENT``), a failed receipt (``-> UNDELIVERED``, ``EXPIRED``); when a
resend is no longer permitted, the outcome of the first copy is unknown (``-> UNKNOWN``). ``DEFERRED`` or ``HELD ->
FAILED``: the carrier that accepted the first parts is gone, or the gate refuses the rest. ``SENDING -> UNDELIVERED``: a
part failed, so the others are not sent. ``UNKNOWN -> REJECTED``: the refusal came late. ``UNKNOWN -> CANCELED``:
canceled while sending, then the outcome became unknown, before a resend."""


class PartState(IntEnum):
    """The state of one segment at its carrier; the worst of them gives the message's state."""

    PENDING = 0  # never accepted by a carrier
    ACCEPTED = 1  # submit_sm_resp with status 0
    UNKNOWN = 2  # written, no response
    DELIVERED = 3
    EXPIRED = 4  # receipt EXPIRED
    UNDELIVERED = 5  # receipt UNDELIV, REJECTD or DELETED
    # Only in a receipt, never stored for a part: the part keeps its state, and a later receipt counts.
    RECEIPT_UNKNOWN = 6  # receipt UNKNOWN: the carrier does not know
    RECEIPT_UNREADABLE = 7  # a receipt without a recognisable state


class Category(IntEnum):
    """The purpose of a message. One without a category counts as marketing, the strictest."""

    OTP = 0
    TRANSACTIONAL = 1
    MARKETING = 2
    EMERGENCY = 3


class Priority(IntEnum):
    """The lanes of a route, in the order in which they are served."""

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
    """What to do with a submit without a response; the larger (stricter) of carrier and category applies."""

    RESEND = 0  # at once, a limited number of times
    HOLD = 1  # likewise, but only if no receipt arrives during the hold time
    NEVER = 2  # stays unknown until a late response or a receipt settles it


class Check(IntFlag):
    """What the gate checks each time before a message is sent."""

    CONSENT = 1  # a granted, unexpired consent for (account, brand) must exist
    MARKETING_OPT_OUT = 2  # an opt-out from marketing (brand, account or global scope) stops it
    ALL_OPT_OUT = 4  # an opt-out from everything stops it
    BREAKER = 8  # an open breaker on one of its scopes returns it for a fresh decision


class Reason(IntEnum):
    """Why a message is in its state. The lower-case name is the public ``code``; never renumber."""

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
    SCHEDULED = 13  # send_at is in the future
    # waiting inside the gateway
    THROTTLED = 32  # throttled by the carrier; no attempt counted
    CARRIER_RETRY = 33  # temporary refusal: the same carrier again
    NEXT_CARRIER = 34
    BIND_LOST = 35  # never written, or a session fault: back to its place
    RESEND = 36  # outcome unknown: sent again
    UNTAKEN = 37
    PACED = 38  # waits for its sender's rate; no attempt counted
    TURN = 39  # its turn by its sender's rate is assigned, and comes later
    # final
    CARRIER_REFUSED = 64  # permanent status of the carrier
    RETRIES_EXHAUSTED = 65
    ROUTES_EXHAUSTED = 66
    PARTIAL = 67  # some parts accepted, the rest cannot be sent
    NO_RECEIPT = 68  # stays sent
    NO_ANSWER = 69  # stays unknown
    CANCELED = 70
    RECEIPT = 71  # by a delivery receipt
    # stays sent, and a later receipt still counts
    RECEIPT_UNKNOWN = 72  # the receipt says UNKNOWN
    RECEIPT_UNREADABLE = 73  # the receipt has no recognisable state
    AMBIGUOUS_RECEIPT = 74  # a receipt that may belong to another message
    GATEWAY_FAULT = 80  # an internal error prevents sending it
    # waiting for an operator
    RESTORED = 81  # accepted before the backup that its store was restored from: it may have been sent since


class Resolution(IntEnum):
    """How the dispatcher resolves an attempt from its responses; the store's ``progress`` carries it out."""

    SENT = 0  # every part accepted
    BACK = 1  # to the head of its lane, no attempt counted (throttled, session fault, not written)
    RETRY = 2  # delayed until ``due``, same carrier
    NEXT = 3  # the next carrier of the route: lane route#place
    REJECTED = 4  # permanent refusal
    FAILED = 5  # retries or routes exhausted
    UNKNOWN = 6  # at least one part written, without a response


class Outcome(IntEnum):
    """The outcome of policy, ranked: the largest of all rules applies."""

    ALLOW = 0
    DEFER = 1
    HOLD = 2
    REJECT = 3


class Recipient(NamedTuple):
    """A destination: its digits (E.164 without ``+``), its name in the store (HMAC-128), its partition."""

    digits: str
    key: bytes
    partition: int


class Cap(NamedTuple):
    """At most ``limit`` messages in any ``window`` seconds for one recipient under one ``scope`` (8 octets)."""

    scope: bytes
    limit: int
    window: int


class RuleGroup(IntEnum):
    """The kind of a recipient's rule. One octet in the store: never renumber."""

    CONSENT = 0  # scope: the brand scope of (account, brand)
    MARKETING = 1  # opt-out from marketing; scope: a brand, an account, or eight zero octets for all
    ALL = 2  # opt-out from everything; scope as above


class RuleStatus(IntEnum):
    """What a rule says; of two at the same instant the larger applies."""

    ALLOWS = 0  # consent granted; opt-out withdrawn
    STOPS = 1  # consent revoked; opted out


class Rule(NamedTuple):
    """The latest statement of a recipient about one (group, scope)."""

    group: RuleGroup
    status: RuleStatus
    scope: bytes  # 8 octets
    at: int  # when it was stated: rules are ordered by this, not by arrival
    until: int = 0  # valid before this instant; 0 = forever

    def holds(self, now: int) -> bool:
        """Whether the rule is valid at ``now``."""
        return self.until == 0 or now < self.until


class Facts(NamedTuple):
    """The store's facts about one recipient, for a decision."""

    rules: tuple[Rule, ...] = ()
    used: tuple[int, ...] = ()  # reservations under each cap of the request, in its order
    room_at: tuple[int, ...] = ()  # when each full cap has room again, where known; 0 = not full


class Permission(msgspec.Struct, frozen=True, gc=False):
    """What policy grants and the gate enforces: interval, expiry, checks, caps, epoch."""

    opens: int  # may be sent from this instant
    closes: int  # … and before this one (half-open)
    expires: int  # after this instant it is expired in any case
    checks: int  # Check flags
    account_scope: bytes  # 8 octets: (account) in opt-outs and breakers
    brand_scope: bytes  # 8 octets: (account, brand) in consents, opt-outs and breakers
    template_scope: bytes = bytes(8)
    caps: tuple[Cap, ...] = ()
    epoch: int = 0


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """The decision of policy about one message."""

    outcome: Outcome
    code: Reason
    permission: Permission
    next_at: int = 0  # deferred or scheduled: when it is decided again; rejected: when another might be allowed
    rules: tuple[str, ...] = ()  # every rule with another outcome than allow, as "rule:outcome"
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


class EnvelopeHeader(msgspec.Struct, array_like=True, gc=False):
    """The fields of an ``Envelope`` that its events need. Decoded alone, it skips the rest of the envelope."""

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


class Envelope(EnvelopeHeader, array_like=True, gc=False):
    """Everything but the content, stored (encrypted) as long as the record."""

    policy_version: str = ""
    rules: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    terms: RequestedTerms | None = None  # None = all of them at their defaults


class Content(msgspec.Struct, array_like=True, gc=False):
    """The content, stored (encrypted) until the final state."""

    text: str
    encoding: str = ""  # requested by the app; "" = the first that fits
    data: bytes = b""  # binary content with its own user data header, if submitted over SMPP
    data_coding: int = 0
    esm_class: int = 0


class NewMessage(msgspec.Struct, gc=False):
    """One message as intake passes it to ``MessageStore.accept``."""

    id: bytes  # 16 octets, uuid7 that carries its partition (see gateway.store.ids)
    recipient: Recipient
    state: State  # QUEUED | SCHEDULED | DEFERRED | HELD | REJECTED
    reason: Reason
    due: int  # when take considers it (SCHEDULED, DEFERRED), else 0
    category: Category
    on_unknown: OnUnknown  # of the category
    route: str  # "" when there is none (REJECTED)
    weight: int  # of its account, for the fair share
    segments: int  # counted by intake; the carrier's own splitting applies when it is sent
    permission: Permission
    envelope: Envelope
    content: Content
    reference: bytes = b""  # 16 octets: hash of (account, recipient, client_ref); b"" = none


class AcceptResult(NamedTuple):
    """The result of ``accept``: the message id (the earlier one for a repeated reference), and whether it is new."""

    id: bytes
    new: bool


class LeasedMessage(msgspec.Struct, gc=False):
    """A message leased to a dispatcher by ``take``: only this incarnation may write it."""

    id: bytes
    lease: int
    recipient: Recipient
    category: Category
    route: str
    place: int  # index into the route's carriers it has advanced to
    attempts: int
    resent: int  # how often it was queued again after an unknown outcome
    pinned: str  # carrier that already accepted a part, or ""
    reference_number: int  # concatenation reference; the same at every retry
    parts: bytes  # one PartState octet per part; empty before the first response
    expires: int
    closes: int
    envelope: Envelope
    content: Content
    turn: str = ""  # the carrier at which its turn by its sender's rate has come


class Redecide(msgspec.Struct, gc=False):
    """A message returned by ``take`` for a fresh decision, which ``permit`` passes with the same ``token``."""

    id: bytes
    token: int
    recipient: Recipient
    state: State
    reason: Reason  # FREQUENCY_CAP, QUIET_HOURS, BREAKER_OPEN, RESTORED, SCHEDULED, or NONE for an old epoch
    accepted_at: int
    expires: int
    route: str
    envelope: Envelope
    content: Content


class DecisionDetail(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Details of a fresh decision, stored with its step of the timeline.

    None: unchanged since acceptance, as in the envelope.
    """

    next_at: int = 0
    rules: tuple[str, ...] | None = None
    zones: tuple[str, ...] | None = None
    policy_version: str | None = None


class Permit(msgspec.Struct, gc=False):
    """A fresh decision for a message returned by ``take`` or released from ``held``."""

    id: bytes
    token: int
    state: State  # QUEUED | DEFERRED | HELD | REJECTED
    reason: Reason
    due: int
    route: str
    permission: Permission
    decision: DecisionDetail | None = None


class PartAnswer(NamedTuple):
    """The carrier's response to one part."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which is not used
    state: PartState  # ACCEPTED, UNKNOWN, or PENDING when refused or never written
    carrier_id: bytes = b""  # normalised; b"" = accepted without an id
    status: int = 0


class SubmitResult(msgspec.Struct, gc=False):
    """The result of one lease: reported once by its owner, when no part is outstanding."""

    id: bytes
    lease: int
    carrier: str
    resolution: Resolution
    reason: Reason
    status: int  # the last command_status, 0 when there was none
    due: int  # for RETRY
    total: int  # number of parts in this carrier's splitting
    parts: list[PartAnswer]
    on_unknown: OnUnknown = OnUnknown.RESEND  # of the carrier
    last_place: bool = False  # there is no next carrier: NEXT becomes FAILED (routes_exhausted)
    recipient: bytes = b""  # its key, for carriers whose receipts are found by id alone
    excerpt: bytes = b""  # hash of how its text begins, to match its receipt by; only without response or id
    host: str = ""  # that responded, where a carrier has several


class ReceiptDetail(NamedTuple):
    """What the store needs to guess the message of a receipt whose id is unknown."""

    guesses: tuple[tuple[int, bytes], ...]  # possible ids in the response, by kind of form (``smpp.message_id``)
    host: str  # that sent it
    excerpt: bytes  # hash of how the text in it begins; b"" = none that can be compared
    sure: bool  # this host's ids are known in their plain form, so an unknown id is not a matter of form
    early: bool = False  # included before the look-up, since the host's form is unknown and the id may match another's


class ReceiptFact(msgspec.Struct, gc=False):
    """A delivery receipt as input of the store."""

    carrier: str
    ids: tuple[bytes, ...]  # the likeliest form first
    recipient: Recipient
    state: PartState  # DELIVERED | EXPIRED | UNDELIVERED; ACCEPTED when intermediate; RECEIPT_UNKNOWN, …_UNREADABLE
    error: str = ""  # the carrier's err field, unchanged
    at: int = 0  # done date by the carrier's clock (ms UTC, stored in whole seconds); 0 = none
    whole: bool = False  # the carrier sends one receipt for all parts: that of the last part counts for the message
    detail: ReceiptDetail | None = None
    host: str = ""  # that sent it, where ids are unique only per host


class ReceiptMatch(IntEnum):
    """The result of ``progress`` for a receipt. Every one means: stored, acknowledge it."""

    APPLIED = 0
    REPEATED = 1  # seen before, or after a final state: nothing changed
    PARKED = 2  # id still unknown: applied when it arrives, an orphan after 60 s
    AMBIGUOUS = 3  # several open messages to the recipient have this id: recorded for each, no state changed


class StreamEvent(msgspec.Struct, gc=False):
    """One transition of one message, as stored in the partition's event stream."""

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
