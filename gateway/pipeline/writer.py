"""From leased messages to the windows of a carrier's binds: the parts of a message stay on one bind, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from gateway.pipeline.jobs import Job

WRITE_WITHIN = 1.0
"""Seconds after which a leased message that could not be written goes back."""


class Port(Protocol):
    """One bind as the dispatcher sees it."""

    name: str
    window: int

    @property
    def free(self) -> int:
        """Submits it takes now."""

    def submit(self, body: bytes, context: object, now: float) -> None: ...
    def abort(self, reason: str) -> None: ...


TOGETHER = 16
"""So many parts go to one bind before another is used: every bind that is written to costs a write and reads."""

Context = tuple[Job, int]
"""What comes back with an answer: the job and which of its parts."""


class Writer:
    """What is leased and not written. ``submitted`` counts submit_sm."""

    def __init__(self) -> None:
        self.submitted = 0
        self._waiting: deque[Job] = deque()  # no bind had room yet
        self._rest: dict[Port, deque[Context]] = {}  # parts of a message longer than a window

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, jobs: Iterable[Job]) -> None:
        """Leave messages to be written."""
        self._waiting.extend(jobs)

    def write(self, ports: Sequence[Port], now: float) -> None:
        """Write what waits, the bind with most room first; more than a few are spread over the binds by their room."""
        waiting = self._waiting
        rooms = [(port.free, port) for port in ports if port not in self._rest]
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

    def go_on(self, port: Port, now: float) -> None:
        """A bind has room again: go on with the message that is longer than its window."""
        rest = self._rest.get(port)
        if rest is None:
            return
        while rest and port.free > 0:
            job, index = rest.popleft()
            body = job.bodies[index]
            assert body is not None
            port.submit(body, (job, index), now)
            self.submitted += 1
        if not rest:
            del self._rest[port]

    def give_up(self, port: Port) -> Sequence[Context]:
        """A bind is over: the parts that were to follow on it."""
        return self._rest.pop(port, ())

    def overdue(self, now: float) -> list[Job]:
        """Messages that waited too long; they are no longer ours to write."""
        waiting = self._waiting
        found = []
        while waiting and now - waiting[0].taken >= WRITE_WITHIN:
            found.append(waiting.popleft())
        return found

    def _submit(self, job: Job, port: Port, now: float) -> None:
        job.taken = now
        bodies = job.bodies
        if len(bodies) == 1:
            body = bodies[0]
            if body is not None:
                port.submit(body, (job, 0), now)
                self.submitted += 1
            return
        room = port.free
        for index, body in enumerate(bodies):
            if body is None:
                continue
            if room > 0:
                room -= 1
                port.submit(body, (job, index), now)
                self.submitted += 1
            else:
                self._rest.setdefault(port, deque()).append((job, index))
