"""Work that cannot be taken here is announced to other gateways, gathered; what they announce is received."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import cast

import pytest

from gateway.cluster import notifications as module
from gateway.cluster.heartbeat import Heartbeat
from gateway.cluster.notifications import WorkNotifier
from gateway.store.errors import StoreError, StoreUnavailable
from gateway.store.owner import LeaseOwner
from gateway.store.requests import OwnerSeen
from gateway.store.work_channel import WorkChannel
from tests.cluster.test_heartbeat import ME, Registry

Listener = Callable[[list[int], bool], None]


class Channel:
    def __init__(self) -> None:
        self.said: list[tuple[set[int], bool]] = []
        self.fails: StoreError | None = None
        self.listeners: list[Listener] = []

    async def publish(self, partitions: Iterable[int], *, urgent: bool) -> None:
        if self.fails:
            raise self.fails
        self.said.append((set(partitions), urgent))

    async def listen(self, listener: Listener) -> None:
        self.listeners.append(listener)
        while not self.fails:  # noqa: ASYNC110  # as the test says
            await asyncio.sleep(0.001)
        raise ExceptionGroup("", [self.fails])


class Others:
    alone = False


def notifier_on(channel: Channel, others: Others | None = None) -> WorkNotifier:
    return WorkNotifier(cast("WorkChannel", channel), cast("Heartbeat", others or Others()))


def ignore(partitions: Collection[int], *, urgent: bool = False, route: str | None = None) -> None:
    pass


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST", 0.005)


async def test_announcements_are_gathered_into_one() -> None:
    channel = Channel()
    notifier = notifier_on(channel)
    running = asyncio.create_task(notifier.run(ignore))
    for partition in range(100):
        notifier.announce({partition % 8}, False)
    notifier.announce({3}, True)
    await asyncio.sleep(0.05)
    assert channel.said == [(set(range(8)), True)]
    notifier.announce({1}, False)
    await asyncio.sleep(0.05)
    assert channel.said[1:] == [({1}, False)]
    assert repr(notifier) == "<WorkNotifier 2 announced, 0 received>"
    running.cancel()


async def test_a_gateway_alone_neither_announces_nor_listens() -> None:
    channel, others = Channel(), Others()
    others.alone = True
    notifier = notifier_on(channel, others)
    running = asyncio.create_task(notifier.run(ignore))
    notifier.announce({1}, True)
    await asyncio.sleep(0.02)
    assert (channel.said, channel.listeners) == ([], [])
    others.alone = False
    await asyncio.sleep(0.02)
    assert len(channel.listeners) == 1
    running.cancel()


async def test_announcements_of_others_are_passed_on_also_after_an_outage() -> None:
    channel, received = Channel(), list[tuple[Collection[int], bool]]()

    def work_available(partitions: Collection[int], *, urgent: bool = False, route: str | None = None) -> None:
        received.append((partitions, urgent))

    notifier = notifier_on(channel)
    running = asyncio.create_task(notifier.run(work_available))
    await asyncio.sleep(0.01)
    channel.fails = StoreUnavailable("away")
    notifier.announce({1}, True)  # lost: a sweep finds it
    await asyncio.sleep(0.02)
    channel.fails = None
    await asyncio.sleep(0.05)
    assert len(channel.listeners) >= 2
    channel.listeners[-1]([1, 2], True)
    assert received == [([1, 2], True)]
    running.cancel()


async def test_a_gateway_is_alone_unless_another_one_has_a_fresh_heartbeat() -> None:
    registry = Registry(OwnerSeen(ME, 100_000, 0), OwnerSeen(LeaseOwner("dead", "1"), 1_000, 0))
    heartbeat = Heartbeat(registry, ME)
    await heartbeat.start()
    assert heartbeat.alone
    registry.seen.append(OwnerSeen(LeaseOwner("alive", "1"), 99_000, 0))
    await heartbeat.start()
    assert not heartbeat.alone
