"""Shares of a limit on a real server: stories first, then members at random, who together never use more than it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.store.limits import LimitStore, ShareGrant, ShareRequest
from gateway.store.owner import LeaseOwner
from tests.model.store_driver import PARTITIONS, START, StoreDriver
from tests.servers import Server

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
NAME = "account/shop"
FRESH = 8_000
"""ms since its own last heartbeat after which a member uses nothing (``cluster.heartbeat.STOP_WRITING``)."""


@pytest.fixture(scope="module")
def shared_driver(single_server: Server) -> Iterator[StoreDriver]:
    single_server.flush()
    driver = StoreDriver(single_server.url)
    yield driver
    driver.close()


@pytest.fixture
def driver(shared_driver: StoreDriver) -> StoreDriver:
    shared_driver.reset()
    return shared_driver


class Member:
    """A gateway as the store knows it: it beats, asks, and does what the answers say."""

    def __init__(self, driver: StoreDriver, node: str, start: str = "1") -> None:
        self.driver = driver
        self.owner = LeaseOwner(node, start)
        self.sharing = LimitStore(driver.link, self.owner, PARTITIONS)
        self.held: dict[str, float] = {}
        self.beat()

    def beat(self) -> None:
        self.driver.run(self.driver.store.beat(self.owner))

    def ask(
        self, wanted: float, limit: float = 1000.0, name: str = NAME, *, whole: bool = False, up: int = 0
    ) -> ShareGrant:
        """One call, its answer obeyed."""
        held = self.held.get(name, 0.0)
        (granted,) = self.driver.run(self.sharing.share([ShareRequest(name, limit, held, wanted, up, whole)]))
        self.held[name] = granted.share
        return granted

    def settle(self, wanted: float, limit: float = 1000.0, name: str = NAME, *, whole: bool = False) -> float:
        """As the keeper does: what is lowered is confirmed at once."""
        before = self.held.get(name, 0.0)
        if self.ask(wanted, limit, name, whole=whole).share < before:
            self.ask(wanted, limit, name, whole=whole)
        return self.held[name]


def settled(members: Sequence[Member], wanted: Sequence[float], **more: float | bool | str) -> list[float]:
    for _ in range(3):
        for member, want in zip(members, wanted, strict=True):
            member.settle(want, **more)  # type: ignore[arg-type]
    return [member.held[str(more.get("name", NAME))] for member in members]


def test_a_single_member_gets_the_whole_limit_at_once(driver: StoreDriver) -> None:
    assert Member(driver, "a").ask(0.0) == ShareGrant(1000.0, 1000.0, 1)


def test_a_new_member_gets_its_share_when_the_others_have_lowered_their_use(driver: StoreDriver) -> None:
    one, two = Member(driver, "a"), Member(driver, "b")
    one.ask(1000.0)
    assert two.ask(1000.0) == ShareGrant(0.0, 500.0, 2, 500)
    assert one.ask(1000.0).share == 500.0
    assert two.ask(1000.0).share == 0.0, "the other may still use what it has to give up"
    assert one.ask(1000.0).share == 500.0
    assert two.ask(1000.0).share == 500.0


def test_what_a_member_does_not_want_goes_to_the_others(driver: StoreDriver) -> None:
    members = [Member(driver, node) for node in "abc"]
    assert settled(members, [100.0, 5000.0, 5000.0]) == pytest.approx([100.0, 450.0, 450.0])
    assert settled(members, [100.0, 200.0, 0.0]) == pytest.approx([450.0, 550.0, 0.0])
    assert settled(members, [0.0, 0.0, 0.0]) == pytest.approx([1000 / 3] * 3)


def test_whole_numbers_stay_whole(driver: StoreDriver) -> None:
    members = [Member(driver, node) for node in "abc"]
    held = settled(members, [4.0] * 3, limit=4.0, whole=True)
    assert sorted(held) == [1.0, 1.0, 2.0]
    assert sum(settled(members, [1.0] * 3, limit=1.0, whole=True)) == 1.0


def test_many_resources_of_one_each_are_spread(driver: StoreDriver) -> None:
    one, two = Member(driver, "a"), Member(driver, "b")
    names = [f"binds/carrier{number}" for number in range(24)]
    held = [settled([one, two], [1.0, 1.0], limit=1.0, whole=True, name=name) for name in names]
    assert all(sorted(pair) == [0.0, 1.0] for pair in held)
    assert 4 <= sum(first for first, _ in held) <= 20


def test_a_dead_members_share_is_free_nine_seconds_after_its_last_beat(driver: StoreDriver) -> None:
    one, two = Member(driver, "a"), Member(driver, "b")
    settled([one, two], [1000.0, 1000.0])
    driver.set_clock(START + 8_999)
    two.beat()
    assert two.ask(1000.0).share == 500.0
    driver.set_clock(START + 9_000)
    assert two.ask(1000.0) == ShareGrant(1000.0, 1000.0, 1)


def test_the_next_start_of_a_node_takes_the_formers_place_at_once(driver: StoreDriver) -> None:
    one, two = Member(driver, "a"), Member(driver, "b")
    settled([one, two], [1000.0, 1000.0])
    again = Member(driver, "a", "2")
    assert again.ask(1000.0).share == 500.0
    lone = Member(driver, "c")
    lone.ask(1.0, name="other")
    assert Member(driver, "c", "2").ask(1.0, name="other") == ShareGrant(1000.0, 1000.0, 1)


def test_a_member_that_leaves_gives_its_share_back_at_once(driver: StoreDriver) -> None:
    one, two = Member(driver, "a"), Member(driver, "b")
    settled([one, two], [1000.0, 1000.0])
    assert one.ask(0.0, limit=0.0).share == 0.0
    assert two.ask(1000.0) == ShareGrant(1000.0, 1000.0, 1)


def test_a_lower_limit_holds_as_soon_as_one_member_knows_it(driver: StoreDriver) -> None:
    one, two = Member(driver, "a"), Member(driver, "b")
    settled([one, two], [1000.0, 1000.0])
    one.held[NAME] = 50.0  # it lowers its own use with the limit
    assert one.ask(1000.0, limit=100.0).share == 50.0
    assert two.settle(1000.0, limit=1000.0) == 50.0
    assert one.ask(1000.0, limit=1000.0).share == 500.0, "all know the higher one again"


def test_a_call_that_comes_late_or_twice_changes_nothing(driver: StoreDriver) -> None:
    one, two = Member(driver, "a"), Member(driver, "b")
    one.ask(1000.0)
    one.sharing._round = 0  # the same call once more
    one.held[NAME] = 0.0
    assert one.ask(1000.0).share == 0.0, "what was granted then is not granted again"
    assert two.ask(1000.0).share == 0.0, "and is still held"


def test_a_grant_has_the_sum_of_the_others_binds(driver: StoreDriver) -> None:
    one, two = Member(driver, "a"), Member(driver, "b")
    one.ask(2.0, 2.0, "binds/north", whole=True, up=2)
    granted = two.ask(2.0, 2.0, "binds/north", whole=True)
    assert (granted.up, granted.before, granted.target) == (2, 1, 1.0)


def test_many_resources_in_one_call_come_back_in_order(driver: StoreDriver) -> None:
    member = Member(driver, "a")
    asks = [ShareRequest(f"account/{number}", 1.0 + number, 0.0, 1.0) for number in range(600)]
    assert [granted.share for granted in driver.run(member.sharing.share(asks))] == [1.0 + n for n in range(600)]


# ---- fair: the targets against the plainest way to say what max-min is


def max_min(wants: Sequence[float], limit: float) -> list[float]:
    """Raise all shares together; a member that has what it wants stops; the rest goes to all that want anything."""
    got, open_ = [0.0] * len(wants), [n for n, want in enumerate(wants) if want > 0]
    left = limit
    while open_ and left > 1e-9:
        step = min(left / len(open_), *(wants[n] - got[n] for n in open_))
        for n in open_:
            got[n] += step
        left -= step * len(open_)
        open_ = [n for n in open_ if wants[n] - got[n] > 1e-9]
    some = [n for n, want in enumerate(wants) if want > 0] or range(len(wants))
    return [part + (left / len(some) if n in some else 0.0) for n, part in enumerate(got)]


@given(st.lists(st.floats(0, 3000).map(lambda want: round(want, 1)), min_size=1, max_size=6), st.floats(1, 2000))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_targets_are_max_min_fair(driver: StoreDriver, wants: list[float], limit: float) -> None:
    driver.reset()
    members = [Member(driver, f"n{number}") for number in range(len(wants))]
    assert settled(members, wants, limit=limit) == pytest.approx(max_min(wants, limit), abs=1e-5)


# ---- at random


class Walker(Member):
    """A member that may lapse, whose answers wait before they are obeyed or get lost, and whose calls may come late."""

    def __init__(self, driver: StoreDriver, node: str, start: int) -> None:
        self.limits = {"rate": 100.0, "binds": 5.0}
        self.answer: tuple[str, ShareGrant, float] | None = None
        self.sent: list[tuple[int, ShareRequest]] = []
        self.last = driver.now
        super().__init__(driver, node, str(start))

    def beat(self, *, heard: bool = True) -> None:
        if heard and not self.fresh:
            self.held, self.answer = {}, None
        super().beat()
        if heard:
            self.last = self.driver.now

    @property
    def fresh(self) -> bool:
        return self.driver.now - self.last < FRESH

    def used(self, name: str) -> float:
        return self.held.get(name, 0.0) if self.fresh else 0.0

    def say(self, name: str, wanted: float) -> None:
        """A call; its answer is obeyed when ``hear`` comes. That of the one before is lost, if it was not heard."""
        if self.fresh:
            limit = self.limits[name]
            ask = ShareRequest(name, limit, self.held.get(name, 0.0), min(wanted, limit), 0, name == "binds")
            (granted,) = self.driver.run(self.sharing.share([ask]))
            self.answer = name, granted, limit
            self.sent.append((self.sharing._round, ask))

    def hear(self) -> None:
        if self.fresh and self.answer is not None:
            name, granted, limit = self.answer
            self.held[name] = granted.share * min(1.0, self.limits[name] / limit)
            self.answer = None

    def say_late(self, ask: tuple[int, ShareRequest]) -> None:
        """A call of an earlier round arrives only now; its reply is not awaited any more."""
        latest, self.sharing._round = self.sharing._round, ask[0] - 1
        self.driver.run(self.sharing.share([ask[1]]))
        self.sharing._round = latest

    def leave(self, name: str) -> None:
        if self.fresh:
            self.answer = None
            self.held.pop(name, None)
            self.driver.run(self.sharing.share([ShareRequest(name, 0.0, 0.0, 0.0)]))

    def set_rate(self, limit: float) -> None:
        if "rate" in self.held:
            self.held["rate"] *= min(1.0, limit / self.limits["rate"])
        self.limits["rate"] = limit


class Walk:
    """Three nodes at random. After every step: what they use together is within the limit."""

    def __init__(self, driver: StoreDriver, seed: int) -> None:
        self.driver = driver
        self.random = Random(seed)
        self.starts = 0
        self.alive: dict[str, Walker] = {}
        driver.reset()

    def start(self, node: str) -> None:
        """A first start, or a later incarnation of one that died (or is still here: then it is killed)."""
        self.starts += 1
        self.alive[node] = Walker(self.driver, node, self.starts)

    def step(self) -> None:
        random, node = self.random, self.random.choice("abc")
        member, name = self.alive.get(node), random.choice(["rate", "rate", "binds"])
        if member is None:
            return self.start(node) if random.random() < 0.3 else None
        wanted, seconds = random.choice([0.0, 1.0, 30.0, 70.0, 1000.0]), random.choice([0.1, 1.0, 2.0, 7.5])
        kinds: dict[Callable[[], None], int] = {
            lambda: member.say(name, wanted): 30,
            member.hear: 30,
            member.beat: 16,
            lambda: self.driver.set_clock(self.driver.now + int(1000 * seconds)): 12,
            lambda: member.beat(heard=False): 3,
            lambda: member.say_late(random.choice(member.sent[-4:])) if member.sent else None: 6,
            lambda: member.leave(name): 2,
            lambda: member.set_rate(random.choice([10.0, 60.0, 100.0, 150.0])): 2,
            lambda: self.start(node): 1,
            lambda: self.alive.pop(node) and None: 1,
        }
        random.choices(list(kinds), list(kinds.values()))[0]()

    def check(self) -> None:
        members = self.alive.values()
        for name in ("rate", "binds"):
            limit = max((member.limits[name] for member in members), default=0.0)
            used = {member.owner.name: member.used(name) for member in members}
            assert sum(used.values()) <= limit + 1e-6, f"{name}: {used} of {limit}"


@pytest.mark.parametrize("seed", range(200 if THOROUGH else 4))
def test_members_at_random_never_use_more_than_the_limit(driver: StoreDriver, seed: int) -> None:
    walk = Walk(driver, seed)
    for _ in range(1200):
        walk.step()
        walk.check()
