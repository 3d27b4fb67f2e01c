from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.cluster import limits as module
from gateway.cluster.heartbeat import Heartbeat
from gateway.cluster.limits import LimitCoordinator
from gateway.store.errors import StoreUnavailable
from gateway.store.limits import ShareGrant, ShareRequest
from gateway.store.owner import LeaseOwner
from tests.cluster.test_heartbeat import Registry

ME = LeaseOwner("here", "1")


class Limited:
    """A rate that records what it was granted."""

    def __init__(self, name: str, limit: float = 100.0) -> None:
        self.name = name
        self.limit = limit
        self.held = limit
        self.share_known = False
        self.wanted = limit

    def ask(self, now: float) -> ShareRequest:
        return ShareRequest(self.name, self.limit, self.held, self.wanted)

    def grant(self, granted: ShareGrant, request: ShareRequest, now: float) -> None:
        self.held, self.share_known = granted.share, True

    def close(self, now: float) -> None:
        self.held, self.share_known = 0.0, True


class FakeLimitStore:
    """A store that answers with ``share`` and ``target`` of a resource; ``said``: the calls, name -> (limit, held)."""

    def __init__(self) -> None:
        self.said: list[dict[str, tuple[float, float]]] = []
        self.share_of: dict[str, float] = {}
        self.target = 100.0
        self.away = False
        self.meanwhile = lambda: None

    async def share(self, asks: Sequence[ShareRequest]) -> list[ShareGrant]:
        self.said.append({ask.name: (ask.limit, ask.held) for ask in asks})
        if self.away:
            raise StoreUnavailable("away")
        self.meanwhile()
        return [ShareGrant(self.share_of.get(ask.name, ask.limit), self.target, 2) for ask in asks]


async def coordinator(store: FakeLimitStore, *shared: Limited) -> tuple[LimitCoordinator, Heartbeat]:
    heartbeat = Heartbeat(Registry(), ME)
    built = LimitCoordinator(store, heartbeat, lambda: shared)
    await heartbeat.start()
    return built, heartbeat


async def test_a_start_begins_with_nothing_and_has_all_that_is_free_at_once() -> None:
    store, rate = FakeLimitStore(), Limited("rate")
    built, _ = await coordinator(store, rate)
    assert rate.held == 0.0, "the heart beats, the store has not spoken"
    await built.start()
    assert (rate.held, store.said) == (100.0, [{"rate": (100.0, 0.0)}])
    assert (built.waiting, built.members) == (False, 2)


async def test_a_start_waits_a_moment_for_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROMPT", 0.005)
    store, rate = FakeLimitStore(), Limited("rate")
    built, _ = await coordinator(store, rate)
    store.share_of["rate"], store.target = 0.0, 50.0

    def after_three() -> None:
        if len(store.said) == 3:
            store.share_of["rate"] = 50.0

    store.meanwhile = after_three
    await built.start()
    assert (len(store.said), rate.held) == (3, 50.0)


async def test_a_start_without_its_share_goes_on_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROMPT", 0.005)
    monkeypatch.setattr(module, "SETTLE", 0.03)
    store = FakeLimitStore()
    built, _ = await coordinator(store, Limited("rate"))
    store.share_of["rate"] = 0.0
    await built.start()
    assert built.waiting
    assert repr(built) == "<LimitCoordinator of 1 shares, 2 gateways, waiting for others>"


async def test_a_lowered_share_is_applied_and_reported_at_once() -> None:
    store, one, two = FakeLimitStore(), Limited("one"), Limited("two")
    built, _ = await coordinator(store, one, two)
    await built.start()
    store.said.clear()
    store.share_of["two"] = 30.0
    await built._round()
    assert store.said == [{"one": (100.0, 100.0), "two": (100.0, 100.0)}, {"two": (100.0, 30.0)}]
    assert (one.held, two.held) == (100.0, 30.0)


async def test_a_short_pause_keeps_the_share() -> None:
    """Eight seconds without a heartbeat and nothing is written; nine, and others may have what was ours."""
    store, rate = FakeLimitStore(), Limited("rate")
    built, heartbeat = await coordinator(store, rate)
    await built.start()
    heartbeat._last -= 8.5
    await heartbeat._beat()
    assert rate.held == 100.0
    heartbeat._last -= 9.0
    await heartbeat._beat()
    assert rate.held == 0.0


async def test_after_a_lapse_shares_are_requested_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 3600.0)
    store, rate = FakeLimitStore(), Limited("rate")
    built, heartbeat = await coordinator(store, rate)
    await built.start()
    running = asyncio.create_task(built.run())
    await asyncio.sleep(0.01)
    heartbeat._last -= 9.0
    await heartbeat._beat()
    async with asyncio.timeout(5):
        while not rate.held:  # noqa: ASYNC110 - no bell rings
            await asyncio.sleep(0.001)
    running.cancel()


async def test_after_a_lapse_nothing_is_used_until_the_next_grant() -> None:
    store, rate = FakeLimitStore(), Limited("rate")
    built, heartbeat = await coordinator(store, rate)
    await built.start()
    heartbeat._last -= 9.0
    await built._round()
    assert len(store.said) == 1, "who does not beat asks for nothing"
    await heartbeat._beat()
    assert rate.held == 0.0
    await built._round()
    assert (rate.held, store.said[-1]) == (100.0, {"rate": (100.0, 0.0)})


async def test_a_grant_from_before_a_lapse_is_not_applied() -> None:
    store, rate = FakeLimitStore(), Limited("rate")
    built, _ = await coordinator(store, rate)
    await built.start()
    store.meanwhile = built.close
    await built._round()
    assert rate.held == 0.0


async def test_a_new_limit_waits_for_its_share_and_a_removed_one_is_given_back() -> None:
    store, shared = FakeLimitStore(), [Limited("one")]
    heartbeat = Heartbeat(Registry(), ME)
    built = LimitCoordinator(store, heartbeat, lambda: shared)
    await heartbeat.start()
    await built.start()
    running = asyncio.create_task(built.run())
    shared[0] = Limited("two")
    built.changed()
    assert shared[0].held == 0.0
    async with asyncio.timeout(5):
        while shared[0].held == 0.0:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    running.cancel()
    assert store.said[-1] == {"two": (100.0, 0.0), "one": (0.0, 0.0)}
    await built.leave()
    assert store.said[-1] == {"two": (0.0, 0.0)}


async def test_requests_go_on_after_an_outage_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 0.005)
    store, rate = FakeLimitStore(), Limited("rate")
    built, _ = await coordinator(store, rate)
    await built.start()
    running = asyncio.create_task(built.run())
    store.away = True
    await asyncio.sleep(0.05)
    assert rate.held == 100.0, "as long as the heart beats it is ours"
    store.away = False
    store.share_of["rate"] = 70.0
    async with asyncio.timeout(5):
        while rate.held != 70.0:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    running.cancel()
    store.away = True
    await built.leave()


async def test_of_many_shares_unchanged_ones_are_requested_in_every_third_round() -> None:
    store, shared = FakeLimitStore(), [Limited(f"rate{number}") for number in range(100)]
    built, _ = await coordinator(store, *shared)
    await built.start()
    for busy in (shared[3], shared[3], shared[5], shared[5], shared[5]):
        busy.wanted -= 1.0
        await built._round()
    assert [len(said) for said in store.said] == [100, 100, 100, 1, 1, 100]
    assert ["rate5" in said for said in store.said[3:5]] == [True, True]
