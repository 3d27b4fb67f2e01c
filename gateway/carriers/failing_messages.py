"""Messages over which the gateway itself fails at one carrier: they hold up no lane, and end with the true reason.

One that cannot be encoded or written, or whose record is damaged, is tried three times, seconds apart. Then it goes to
the next carrier of its route, or fails (``gateway_fault``); one whose record cannot be read fails,
since no carrier could send it. A message sealed with a missing encryption key waits in its lane, a minute at a time,
until the key is back or the message expires: nothing is wrong with the message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import structlog

from gateway.model import LeasedMessage, Reason, Resolution, SubmitResult
from gateway.supervision import LOG_EVERY, TRIES, FailureCounts, Supervision

if TYPE_CHECKING:
    from gateway.carriers.leases import LeaseTracker
    from gateway.carriers.responses import ResponseHandler
    from gateway.store.requests import UnreadableMessage

RETRY_AFTER = 2000
"""Milliseconds, times the tries so far, until such a message is tried again."""

KEY_RETRY_AFTER = 60_000
"""Milliseconds until a message whose encryption key is missing is looked at again."""

log = structlog.get_logger(__name__)


class FailingMessages:
    """Decides about the failing messages of one carrier.

    Methods return the results that are ready for the store; other messages are given back.
    """

    def __init__(
        self,
        carrier: str,
        supervision: Supervision,
        leases: LeaseTracker,
        responses: ResponseHandler,
        clock: Callable[[], int],
    ) -> None:
        """``clock``: ms UTC."""
        self._carrier = carrier
        self._supervision = supervision
        self._leases = leases
        self._responses = responses
        self._clock = clock
        self._tries = FailureCounts()
        self._key_logged = -LOG_EVERY * 1000

    def __repr__(self) -> str:
        return f"<FailingMessages of {self._carrier} {self._tries!r}>"

    def failed(self, message: LeasedMessage, error: Exception) -> list[SubmitResult]:
        """Handle a fault over a message of which nothing was written."""
        self._supervision.failed("message", error)
        if self._retry(message):
            return []
        self._supervision.set_aside("message", message.id.hex(), error)
        return [self._responses.gateway_fault(message)]

    def failed_partly(self, message: LeasedMessage, error: Exception) -> bool:
        """Handle a fault over a message written in part; return whether its remaining parts are given up."""
        self._supervision.failed("message", error)
        if self._tries.add(message.id) < TRIES:
            return False
        self._tries.forget(message.id)
        self._supervision.set_aside("message", message.id.hex(), error)
        return True

    def unreadable(self, messages: Iterable[UnreadableMessage]) -> list[SubmitResult]:
        """Handle leased messages whose records cannot be read."""
        results: list[SubmitResult] = []
        for message in messages:
            if message.sealed:
                self._log_missing_key(message)
                self._leases.postpone(message, self._clock() + KEY_RETRY_AFTER, turn=False)
            elif not self._retry(message):
                self._supervision.set_aside("record", message.id.hex(), message.error)
                results.append(
                    SubmitResult(
                        id=message.id,
                        lease=message.lease,
                        carrier=self._carrier,
                        resolution=Resolution.FAILED,
                        reason=Reason.GATEWAY_FAULT,
                        status=0,
                        due=0,
                        total=0,
                        parts=[],
                    )
                )
        return results

    def undecidable(self, messages: Iterable[UnreadableMessage]) -> None:
        """Note messages that need a fresh decision and cannot be read: the store offers them until they expire."""
        for message in messages:
            if message.sealed:
                self._log_missing_key(message)
            elif self._tries.add(message.id) == TRIES:
                self._supervision.set_aside("record", message.id.hex(), message.error)

    def _retry(self, message: LeasedMessage | UnreadableMessage) -> bool:
        """Give the message back to be tried once more; False when it has been tried often enough."""
        tries = self._tries.add(message.id)
        if tries >= TRIES:
            self._tries.forget(message.id)
            return False
        self._leases.postpone(message, self._clock() + RETRY_AFTER * tries, turn=False)
        return True

    def _log_missing_key(self, message: UnreadableMessage) -> None:
        """Log once a minute: a missing key concerns many messages."""
        now = self._clock()
        if now - self._key_logged >= LOG_EVERY * 1000:
            self._key_logged = now
            log.error(
                "messages wait for their encryption key",
                carrier=self._carrier,
                id=message.id.hex(),
                error=message.error,
            )
