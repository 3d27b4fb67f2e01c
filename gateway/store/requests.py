"""What is asked of the store and what it answers, beside the messages themselves (``gateway.model``)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from gateway.model import LeasedMessage, OnUnknown, Priority, Recipient, Redecide, RuleGroup, RuleStatus, State
from gateway.store.owner import LeaseOwner


class Retention(NamedTuple):
    """How long things are kept or waited for, in seconds."""

    id_map: int = 72 * 3600  # carrier ids, when the record does not go earlier
    finished: int = 6 * 3600  # a record after its final state
    refused: int = 24 * 3600  # a record that policy refused
    receipt_timeout: int = 72 * 3600  # sent without a receipt: final in place
    hold: int = 600  # unknown, held for a receipt: then resent
    parked: int = 25 * 3600  # receipts of unknown ids
    orphan: int = 60  # a parked receipt is tried against messages without a carrier id
    events: int = 20_000  # entries of a partition's event stream (a call's events are one entry)
    resends: int = 3  # how often an unknown may be sent once more


class Lane(NamedTuple):
    """Where a message waits: a route, how many of its carriers were left behind, a priority."""

    route: str
    place: int
    priority: Priority

    @property
    def name(self) -> str:
        return f"{self.route}#{self.place}:{int(self.priority)}"


class TakeRequest(NamedTuple):
    """What a carrier's dispatcher could write now."""

    partition: int
    lanes: tuple[Lane, ...]  # in the order they are emptied
    carrier: str
    limit: int  # parts in all
    keep: int = 0  # parts of ``limit`` that only one-time passwords may use
    on_unknown: OnUnknown = OnUnknown.RESEND  # the carrier's word, for a reclaim after our death
    probe: bool = False  # of a carrier that may be sick: one message at most, which may be resent


class UnreadableMessage(NamedTuple):
    """A message that ``take`` leased, and whose record cannot be read."""

    id: bytes
    lease: int
    error: str
    sealed: bool
    """Whether it does not open with the encryption keys that we have: with another one it may."""


class TakeResult(NamedTuple):
    """What ``take`` gave."""

    leased: list[LeasedMessage]
    redecide: list[Redecide]
    dropped: int  # expired or refused at the gate; their events are raised
    more: bool  # something is ready now that this take had no room for
    next_due: int  # when the next delayed message of these lanes wakes (ms UTC); 0 = none
    unread: list[UnreadableMessage] = []  # noqa: RUF012 - nobody adds to it
    undecided: list[UnreadableMessage] = []  # noqa: RUF012 - to be decided afresh, and cannot be read; ``lease`` is the token


class OptChange(NamedTuple):
    """A recipient's word, as it arrived. ``detail`` (evidence, method, …) is sealed and kept beside it."""

    recipient: Recipient
    group: RuleGroup
    status: RuleStatus
    scope: bytes  # 8 octets
    at: int
    until: int = 0
    detail: bytes = b""


class OptRecord(NamedTuple):
    """A rule with the detail that came with it."""

    group: RuleGroup
    status: RuleStatus
    scope: bytes
    at: int
    until: int
    detail: bytes


class CancelResult(IntEnum):
    """What ``cancel`` did."""

    MISSING = 0  # no such record (any more)
    CANCELED = 1  # it was waiting: never sent, its event is raised (also when it was canceled before)
    REQUESTED = 2  # it is at a carrier's door or beyond: marked, not sent again
    FINAL = 3  # too late


class ClaimResult(IntEnum):
    """What became of a claim for a request with an ``Idempotency-Key``."""

    CLAIMED = 0  # it is the caller's to run
    RUNNING = 1  # another gateway runs it
    MISMATCH = 2  # the same key came with another body
    DONE = 3  # it was answered within 24 h


class ReclaimResult(NamedTuple):
    """What became of a dead owner's leases."""

    unknown: int  # stay unknown (held for a receipt, or never resent)
    queued: int  # unknown and queued to be sent once more
    canceled: int  # a cancel was waiting for the outcome
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
    beat: int  # its youngest heartbeat in any partition, ms UTC
    leases: int  # takes that are still open


class FormGuess(NamedTuple):
    """A receipt whose id leads to one message alone, in another form than its own."""

    carrier: str
    host: str
    receipted: bytes  # the receipt's id
    answered: bytes  # the message's


class SweepResult(NamedTuple):
    """What one ``sweep`` did in a partition."""

    looked_at: int
    expired: int
    ended: int  # final in place: no receipt, no answer
    deleted: int
    matched: int  # parked receipts that found a message without an id
    orphans: int  # parked receipts given up
    more: bool  # bounded: call again at once
    guesses: Sequence[FormGuess] = ()  # each receipt once
    strangers: Sequence[tuple[str, bytes]] = ()  # of some of the orphans: carrier and id
    overflowed: int = 0  # parked receipts dropped since there were too many


class LaneDepth(NamedTuple):
    """How much waits in a lane. ``ready`` counts entries that a take would skip (canceled, expired) as well."""

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
