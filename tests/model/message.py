"""A message as the model knows it: what design and state table say about one of them, in plain fields."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.model import PRIORITY, NewMessage, OnUnknown, PartState, Reason, State

WORST = (PartState.UNDELIVERED, PartState.EXPIRED, PartState.DELIVERED)
_HAD = (PartState.ACCEPTED, *WORST)  # a carrier has certainly taken it
_OUT = (PartState.UNKNOWN, *_HAD)  # on the wire, for all we know


@dataclass
class Part:
    state: PartState = PartState.PENDING
    id: bytes = b""
    done_at: int = 0  # the carrier's date


@dataclass
class Moved:
    """One event."""

    id: bytes
    sequence: int
    state: State
    previous: State | None
    reason: Reason
    final: bool


@dataclass(repr=False)
class Message:
    new: NewMessage
    accepted_at: int
    state: State
    reason: Reason
    due: int = 0
    route: str = ""
    place: int = 0
    attempts: int = 0
    sequence: int = 0
    final: bool = False
    ended_at: int = 0
    owner: str = ""
    lease: int = 0
    carrier: str = ""
    word: OnUnknown = OnUnknown.RESEND  # the carrier's, given with the take
    resent: bool = False
    cancel: bool = False
    released: bool = False
    since: int = 0  # of SENT and UNKNOWN
    parts: list[Part] = field(default_factory=list)

    def __repr__(self) -> str:
        parts = ",".join(part.state.name for part in self.parts)
        return (
            f"<{self.new.id.hex()[-6:]} {self.state.name}/{self.reason.name} {self.lane} parts={parts} due={self.due} "
            f"lease={self.owner}:{self.lease} resent={self.resent} cancel={self.cancel} final={self.final}>"
        )

    def __post_init__(self) -> None:
        self.permission, self.route = self.new.permission, self.new.route

    @property
    def lane(self) -> str:
        """Where it waits; what a carrier has begun waits for that carrier alone."""
        where = f"@{self.carrier}" if self.had else f"#{self.place}"
        return f"{self.route}{where}:{int(PRIORITY[self.new.category])}"

    @property
    def had(self) -> bool:
        return any(part.state in _HAD for part in self.parts)

    @property
    def whole(self) -> bool:
        return bool(self.parts) and all(part.state in _HAD for part in self.parts)

    @property
    def out(self) -> bool:
        return self.resent or any(part.state in _OUT for part in self.parts)

    @property
    def open_parts(self) -> int:
        """What a take still has to send."""
        if not self.had:
            return max(self.new.segments, 1)
        return max(sum(part.state not in _HAD for part in self.parts), 1)

    @property
    def pinned(self) -> str:
        return self.carrier if self.had else ""


def kept_date(instant: int) -> int:
    """A carrier's date as it is kept: whole seconds, none that four octets cannot hold."""
    second = instant // 1000
    return second * 1000 if 0 < second < 2**32 else 0
