from __future__ import annotations

import asyncio

import pytest

from gateway.pipeline import heart as module
from gateway.pipeline.heart import STOP_WRITING, Heart
from gateway.store.errors import StoreUnavailable
from gateway.store.owner import Owner
from gateway.store.requests import OwnerSeen, Reclaimed

ME = Owner("here", "2")


class Registry:
    def __init__(self, *seen: OwnerSeen) -> None:
        self.seen = list(seen)
        self.reclaimed: list[str] = []
        self.beats = 0
        self.away = False

    async def beat(self, owner: Owner) -> None:
        if self.away:
            raise StoreUnavailable("away")
        self.beats += 1

    async def owners(self) -> list[OwnerSeen]:
        return self.seen

    async def reclaim(self, dead: Owner | str, by: Owner) -> Reclaimed:
        assert isinstance(dead, Owner)
        self.reclaimed.append(dead.name)
        return Reclaimed(1, 0, 0, False)


async def test_a_restart_takes_back_what_the_former_self_held_and_nothing_else() -> None:
    registry = Registry(
        OwnerSeen(Owner("here", "1"), 99_000, 3), OwnerSeen(Owner("there", "1"), 1_000, 2), OwnerSeen(ME, 100_000, 0)
    )
    await Heart(registry, ME).start()
    assert registry.reclaimed == ["here/1"]


async def test_the_living_look_for_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_EVERY", 0.01)
    monkeypatch.setattr(module, "LOOK_EVERY", 0.02)
    registry = Registry(OwnerSeen(ME, 100_000, 0))
    heart = Heart(registry, ME)
    await heart.start()
    running = asyncio.create_task(heart.run())
    registry.seen += [OwnerSeen(Owner("alive", "1"), 91_000, 1), OwnerSeen(Owner("dead", "1"), 90_000, 1)]
    await asyncio.sleep(0.1)
    running.cancel()
    assert set(registry.reclaimed) == {"dead/1"}


async def test_a_clock_that_is_set_makes_nobody_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour forward: until it beats anew the other seems to be an hour old."""
    registry = Registry(OwnerSeen(ME, 100_000, 0), OwnerSeen(Owner("there", "1"), 99_000, 1))
    heart = Heart(registry, ME)
    await heart.start()
    registry.seen = [OwnerSeen(ME, 3_700_000, 0), OwnerSeen(Owner("there", "1"), 99_900, 1)]
    await heart._look(only_ours=False)
    registry.seen = [OwnerSeen(ME, 3_702_000, 0), OwnerSeen(Owner("there", "1"), 3_701_000, 1)]
    await heart._look(only_ours=False)
    assert registry.reclaimed == []


async def test_who_died_before_the_clock_was_set_back_is_dead_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEAD_AFTER", 0.02)
    registry = Registry(OwnerSeen(ME, 100_000, 0), OwnerSeen(Owner("there", "1"), 3_700_000, 1))
    heart = Heart(registry, ME)
    await heart.start()
    await asyncio.sleep(0.03)
    await heart._look(only_ours=False)
    assert registry.reclaimed == ["there/1"]


async def test_without_a_heartbeat_nothing_may_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_EVERY", 0.01)
    registry = Registry()
    heart = Heart(registry, ME)
    assert not heart.fresh(0.0)
    await heart.start()
    now = asyncio.get_running_loop().time()
    assert heart.fresh(now)
    assert not heart.fresh(now + STOP_WRITING)
    registry.away = True
    running = asyncio.create_task(heart.run())
    await asyncio.sleep(0.05)
    assert not heart.fresh(now + STOP_WRITING)
    registry.away = False
    await asyncio.sleep(0.05)
    assert heart.fresh(now + STOP_WRITING)
    running.cancel()
