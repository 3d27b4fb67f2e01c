"""Heartbeats, takeover of dead gateways, and the order of the time limits."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway.cluster import heartbeat as module
from gateway.cluster.heartbeat import SHARES_FREE_AFTER, STOP_WRITING, Heartbeat
from gateway.store.errors import NameTaken, StoreUnavailable
from gateway.store.library import script_sources
from gateway.store.owner import DEAD_AFTER, LeaseOwner
from gateway.store.requests import OwnerSeen, ReclaimResult
from tests.running_gateway import until

ME = LeaseOwner("here", "2")


class Registry:
    def __init__(self, *seen: OwnerSeen) -> None:
        self.seen = list(seen)
        self.reclaimed: list[str] = []
        self.beats = 0
        self.away = False

    async def beat(self, owner: LeaseOwner) -> None:
        if self.away:
            raise StoreUnavailable("away")
        self.beats += 1

    async def owners(self) -> list[OwnerSeen]:
        return self.seen

    async def reclaim(self, dead: LeaseOwner | str, by: LeaseOwner) -> ReclaimResult:
        assert isinstance(dead, LeaseOwner)
        self.reclaimed.append(dead.name)
        return ReclaimResult(1, 0, 0, False)


class Clocked(Registry):
    """A store with a clock (ms) that stamps; ``alive`` sends a heartbeat whenever the owners are read."""

    def __init__(self, *seen: OwnerSeen, alive: str = "") -> None:
        super().__init__(*seen)
        self.alive = alive
        self.offset = 100_000 - asyncio.get_running_loop().time() * 1000

    def now(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000 + self.offset)

    def stamp(self, owner: LeaseOwner) -> None:
        self.seen = [one for one in self.seen if one.owner != owner] + [OwnerSeen(owner, self.now(), 0)]

    async def beat(self, owner: LeaseOwner) -> None:
        await super().beat(owner)
        self.stamp(owner)

    async def owners(self) -> list[OwnerSeen]:
        if self.alive:
            self.stamp(LeaseOwner.parse(self.alive))
        return self.seen

    async def reclaim(self, dead: LeaseOwner | str, by: LeaseOwner) -> ReclaimResult:
        done = await super().reclaim(dead, by)
        self.seen = [one for one in self.seen if one.owner != dead]
        return done


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth of every time."""
    for name in (
        *("BEAT_EVERY", "STOP_WRITING", "SURELY_STOPPED", "DEAD_AFTER", "LOOK_EVERY"),
        *("WATCH_EVERY", "STALLED_AFTER"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name) / 100)


async def test_with_a_lock_a_restart_takes_back_the_former_leases_at_once() -> None:
    registry = Registry(
        OwnerSeen(LeaseOwner("here", "1"), 99_000, 3),
        OwnerSeen(LeaseOwner("there", "1"), 1_000, 2),
        OwnerSeen(ME, 100_000, 0),
    )
    await Heartbeat(registry, ME, sole=True).start()
    assert registry.reclaimed == ["here/1"]
    assert registry.beats == 1


async def test_a_former_process_long_dead_is_taken_over_at_once() -> None:
    registry = Registry(OwnerSeen(LeaseOwner("here", "1"), 89_000, 3), OwnerSeen(ME, 100_000, 0))
    await Heartbeat(registry, ME).start()
    assert registry.reclaimed == ["here/1"]
    assert registry.beats == 1


@pytest.mark.usefixtures("quick")
async def test_a_second_process_of_a_living_name_is_refused() -> None:
    registry = Clocked(alive="here/1")
    heartbeat = Heartbeat(registry, ME)
    with pytest.raises(NameTaken, match=r'name "here" is alive on this store \(start 1\).*node = '):
        await heartbeat.start()
    assert registry.reclaimed == ["here/2"]  # its own heartbeat; what the living one holds stays its own
    assert not heartbeat.fresh(asyncio.get_running_loop().time())


@pytest.mark.usefixtures("quick")
async def test_a_stalled_former_process_is_taken_over_once_it_surely_writes_no_more() -> None:
    registry = Clocked()
    registry.stamp(LeaseOwner("here", "1"))
    heartbeat = Heartbeat(registry, ME)
    await heartbeat.start()
    assert registry.reclaimed == []  # it may have been paused a moment ago, and go on writing before its next beat
    running = asyncio.create_task(heartbeat.run())
    await until(lambda: bool(registry.reclaimed), 5)
    running.cancel()
    assert registry.reclaimed == ["here/1"]


@pytest.mark.usefixtures("quick")
async def test_a_process_that_resumes_beside_a_living_successor_reclaims_nothing_and_stops() -> None:
    registry = Clocked()
    heartbeat = Heartbeat(registry, ME)
    await heartbeat.start()
    loop = asyncio.get_running_loop()
    heartbeat._last -= 1.0  # the pause
    registry.alive = "here/3"
    running = asyncio.create_task(heartbeat.run())
    await until(lambda: bool(heartbeat.successor), 5)
    beats = registry.beats
    await asyncio.sleep(0.2)
    assert heartbeat.successor == "3"
    assert not heartbeat.fresh(loop.time())
    assert (registry.beats, registry.reclaimed) == (beats, [])
    registry.alive = ""  # it dies as well: then there is no other
    await until(lambda: heartbeat.fresh(loop.time()), 5)
    running.cancel()


@pytest.mark.usefixtures("quick")
async def test_a_late_beat_of_a_gateway_without_a_successor_changes_nothing() -> None:
    registry = Clocked()
    heartbeat = Heartbeat(registry, ME)
    await heartbeat.start()
    heartbeat._last -= 1.0
    assert not await heartbeat._succeeded()


async def test_a_clean_end_takes_its_heartbeat_away_so_that_the_next_start_need_not_wait() -> None:
    registry = Clocked()
    heartbeat = Heartbeat(registry, ME)
    await heartbeat.start()
    await heartbeat.leave()
    await heartbeat.leave()
    assert registry.reclaimed == ["here/2"]
    assert not heartbeat.fresh(asyncio.get_running_loop().time())


async def test_leaving_before_the_first_heartbeat_does_nothing() -> None:
    registry = Clocked()
    await Heartbeat(registry, ME).leave()
    assert registry.reclaimed == []


async def test_dead_gateways_are_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_EVERY", 0.01)
    monkeypatch.setattr(module, "LOOK_EVERY", 0.02)
    registry = Registry(OwnerSeen(ME, 100_000, 0))
    heartbeat = Heartbeat(registry, ME)
    await heartbeat.start()
    running = asyncio.create_task(heartbeat.run())
    registry.seen += [OwnerSeen(LeaseOwner("alive", "1"), 91_000, 1), OwnerSeen(LeaseOwner("dead", "1"), 90_000, 1)]
    await asyncio.sleep(0.1)
    running.cancel()
    assert set(registry.reclaimed) == {"dead/1"}


async def test_setting_the_clock_makes_no_gateway_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour forward: until it beats anew the other seems to be an hour old."""
    registry = Registry(OwnerSeen(ME, 100_000, 0), OwnerSeen(LeaseOwner("there", "1"), 99_000, 1))
    heartbeat = Heartbeat(registry, ME)
    await heartbeat.start()
    registry.seen = [OwnerSeen(ME, 3_700_000, 0), OwnerSeen(LeaseOwner("there", "1"), 99_900, 1)]
    await heartbeat._look(only_ours=False)
    registry.seen = [OwnerSeen(ME, 3_702_000, 0), OwnerSeen(LeaseOwner("there", "1"), 3_701_000, 1)]
    await heartbeat._look(only_ours=False)
    assert registry.reclaimed == []


async def test_a_gateway_that_died_before_the_clock_was_set_back_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEAD_AFTER", 0.02)
    registry = Registry(OwnerSeen(ME, 100_000, 0), OwnerSeen(LeaseOwner("there", "1"), 3_700_000, 1))
    heartbeat = Heartbeat(registry, ME)
    await heartbeat.start()
    await asyncio.sleep(0.03)
    await heartbeat._look(only_ours=False)
    assert registry.reclaimed == ["there/1"]


async def test_without_a_heartbeat_nothing_may_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_EVERY", 0.01)
    monkeypatch.setattr(module, "RETRY_AFTER", 0.01)
    registry = Registry()
    heartbeat = Heartbeat(registry, ME)
    assert not heartbeat.fresh(0.0)
    await heartbeat.start()
    now = asyncio.get_running_loop().time()
    assert heartbeat.fresh(now)
    assert not heartbeat.fresh(now + STOP_WRITING)
    registry.away = True
    running = asyncio.create_task(heartbeat.run())
    await asyncio.sleep(0.05)
    assert not heartbeat.fresh(now + STOP_WRITING)
    registry.away = False
    await asyncio.sleep(0.05)
    assert heartbeat.fresh(now + STOP_WRITING)
    running.cancel()


async def test_a_beat_counts_from_before_it_was_sent_and_never_from_its_answer() -> None:
    """The store's clock stamps it in between, and others count from that."""
    loop = asyncio.get_running_loop()
    stamped: list[float] = []

    class Slow(Registry):
        async def beat(self, owner: LeaseOwner) -> None:
            stamped.append(loop.time())
            await asyncio.sleep(0.01)

    heartbeat = Heartbeat(Slow(), ME, sole=True)
    before = loop.time()
    await heartbeat.start()
    assert before <= loop.time() - heartbeat.age(loop.time()) + 1e-6
    assert heartbeat.age(stamped[0]) >= 0
    assert not heartbeat.fresh(stamped[0] + STOP_WRITING)


async def test_with_a_successor_the_heartbeat_is_never_fresh() -> None:
    heartbeat, now = Heartbeat(Registry(), ME, sole=True), asyncio.get_running_loop().time()
    await heartbeat.start()
    assert heartbeat.fresh(now)
    heartbeat.successor = "3"
    assert not heartbeat.fresh(now)


async def test_heartbeats_go_on_while_a_former_process_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALLED_AFTER", float("inf"))
    monkeypatch.setattr(module, "WATCH_EVERY", 0.0)

    class Waiting(Registry):
        """The former process sends one more heartbeat after three of ours: that ends the watch."""

        async def beat(self, owner: LeaseOwner) -> None:
            await super().beat(owner)
            if self.beats == 3:
                self.seen[0] = OwnerSeen(LeaseOwner("here", "1"), 99_500, 3)

    registry = Waiting(OwnerSeen(LeaseOwner("here", "1"), 99_000, 3), OwnerSeen(ME, 100_000, 0))
    async with asyncio.timeout(5):
        with pytest.raises(NameTaken):
            await Heartbeat(registry, ME).start()
    assert registry.beats == 3


@pytest.mark.usefixtures("quick")
async def test_a_former_process_not_surely_dead_is_checked_with_every_heartbeat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY", float("inf"))
    registry = Clocked()
    registry.stamp(LeaseOwner("here", "1"))
    heartbeat = Heartbeat(registry, ME)
    await heartbeat.start()
    running = asyncio.create_task(heartbeat.run())
    await until(lambda: bool(registry.reclaimed), 5)
    running.cancel()


@pytest.mark.usefixtures("quick")
async def test_a_successor_is_logged_once_and_its_end_once() -> None:
    registry = Clocked()
    heartbeat = Heartbeat(registry, ME)
    with capture_logs() as lines:
        await heartbeat.start()
        heartbeat._last -= 1.0
        registry.alive = "here/3"
        assert await heartbeat._succeeded()
        assert await heartbeat._succeeded()
        registry.seen, registry.alive = [one for one in registry.seen if one.owner == ME], ""
        assert not await heartbeat._succeeded()
    told = [(line["log_level"], line["node"], line.get("successor")) for line in lines]
    assert told == [("error", "here", "3"), ("warning", "here", None)]


@pytest.mark.parametrize(("unknown", "level"), [(1, "warning"), (0, "info")])
async def test_a_takeover_is_logged_with_its_counts(unknown: int, level: str) -> None:
    class Grave(Registry):
        async def reclaim(self, dead: LeaseOwner | str, by: LeaseOwner) -> ReclaimResult:
            return ReclaimResult(0, unknown, 0, False)

    registry = Grave(OwnerSeen(LeaseOwner("here", "1"), 89_000, 3), OwnerSeen(ME, 100_000, 0))
    with capture_logs() as lines:
        await Heartbeat(registry, ME, sole=True).start()
    ((said, dead),) = [(line["log_level"], line["dead"]) for line in lines]
    assert (said, dead) == (level, "here/1")


def test_a_silent_gateway_stops_before_its_shares_are_free_and_these_before_its_leases() -> None:
    assert STOP_WRITING < SHARES_FREE_AFTER < DEAD_AFTER
    assert f"local SILENT = {SHARES_FREE_AFTER * 1000:.0f}\n" in script_sources()[1]["share"]
