"""A leased message while a carrier has it: which parts are out, what was answered, and the result for the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.model import LeasedMessage, OnUnknown, PartAnswer, PartState, SubmitResult

if TYPE_CHECKING:
    from gateway.carriers.retry import RetryDecision


class InFlightMessage:
    """One leased message. ``undecided`` counts parts without an outcome; at 0 the message is reported, once.

    ``bodies`` are the submit_sm bodies of its parts, None where the carrier accepted the part before.
    """

    __slots__ = (
        "bodies",
        "leased",
        "parts",
        "refused",
        "reported",
        "rest_failed",
        "started",
        "undecided",
        "unknown",
        "unwritten",
    )

    def __init__(self, leased: LeasedMessage, bodies: list[bytes | None], now: float) -> None:
        self.leased = leased
        self.bodies = bodies
        self.undecided = len(bodies) - bodies.count(None)
        self.started = now  # loop time (s): when it was leased, then when it was written
        self.parts: list[PartAnswer] = []
        self.refused: list[int] = []  # command_status of each refused part
        self.unknown = 0
        self.unwritten = 0
        self.reported = False
        self.rest_failed = False  # the gateway itself cannot write the remaining parts

    def __repr__(self) -> str:
        return f"<InFlightMessage {self.leased.id.hex()} {self.undecided} of {len(self.bodies)} parts undecided>"

    def accept(self, index: int, carrier_id: bytes) -> None:
        """Record that the carrier accepted a part."""
        self.undecided -= 1
        self.parts.append(PartAnswer(index, PartState.ACCEPTED, carrier_id))

    def refuse(self, index: int, status: int) -> None:
        """Record that the carrier refused a part."""
        self.undecided -= 1
        self.parts.append(PartAnswer(index, PartState.PENDING, b"", status))
        self.refused.append(status)

    def set_unknown(self, index: int) -> None:
        """Record that a part was written and no response will come."""
        self.undecided -= 1
        self.parts.append(PartAnswer(index, PartState.UNKNOWN))
        self.unknown += 1

    def reopen(self, index: int) -> None:
        """Make an unknown part undecided again: its response came while other parts are still open."""
        for at, part in enumerate(self.parts):
            if part.index == index and part.state is PartState.UNKNOWN:
                del self.parts[at]
                self.unknown -= 1
                self.undecided += 1
                return

    def set_unwritten(self, index: int) -> None:
        """Record that no octet of a part left this process."""
        self.undecided -= 1
        self.parts.append(PartAnswer(index, PartState.PENDING))
        self.unwritten += 1

    def result(
        self,
        carrier: str,
        decision: RetryDecision,
        *,
        on_unknown: OnUnknown,
        due: int = 0,
        last_place: bool = False,
        host: str = "",
    ) -> SubmitResult:
        """Mark the message as reported and return its result for ``store.progress``."""
        self.reported = True
        leased = self.leased
        return SubmitResult(
            id=leased.id,
            lease=leased.lease,
            carrier=carrier,
            resolution=decision.resolution,
            reason=decision.reason,
            status=decision.status,
            due=due,
            total=len(self.bodies),
            parts=self.parts,
            on_unknown=on_unknown,
            last_place=last_place,
            recipient=leased.recipient.key,
            host=host,
        )
