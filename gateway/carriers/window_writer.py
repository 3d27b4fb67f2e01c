"""Writes leased messages into the windows of a carrier's binds; the parts of a message stay on one bind, in order."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from gateway.carriers.in_flight import InFlightMessage
from gateway.model import Category

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.carriers.connection import Bind

WRITE_WITHIN = 1.0
"""Seconds after which a leased message that could not be written goes back to its lane."""

ALONE_WITHIN = 5.0
"""… the same for a message that waits to be written alone."""

ALONE_FROM = 2
"""The second resend, and every further one, goes over a bind on which nothing else is unanswered: a link that breaks
then broke over this message, and the carrier has all but certainly seen it."""

TOGETHER = 16
"""Parts written to one bind before another is used: every bind that is written to costs a write and reads."""

Part = tuple[InFlightMessage, int]
"""A message and the index of one of its parts: the context that a bind returns with the response."""


class WindowWriter:
    """Holds messages that are leased and not yet written. ``submitted`` counts submit_sm.

    A message longer than the free window of its bind is written a window at a time: its further parts wait until
    ``write_rest`` is called.
    """

    def __init__(self) -> None:
        self.submitted = 0
        self.failed: list[tuple[InFlightMessage, int, Bind, Exception]] = []
        """Parts that a bind could not take; the caller clears it after each ``write`` and ``write_rest``."""
        self._rest: dict[Bind, deque[Part]] = {}  # parts that follow what their bind has written
        self._waiting: deque[InFlightMessage] = deque()  # for a bind with room
        self._alone: deque[InFlightMessage] = deque()  # for a bind with nothing outstanding
        self._reserved: Bind | None = None  # gets nothing until it has nothing outstanding, then one of ``_alone``
        self._alone_last = False  # ``_alone`` was served last: with a single bind ``_waiting`` comes next

    def __bool__(self) -> bool:
        return bool(self._waiting or self._alone)

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, messages: Iterable[InFlightMessage]) -> None:
        """Queue messages to be written."""
        for message in messages:
            (self._alone if message.leased.resent >= ALONE_FROM else self._waiting).append(message)

    def write(self, binds: Sequence[Bind], now: float) -> None:
        """Write what waits, to the bind with most room first; more than a few are spread over binds by their room."""
        if self._alone:
            self._write_alone(binds, now)
        waiting = self._waiting
        open_ = [bind for bind in binds if bind not in self._rest and bind is not self._reserved]
        rooms = [(bind.free, bind) for bind in open_ if not (bind.sick and _not_resendable(waiting))]
        rooms = sorted((entry for entry in rooms if entry[0] > 0), key=lambda entry: -entry[0])
        total = sum(free for free, _ in rooms)
        parts = min(total, sum(message.undecided for message in waiting))
        for free, bind in rooms:
            room, quota = free, max(TOGETHER, -(-parts * free // total))
            while waiting and room > 0 and quota > 0:
                message = waiting[0]
                if message.undecided > room and not (room == bind.window and message.undecided > bind.window):
                    break  # its parts belong together: wait for a bind with room for all of them
                waiting.popleft()
                room -= message.undecided
                quota -= message.undecided
                self._submit(message, bind, now)
                self._alone_last = False

    def _write_alone(self, binds: Sequence[Bind], now: float) -> None:
        """Write one message of ``_alone`` over the bind reserved for it, once nothing is outstanding there."""
        if self._reserved not in binds:
            free = [bind for bind in binds if bind.free > 0 and bind not in self._rest]
            others_next = len(binds) == 1 and self._alone_last and self._waiting
            self._reserved = None if others_next or not free else min(free, key=lambda bind: bind.outstanding)
        bind = self._reserved
        if bind is not None and bind.outstanding == 0 and bind.free > 0:
            self._submit(self._alone.popleft(), bind, now)
            self._alone_last = True
            if not self._alone or len(binds) == 1:
                self._reserved = None

    def rest_due(self) -> list[Bind]:
        """Return the binds with room for a good part of a window of the parts that follow."""
        return [bind for bind, rest in self._rest.items() if bind.free >= max(1, min(len(rest), bind.window // 4))]

    def next_of_rest(self, bind: Bind) -> list[InFlightMessage]:
        """Return the messages whose further parts fit into the bind's window now, in order."""
        return list(dict.fromkeys(message for message, _ in list(self._rest[bind])[: bind.free]))

    def write_rest(self, bind: Bind, stopped: set[InFlightMessage], now: float) -> list[Part]:
        """Write further parts as far as there is room; return those of ``stopped`` messages, which are not written."""
        rest = self._rest.get(bind)
        returned: list[Part] = []
        if rest is None:
            return returned
        if stopped:
            returned = [part for part in rest if part[0] in stopped]
            rest = self._rest[bind] = deque(part for part in rest if part[0] not in stopped)
        while rest and bind.free > 0:
            message, index = rest.popleft()
            self._write_part(message, index, bind, now)
        if not rest:
            del self._rest[bind]
        return returned

    def give_up(self, bind: Bind) -> Sequence[Part]:
        """Forget a closed bind and return the parts that were to follow on it."""
        if bind is self._reserved:
            self._reserved = None
        return self._rest.pop(bind, ())

    def overdue(self, now: float) -> list[InFlightMessage]:
        """Remove and return the messages that have waited too long to be written."""
        found = []
        for waiting, within in ((self._waiting, WRITE_WITHIN), (self._alone, ALONE_WITHIN)):
            while waiting and now - waiting[0].started >= within:
                found.append(waiting.popleft())
        if not self._alone:
            self._reserved = None
        return found

    def _submit(self, message: InFlightMessage, bind: Bind, now: float) -> None:
        message.started = now
        bodies = message.bodies
        if len(bodies) == 1:
            if bodies[0] is not None:
                self._write_part(message, 0, bind, now)
            return
        room = bind.free
        for index, body in enumerate(bodies):
            if body is None:
                continue
            if room > 0:
                room -= 1
                self._write_part(message, index, bind, now)
            else:
                self._rest.setdefault(bind, deque()).append((message, index))

    def _write_part(self, message: InFlightMessage, index: int, bind: Bind, now: float) -> None:
        body = message.bodies[index]
        assert body is not None
        try:
            bind.submit(body, (message, index), now)
        except Exception as error:  # noqa: BLE001 - a fault over one message must not keep the others
            self.failed.append((message, index, bind, error))
        else:
            self.submitted += 1


def _not_resendable(waiting: Sequence[InFlightMessage]) -> bool:
    """Whether the next message must not go over a bind that may lose it: marketing is never resent."""
    return bool(waiting) and waiting[0].leased.category is Category.MARKETING
