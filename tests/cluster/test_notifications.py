"""What we cannot send is said to others, gathered; what others cannot send is heard."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from gateway.cluster import notifications as module
from gateway.cluster.heartbeat import Heartbeat
from gateway.cluster.notifications import Heard, WorkNotifier
from gateway.store.errors import StoreError, StoreUnavailable
from gateway.store.owner import LeaseOwner
from gateway.store.requests import OwnerSeen
from tests.cluster.test_heartbeat import ME, Registry


class Channel:
    def __init__(self) -> None:
        self.said: list[tuple[set[int], bool]] = []
        self.fails: StoreError | None = None
        self.listeners: list[Heard] = []

    async def tell(self, partitions: Iterable[int], *, urgent: bool) -> None:
        if self.fails:
            raise self.fails
        self.said.append((set(partitions), urgent))

    async def listen(self, heard: Heard) -> None:
        self.listeners.append(heard)
        while not self.fails:  # noqa: ASYNC110  # as the test says
            await asyncio.sleep(0.001)
        raise ExceptionGroup("", [self.fails])


class Crowd:
    alone = False


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST", 0.005)


async def test_hints_are_gathered_into_one() -> None:
    channel = Channel()
    notifier = WorkNotifier(channel, Crowd(), lambda *_: None)
    running = asyncio.create_task(notifier.run())
    for partition in range(100):
        notifier.beyond_us({partition % 8}, False)
    notifier.beyond_us({3}, True)
    await asyncio.sleep(0.05)
    assert channel.said == [(set(range(8)), True)]
    notifier.beyond_us({1}, False)
    await asyncio.sleep(0.05)
    assert channel.said[1:] == [({1}, False)]
    assert repr(notifier) == "<WorkNotifier 2 told, 0 heard>"
    running.cancel()


async def test_alone_nothing_is_said_and_nobody_listened_to() -> None:
    channel, crowd = Channel(), Crowd()
    crowd.alone = True
    notifier = WorkNotifier(channel, crowd, lambda *_: None)
    running = asyncio.create_task(notifier.run())
    notifier.beyond_us({1}, True)
    await asyncio.sleep(0.02)
    assert (channel.said, channel.listeners) == ([], [])
    crowd.alone = False
    await asyncio.sleep(0.02)
    assert len(channel.listeners) == 1
    running.cancel()


async def test_what_others_say_is_passed_on_also_after_the_store_was_away() -> None:
    channel, heard = Channel(), list[tuple[list[int], bool]]()
    notifier = WorkNotifier(channel, Crowd(), lambda *said: heard.append(said))
    running = asyncio.create_task(notifier.run())
    await asyncio.sleep(0.01)
    channel.fails = StoreUnavailable("away")
    notifier.beyond_us({1}, True)  # lost: a sweep finds it
    await asyncio.sleep(0.02)
    channel.fails = None
    await asyncio.sleep(0.05)
    assert len(channel.listeners) >= 2
    channel.listeners[-1]([1, 2], True)
    assert heard == [([1, 2], True)]
    running.cancel()


async def test_who_is_alone_by_heartbeats() -> None:
    registry = Registry(OwnerSeen(ME, 100_000, 0), OwnerSeen(LeaseOwner("dead", "1"), 1_000, 0))
    heartbeat = Heartbeat(registry, ME)
    await heartbeat.start()
    assert heartbeat.alone
    registry.seen.append(OwnerSeen(LeaseOwner("alive", "1"), 99_000, 0))
    await heartbeat.start()
    assert not heartbeat.alone
