"""From leased messages to the windows of a carrier's binds: the parts of a message stay on one bind, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from gateway.carriers.in_flight import InFlightMessage
from gateway.model import Category

WRITE_WITHIN = 1.0
"""Seconds after which a leased message that could not be written goes back."""

ALONE_WITHIN = 5.0
"""… one that waits to be written alone."""

ALONE_FROM = 2
"""The second resend, and every further one, goes over a bind on which nothing else is unanswered: a link that breaks
then broke over this message, and the carrier has all but certainly seen it."""


class BindPort(Protocol):
    """One bind as the dispatcher sees it."""

    name: str
    window: int
    sick: bool
    """Whether it answers no submits: what it is given may be lost."""

    @property
    def peer(self) -> str:
        """The host and port at its other end."""

    @property
    def free(self) -> int:
        """Submits it takes now."""

    @property
    def outstanding(self) -> int:
        """Submits that are not answered."""

    def submit(self, body: bytes, context: object, now: float) -> None: ...
    def abort(self, reason: str) -> None: ...


TOGETHER = 16
"""So many parts go to one bind before another is used: every bind that is written to costs a write and reads."""

Context = tuple[InFlightMessage, int]
"""What comes back with an answer: the job and which of its parts."""


class WindowWriter:
    """What is leased and not written. ``submitted`` counts submit_sm.

    A message longer than the room of its bind is written a window at a time: its further parts wait in ``rests`` until
    ``follow`` is told that they may.
    """

    def __init__(self) -> None:
        self.submitted = 0
        self.failed: list[tuple[InFlightMessage, int, BindPort, Exception]] = []
        """Parts that a bind could not take, to be looked at after each ``write`` and ``follow``."""
        self.rests: dict[BindPort, deque[Context]] = {}
        self._waiting: deque[InFlightMessage] = deque()  # no bind had room yet
        self._alone: deque[InFlightMessage] = deque()
        self._emptied: BindPort | None = None  # gets nothing until all it has is answered, and then one of ``_alone``
        self._turn = False  # whether ``_alone`` was served last: with one bind the others have the next turn

    def __bool__(self) -> bool:
        return bool(self._waiting or self._alone)

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, jobs: Iterable[InFlightMessage]) -> None:
        """Leave messages to be written."""
        for job in jobs:
            (self._alone if job.leased.resent >= ALONE_FROM else self._waiting).append(job)

    def write(self, ports: Sequence[BindPort], now: float) -> None:
        """Write what waits, the bind with most room first; more than a few are spread over the binds by their room."""
        if self._alone:
            self._write_alone(ports, now)
        waiting = self._waiting
        open_ = [port for port in ports if port not in self.rests and port is not self._emptied]
        rooms = [(port.free, port) for port in open_ if not (port.sick and _risky(waiting))]
        rooms = sorted((entry for entry in rooms if entry[0] > 0), key=lambda entry: -entry[0])
        total = sum(free for free, _ in rooms)
        parts = min(total, sum(job.left for job in waiting))
        for free, port in rooms:
            room, quota = free, max(TOGETHER, -(-parts * free // total))
            while waiting and room > 0 and quota > 0:
                job = waiting[0]
                if job.left > room and not (room == port.window and job.left > port.window):
                    break  # its parts belong together: wait for a bind with room for all of them
                waiting.popleft()
                room -= job.left
                quota -= job.left
                self._submit(job, port, now)
                self._turn = False

    def _write_alone(self, ports: Sequence[BindPort], now: float) -> None:
        """One message that goes alone, over the bind that is emptied for it."""
        if self._emptied not in ports:
            free = [port for port in ports if port.free > 0 and port not in self.rests]
            only = len(ports) == 1 and self._turn and self._waiting
            self._emptied = None if only or not free else min(free, key=lambda port: port.outstanding)
        port = self._emptied
        if port is not None and port.outstanding == 0 and port.free > 0:
            self._submit(self._alone.popleft(), port, now)
            self._turn = True
            if not self._alone or len(ports) == 1:
                self._emptied = None

    def due(self, port: BindPort) -> bool:
        """Whether a good part of a window of parts that were to follow has room now."""
        rest = self.rests.get(port)
        return rest is not None and port.free >= max(1, min(len(rest), port.window // 4))

    def begun(self, port: BindPort) -> list[InFlightMessage]:
        """The messages whose further parts have room now, in order."""
        room = self.rests[port]
        return list(dict.fromkeys(job for job, _ in list(room)[: port.free]))

    def follow(self, port: BindPort, stopped: set[InFlightMessage], now: float) -> list[Context]:
        """Write parts that wait for room, as far as there is room; those of ``stopped`` messages are given back."""
        rest = self.rests.get(port)
        left: list[Context] = []
        if rest is None:
            return left
        if stopped:
            left = [context for context in rest if context[0] in stopped]
            rest = self.rests[port] = deque(context for context in rest if context[0] not in stopped)
        while rest and port.free > 0:
            job, index = rest.popleft()
            self._part(job, index, port, now)
        if not rest:
            del self.rests[port]
        return left

    def give_up(self, port: BindPort) -> Sequence[Context]:
        """A bind is over: the parts that were to follow on it."""
        if port is self._emptied:
            self._emptied = None
        return self.rests.pop(port, ())

    def overdue(self, now: float) -> list[InFlightMessage]:
        """Messages that waited too long; they are no longer ours to write."""
        found = []
        for waiting, within in ((self._waiting, WRITE_WITHIN), (self._alone, ALONE_WITHIN)):
            while waiting and now - waiting[0].taken >= within:
                found.append(waiting.popleft())
        if not self._alone:
            self._emptied = None
        return found

    def _submit(self, job: InFlightMessage, port: BindPort, now: float) -> None:
        job.taken = now
        bodies = job.bodies
        if len(bodies) == 1:
            if bodies[0] is not None:
                self._part(job, 0, port, now)
            return
        room = port.free
        for index, body in enumerate(bodies):
            if body is None:
                continue
            if room > 0:
                room -= 1
                self._part(job, index, port, now)
            else:
                self.rests.setdefault(port, deque()).append((job, index))

    def _part(self, job: InFlightMessage, index: int, port: BindPort, now: float) -> None:
        body = job.bodies[index]
        assert body is not None
        try:
            port.submit(body, (job, index), now)
        except Exception as error:  # noqa: BLE001 - whatever is odd about one message, the others are written
            self.failed.append((job, index, port, error))
        else:
            self.submitted += 1


def _risky(waiting: Sequence[InFlightMessage]) -> bool:
    """Whether what comes next must not be tried where it may be lost: advertising is not resent."""
    return bool(waiting) and waiting[0].leased.category is Category.MARKETING
