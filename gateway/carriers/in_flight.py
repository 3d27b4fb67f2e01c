"""A leased message while it is at a carrier's door: which parts are out, what was said, what to report."""

from __future__ import annotations

from gateway.carriers.retry import RetryDecision
from gateway.model import LeasedMessage, OnUnknown, PartAnswer, PartState, SubmitResult


class InFlightMessage:
    """One leased message. ``left`` counts parts not decided; at 0 it is reported, once.

    ``bodies`` are the submit_sm of its parts, None where the carrier has accepted the part before.
    """

    __slots__ = ("bodies", "leased", "left", "parts", "refused", "reported", "spoilt", "taken", "unknown", "unwritten")

    def __init__(self, leased: LeasedMessage, bodies: list[bytes | None], now: float) -> None:
        self.leased = leased
        self.bodies = bodies
        self.left = len(bodies) - bodies.count(None)
        self.taken = now  # when it was leased, then when it was written (seconds)
        self.parts: list[PartAnswer] = []
        self.refused: list[int] = []
        self.unknown = 0
        self.unwritten = 0
        self.reported = False
        self.spoilt = False  # we ourselves cannot write the rest of it

    def __repr__(self) -> str:
        return f"<InFlightMessage {self.leased.id.hex()} {self.left} of {len(self.bodies)} parts undecided>"

    def accepted(self, index: int, carrier_id: bytes) -> None:
        """The carrier has taken a part."""
        self.left -= 1
        self.parts.append(PartAnswer(index, PartState.ACCEPTED, carrier_id))

    def refuse(self, index: int, status: int) -> None:
        """The carrier has refused a part."""
        self.left -= 1
        self.parts.append(PartAnswer(index, PartState.PENDING, b"", status))
        self.refused.append(status)

    def lose(self, index: int) -> None:
        """A part was written and will not be answered any more."""
        self.left -= 1
        self.parts.append(PartAnswer(index, PartState.UNKNOWN))
        self.unknown += 1

    def find(self, index: int) -> None:
        """A part that was thought lost is answered after all, while others are open: it is undecided again."""
        for at, part in enumerate(self.parts):
            if part.index == index and part.state is PartState.UNKNOWN:
                del self.parts[at]
                self.unknown -= 1
                self.left += 1
                return

    def leave(self, index: int) -> None:
        """A part never left."""
        self.left -= 1
        self.parts.append(PartAnswer(index, PartState.PENDING))
        self.unwritten += 1

    def answer(
        self, carrier: str, word: RetryDecision, due: int, on_unknown: OnUnknown, last_place: bool
    ) -> SubmitResult:
        """The report for the store."""
        self.reported = True
        leased = self.leased
        return SubmitResult(
            leased.id,
            leased.lease,
            carrier,
            word.resolution,
            word.reason,
            word.status,
            due,
            len(self.bodies),
            self.parts,
            on_unknown,
            last_place,
            leased.recipient.key,
        )
