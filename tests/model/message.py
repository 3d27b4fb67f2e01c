"""A message as the model knows it, in plain fields; see the state table in docs/architecture.md.

Every part of it that was ever written is a copy of its own, under the lease that wrote it. What is known of a part, and
so of the message, is never kept: it follows from the copies.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.model import PRIORITY, NewMessage, OnUnknown, PartState, Reason, State

FAILURES = (PartState.UNDELIVERED, PartState.EXPIRED)  # the worse first
ENDED = (*FAILURES, PartState.DELIVERED)  # it has its receipt
_TAKEN = (PartState.ACCEPTED, *ENDED)  # a carrier certainly has it
_VERDICTS = (
    (PartState.UNDELIVERED, State.UNDELIVERED),
    (PartState.EXPIRED, State.EXPIRED),
)


@dataclass
class Copy:
    """One part as one lease wrote it, and as far as is known: UNKNOWN, ACCEPTED, or what its receipt said."""

    part: int
    lease: int
    carrier: str
    written_at: int
    state: PartState
    id: bytes = b""
    again: bool = False  # its part was queued once more since

    @property
    def lost(self) -> bool:
        """Whether a receipt of it would come under an unknown id."""
        return self.state is PartState.UNKNOWN or (self.state is PartState.ACCEPTED and not self.id)


@dataclass
class Moved:
    """One event."""

    id: bytes
    sequence: int
    state: State
    previous: State | None
    reason: Reason
    final: bool
    accepted: int  # parts
    error: str  # of the receipt that brought it


@dataclass(repr=False)
class Message:
    new: NewMessage
    accepted_at: int
    state: State
    reason: Reason
    due: int = 0  # of what waits; of SENT and UNKNOWN when the time to wait is over
    route: str = ""
    place: int = 0
    attempts: int = 0
    sequence: int = 0
    final: bool = False
    ended_at: int = 0
    owner: str = ""
    lease: int = 0
    carrier: str = ""  # it is at, or that has a part of it
    handed_to: str = ""  # by its last lease
    taken_as: int = 0  # its place in the order of all takes
    word: OnUnknown = OnUnknown.RESEND  # the carrier's, given with the take
    resent: int = 0
    stop: Reason = Reason.NONE  # CANCELED, or why the gate will not let the other parts follow
    bare: bool = False  # its content is gone: it will not be sent again
    waited: bool = False  # the time to wait for receipts is over: copies that are open count no longer
    released: bool = False
    since: int = 0
    total: int = 0  # parts in the splitting of the carrier it was last at; 0 before that
    copies: list[Copy] = field(default_factory=list)
    flying: set[int] = field(default_factory=set)  # parts that its lease may write, while SENDING
    pinned_then: bool = False  # whether a part had been accepted when it was leased
    dates: dict[int, int] = field(default_factory=dict)  # part -> the carrier's date
    noted: set[tuple[Reason, str, str]] = field(default_factory=set)  # what receipts said without moving it
    mark: bytes = b""  # of the text, for what was lost
    handed: dict[str, list[tuple[int, bool]]] = field(default_factory=dict)  # carrier -> when, and whether it was lost

    def __repr__(self) -> str:
        parts = ",".join(self.part(index).name for index in range(self.total))
        copies = " ".join(f"{c.part}@{c.carrier}/{c.lease}:{c.state.name}:{c.id.decode()}" for c in self.copies)
        return (
            f"<{self.new.id.hex()[-6:]} {self.state.name}/{self.reason.name} {self.lane} parts={parts} copies={copies} "
            f"due={self.due} lease={self.owner}:{self.lease} resent={self.resent} stop={self.stop.name} "
            f"final={self.final}>"
        )

    def __post_init__(self) -> None:
        self.permission, self.route = self.new.permission, self.new.route

    # -- what follows from its copies ----------------------------------------------------------------------------------

    def part(self, index: int) -> PartState:
        """A delivered copy wins; a failure counts when no other is open; else whether a carrier has it."""
        states = {copy.state for copy in self.copies if copy.part == index}
        if PartState.DELIVERED in states:
            return PartState.DELIVERED
        failed = next((state for state in FAILURES if state in states), None)
        open_ = index in self.flying or not states.isdisjoint((PartState.UNKNOWN, PartState.ACCEPTED))
        if failed and (self.waited or not open_):
            return failed
        if failed or PartState.ACCEPTED in states:
            return PartState.ACCEPTED
        waits = any(copy.part == index and not copy.again for copy in self.copies)
        return PartState.UNKNOWN if waits else PartState.PENDING

    def taken(self, index: int) -> bool:
        return self.part(index) in _TAKEN

    @property
    def accepted(self) -> int:
        """How many parts a carrier has accepted, whatever came after."""
        return sum(map(self.taken, range(self.total)))

    @property
    def had(self) -> bool:
        return self.accepted > 0

    @property
    def whole(self) -> bool:
        return 0 < self.total == self.accepted

    @property
    def verdict(self) -> State | None:
        """How its receipts end it: a failed part at once, delivered when all parts are; None: not yet."""
        said = {self.part(index) for index in range(self.total)}
        for worst, state in _VERDICTS:
            if worst in said:
                return state
        return State.DELIVERED if said == {PartState.DELIVERED} else None

    @property
    def doubtful(self) -> bool:
        """A copy of what no carrier is known to have may be on its way."""
        return any(copy.state is PartState.UNKNOWN and not self.taken(copy.part) for copy in self.copies)

    @property
    def out(self) -> bool:
        """It may have reached the recipient."""
        return bool(self.copies)

    @property
    def holders(self) -> set[str]:
        """Carriers that have a part of it."""
        return {copy.carrier for copy in self.copies if copy.state in _TAKEN and copy.part < self.total}

    # -- where it waits ------------------------------------------------------------------------------------------------

    @property
    def lane(self) -> str:
        """Where it waits; what a carrier has begun waits for that carrier alone."""
        where = f"@{self.carrier}" if self.had else f"#{self.place}"
        return f"{self.route}{where}:{int(PRIORITY[self.new.category])}"

    @property
    def open_parts(self) -> int:
        """What a take still has to send."""
        return max(self.total - self.accepted if self.had else self.new.segments, 1)

    @property
    def pinned(self) -> str:
        return self.carrier if self.had else ""

    def written(self, carrier: str) -> int:
        """When it was first handed to this carrier so that it was lost or sent; at least the last time it was."""
        times = self.handed[carrier]
        return next((at for at, lost in times if lost), times[-1][0])


def kept_date(instant: int) -> int:
    """A carrier's date as it is kept: whole seconds, none that four octets cannot hold."""
    second = instant // 1000
    return second * 1000 if 0 < second < 2**32 else 0
