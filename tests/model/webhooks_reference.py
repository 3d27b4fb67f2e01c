"""The queues of webhooks as plain lists: every event lies in exactly one place, in the order in which it happened.

stream behind the cursor ─move─> queue: frozen batch, then the rest ─taken─> acknowledged
                                   │  ^                                        dropped
                              given up  replay                                    ^
                                   └──> dead letters ────────drop────────────────┘
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

MAX_PIECES = 500


class Item(NamedTuple):
    """A piece: events of one queue that were moved together."""

    name: bytes
    labels: tuple[str, ...]

    @property
    def plain(self) -> bytes:
        return ",".join(self.labels).encode()


@dataclass
class Outbox:
    """One receiver in one partition."""

    waiting: list[tuple[Item, int]] = field(default_factory=list)  # with the instant of its queueing
    frozen: int = 0  # how many of them are the batch
    dead: list[tuple[Item, int]] = field(default_factory=list)
    over: list[Item] = field(default_factory=list)  # acknowledged or dropped

    @property
    def batch(self) -> list[tuple[Item, int]]:
        return self.waiting[: self.frozen]

    def put(self, item: Item, now: int) -> bool:
        """Answers whether it is the batch to be posted now."""
        self.waiting.append((item, now))
        if len(self.waiting) == 1:
            self.frozen = 1
            return True
        return False

    def close(self, first: bytes, *, taken: bool, until: int) -> None:
        """Something became of the batch that begins with ``first``."""
        if not self.frozen or self.waiting[0][0].name != first:
            return
        if taken:
            self.over += [item for item, _ in self.batch]
            del self.waiting[: self.frozen]
        else:
            count = self.frozen
            while count < len(self.waiting) and self.waiting[count][1] <= until:
                count += 1
            self.dead += self.waiting[:count]
            del self.waiting[:count]
        self.frozen = 0

    def freeze(self, limit: int) -> None:
        """Choose the next batch: as many pieces as ``limit`` events hold, one at least."""
        if self.frozen:
            return
        events = 0
        for item, _ in self.waiting[:MAX_PIECES]:
            events += len(item.labels)
            if self.frozen and events > limit:
                break
            self.frozen += 1

    def replay(self, now: int) -> int:
        self.waiting += [(item, now) for item, _ in self.dead]
        return self._clear()

    def drop(self) -> int:
        self.over += [item for item, _ in self.dead]
        return self._clear()

    def _clear(self) -> int:
        count = sum(len(item.labels) for item, _ in self.dead)
        self.dead.clear()
        return count


@dataclass
class Followed:
    """One partition: its stream, who reads it, and its outboxes by queue."""

    entries: list[tuple[str, ...]] = field(default_factory=list)  # labels of each entry since it is followed
    moved: int = 0  # how many of them
    following: bool = False
    life: int = 0  # how often it was begun to be followed anew
    holder: str = ""
    named: dict[str, int] = field(default_factory=dict)  # accounts whose messages named receivers, and when
    outboxes: dict[bytes, Outbox] = field(default_factory=dict)

    def outbox(self, queue: bytes) -> Outbox:
        return self.outboxes.setdefault(queue, Outbox())

    @property
    def empty(self) -> bool:
        return not any(box.waiting or box.dead for box in self.outboxes.values())
