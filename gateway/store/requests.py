"""Arguments and results of the store's calls, beside the messages themselves (``gateway.model``)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from gateway.model import LeasedMessage, OnUnknown, Priority, Recipient, Redecide, RuleGroup, RuleStatus, State
from gateway.store.owner import LeaseOwner


class Retention(NamedTuple):
    """How long things are kept or waited for, in seconds (``events``, ``resends``: counts)."""

    id_map: int = 72 * 3600  # carrier ids, when the record does not go earlier
    finished: int = 6 * 3600  # a record after its final state
    refused: int = 24 * 3600  # a record that policy refused
    receipt_timeout: int = 72 * 3600  # SENT or UNKNOWN without a receipt: final then
    hold: int = 600  # UNKNOWN and held for a receipt: resent then
    parked: int = 25 * 3600  # receipts of unknown ids
    orphan: int = 60  # before a parked receipt is tried on messages without a carrier id
    events: int = 20_000  # entries of a partition's event stream (a call's events are one entry)
    resends: int = 3  # how often an unknown may be sent once more


class Lane(NamedTuple):
    """Where a message waits: a route, how many of its carriers it has left behind, a priority."""

    route: str
    place: int
    priority: Priority

    @property
    def name(self) -> str:
        return f"{self.route}#{self.place}:{int(self.priority)}"


class TakeRequest(NamedTuple):
    """What the dispatcher of a carrier can write now."""

    partition: int
    lanes: tuple[Lane, ...]  # in the order they are emptied
    carrier: str
    limit: int  # parts in all
    keep: int = 0  # parts of ``limit`` that only one-time passwords may use
    on_unknown: OnUnknown = OnUnknown.RESEND  # of the carrier, for a reclaim when the owner dies
    probe: bool = False  # of a carrier that may be failing: one message at most, one that may be resent


class UnreadableMessage(NamedTuple):
    """A message that ``take`` leased or handed back, and whose record cannot be read."""

    id: bytes
    lease: int
    error: str
    sealed: bool
    """It does not open with the configured encryption keys; with another key it may."""


class TakeResult(NamedTuple):
    """The result of one ``take``."""

    leased: list[LeasedMessage]
    redecide: list[Redecide]
    dropped: int  # expired or refused at the gate; their events are raised
    more: bool  # something else is ready now
    next_due: int  # when the next delayed message of these lanes wakes (ms UTC); 0 = none
    unread: list[UnreadableMessage] = []  # noqa: RUF012 - never changed
    undecided: list[UnreadableMessage] = []  # noqa: RUF012 - of redecide; ``lease`` is the token


class OptChange(NamedTuple):
    """A consent or opt-out as it arrived. ``detail`` (evidence, method, …) is sealed and stored beside it."""

    recipient: Recipient
    group: RuleGroup
    status: RuleStatus
    scope: bytes  # 8 octets
    at: int
    until: int = 0
    detail: bytes = b""


class OptRecord(NamedTuple):
    """A rule with its detail."""

    group: RuleGroup
    status: RuleStatus
    scope: bytes
    at: int
    until: int
    detail: bytes


class CancelResult(IntEnum):
    """What ``cancel`` did."""

    MISSING = 0  # no record, or none any more
    CANCELED = 1  # it was waiting and is never sent; also when it was canceled before
    REQUESTED = 2  # it is at a carrier: marked, not sent again
    FINAL = 3  # it was final already


class ClaimResult(IntEnum):
    """The verdict on a claim for a request with an ``Idempotency-Key``."""

    CLAIMED = 0  # the caller runs it
    RUNNING = 1  # another gateway runs it
    MISMATCH = 2  # the same key came with another body
    DONE = 3  # it was answered within 24 h


class ReclaimResult(NamedTuple):
    """What became of the leases of a dead owner."""

    unknown: int  # stay unknown (held for a receipt, or never resent)
    queued: int  # unknown, and queued to be resent
    canceled: int  # a cancel had been requested
    alive: bool  # nothing was done: its heartbeat is younger than 10 s

    def __add__(self, other: object) -> ReclaimResult:
        if not isinstance(other, ReclaimResult):
            return NotImplemented
        unknown, queued, canceled, alive = other
        return ReclaimResult(
            self.unknown + unknown, self.queued + queued, self.canceled + canceled, self.alive or alive
        )


class OwnerSeen(NamedTuple):
    """An owner that has not been reclaimed everywhere."""

    owner: LeaseOwner
    beat: int  # its latest heartbeat in any partition, ms UTC
    leases: int  # that are still open


class FormGuess(NamedTuple):
    """A receipt whose id leads to exactly one message, in another form than its own."""

    carrier: str
    host: str
    receipted: bytes  # the id in the receipt
    answered: bytes  # the id in the answer


class SweepResult(NamedTuple):
    """What one ``sweep`` did in a partition."""

    looked_at: int
    expired: int
    ended: int  # SENT or UNKNOWN, final as no receipt or answer came in time
    deleted: int
    matched: int  # parked receipts that found their message
    orphans: int  # parked receipts given up
    more: bool  # not all was done: call again at once
    guesses: Sequence[FormGuess] = ()  # once per receipt
    unmatched: Sequence[tuple[str, bytes]] = ()  # carrier and id of some of the orphans
    overflowed: int = 0  # parked receipts dropped because there were too many


class LaneDepth(NamedTuple):
    """How much of an account is ready in a lane, including entries that a take skips (canceled, expired)."""

    lane: str
    account: str
    ready: int


class QueueDepths(NamedTuple):
    """What waits in the whole store."""

    ready: list[LaneDepth]
    delayed: dict[str, int]  # by lane
    held: int
    leases: int
    parked: int
    waiting: dict[str, dict[State, int]]  # by account: how many are scheduled, deferred, held, queued
