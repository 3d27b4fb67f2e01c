"""Messages over which the gateway itself fails at one carrier: they hold up no lane, and end truthfully.

One that cannot be encoded or written, or whose record is damaged, is tried three times, seconds apart. Then it goes to
the next carrier of its route, or fails (``gateway_fault``); one whose record cannot be read fails, for no carrier can
send what nobody can read. What is sealed with an encryption key that is gone waits in its lane, a minute at a time,
until the key is back or its time is over: nothing is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import structlog

from gateway.model import LeasedMessage, Reason, Resolution, SubmitResult
from gateway.supervision import TELL_EVERY, TRIES, FailureCounts, Supervision

if TYPE_CHECKING:
    from gateway.carriers.leases import LeaseTracker
    from gateway.carriers.responses import ResponseHandler
    from gateway.store.requests import UnreadableMessage

AGAIN = 2000
"""Milliseconds, times the tries so far, until such a message is tried again."""

FOR_ITS_KEY = 60_000
"""Milliseconds until a message is looked at again whose key is gone."""

log = structlog.get_logger(__name__)


class FailingMessages:
    """Of one carrier. Every method answers with the reports that are ready for the store; the rest is given back."""

    def __init__(
        self,
        carrier: str,
        supervision: Supervision,
        returns: LeaseTracker,
        outcomes: ResponseHandler,
        clock: Callable[[], int],
    ) -> None:
        """``clock``: ms UTC."""
        self._carrier = carrier
        self._supervision = supervision
        self._leases = returns
        self._outcomes = outcomes
        self._clock = clock
        self._tries = FailureCounts()
        self._told = -TELL_EVERY * 1000

    def __repr__(self) -> str:
        return f"<FailingMessages of {self._carrier} {self._tries!r}>"

    def failed(self, message: LeasedMessage, error: Exception) -> list[SubmitResult]:
        """Something of ours failed over a message of which nothing was written."""
        self._supervision.failed("message", error)
        if self._again(message):
            return []
        self._supervision.set_aside("message", message.id.hex(), error)
        return [self._outcomes.at_fault(message)]

    def last(self, message: LeasedMessage, error: Exception) -> bool:
        """The same of one that was written in part: whether its rest is not to be tried again."""
        self._supervision.failed("message", error)
        if self._tries.add(message.id) < TRIES:
            return False
        self._tries.forget(message.id)
        self._supervision.set_aside("message", message.id.hex(), error)
        return True

    def unread(self, some: Iterable[UnreadableMessage]) -> list[SubmitResult]:
        """Messages that were leased, and whose records cannot be read."""
        reports: list[SubmitResult] = []
        for one in some:
            if one.sealed:
                self._tell(one)
                self._leases.postpone(one, self._clock() + FOR_ITS_KEY, turn=False)
            elif not self._again(one):
                self._supervision.set_aside("record", one.id.hex(), one.error)
                reports.append(
                    SubmitResult(one.id, one.lease, self._carrier, Resolution.FAILED, Reason.GATEWAY_FAULT, 0, 0, 0, [])
                )
        return reports

    def undecided(self, some: Iterable[UnreadableMessage]) -> None:
        """Messages to be decided afresh whose records cannot be read: they are handed out again until they expire."""
        for one in some:
            if one.sealed:
                self._tell(one)
            elif self._tries.add(one.id) == TRIES:
                self._supervision.set_aside("record", one.id.hex(), one.error)

    def _again(self, message: LeasedMessage | UnreadableMessage) -> bool:
        """Give it back, to be tried once more; False when it has been tried often enough."""
        tries = self._tries.add(message.id)
        if tries >= TRIES:
            self._tries.forget(message.id)
            return False
        self._leases.postpone(message, self._clock() + AGAIN * tries, turn=False)
        return True

    def _tell(self, one: UnreadableMessage) -> None:
        """One line a minute: a key that was taken away concerns many."""
        now = self._clock()
        if now - self._told >= TELL_EVERY * 1000:
            self._told = now
            log.error("messages wait for their encryption key", carrier=self._carrier, id=one.id.hex(), error=one.error)
