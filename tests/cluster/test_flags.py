"""Flags shared by gateways: one store of flags, two gateways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.cluster.flags import SharedFlags
from gateway.model import Reason
from gateway.store.keys import EPOCH, RESTORED, breaker, pulled
from tests.intake.fakes import policy_context


class FlagStore:
    """What all workers share."""

    def __init__(self) -> None:
        self.values: dict[bytes, int] = {}
        self.released: list[bytes | Reason] = []

    async def flag(self, name: bytes, value: int) -> None:
        self.values[name] = value
        if not value:
            del self.values[name]

    async def flags(self) -> dict[bytes, int]:
        return dict(self.values)

    async def release(self, ids: Sequence[bytes] = (), scope: bytes = b"", reason: Reason = Reason.NONE) -> int:
        self.released.append(scope or reason)
        return 7


class Worker:
    """One gateway's flags and policy context."""

    def __init__(self, store: FlagStore) -> None:
        self.policy_context = policy_context()
        self.modes: Mapping[str, int] = {}
        self.flags = SharedFlags(store, self.policy_context, self._hear)

    def _hear(self, modes: Mapping[str, int]) -> None:
        self.modes = modes


SCOPE = b"account-"


async def test_a_breaker_is_learnt_by_others_and_released_by_all_when_it_closes() -> None:
    store = FlagStore()
    here, there = Worker(store), Worker(store)
    await here.flags.open_breaker(SCOPE, 1234)
    assert here.policy_context.rules.held == {SCOPE}
    assert there.policy_context.rules.held == frozenset()
    await there.flags.refresh()
    assert (there.policy_context.rules.held, there.flags.open) == ({SCOPE}, {SCOPE: 1234})
    assert await here.flags.close_breaker(SCOPE) == 7
    assert store.released == [SCOPE]
    await there.flags.refresh()  # it may have held more in the meantime
    assert store.released == [SCOPE, SCOPE]
    assert here.policy_context.rules.held == there.policy_context.rules.held == frozenset()
    await there.flags.refresh()
    assert len(store.released) == 2


async def test_a_restored_store_is_learnt_by_all_and_its_messages_are_released_by_all() -> None:
    store = FlagStore()
    store.values[RESTORED] = 1234
    here, there = Worker(store), Worker(store)
    await here.flags.start()
    await there.flags.start()
    assert (here.flags.restored, here.policy_context.rules.restored) == (1234, 1234)
    assert await here.flags.release_restored() == 7
    assert (here.flags.restored, here.policy_context.rules.restored) == (0, 0)
    assert (store.values.get(RESTORED), store.released) == (None, [Reason.RESTORED])
    await there.flags.refresh()  # it may have held more in the meantime
    assert (there.policy_context.rules.restored, store.released) == (0, [Reason.RESTORED] * 2)
    await there.flags.refresh()
    assert len(store.released) == 2


async def test_pulled_templates_and_foreign_flags() -> None:
    store, worker = FlagStore(), None
    worker = Worker(store)
    store.values = {pulled(SCOPE): 1, b"b": 1, b"butter": 1, breaker(SCOPE): 5, b"later": 9}
    await worker.flags.refresh()
    assert (worker.policy_context.rules.held, worker.policy_context.rules.pulled) == ({SCOPE}, {SCOPE})


async def test_other_rules_begin_a_new_epoch_once() -> None:
    store = FlagStore()
    worker = Worker(store)
    await worker.flags.start()
    assert store.values.get(EPOCH, 0) == 0
    from dataclasses import replace

    worker.policy_context.rules = replace(worker.policy_context.rules, version="another")
    await worker.flags.start()
    await worker.flags.start()
    assert (store.values[EPOCH], worker.policy_context.rules.epoch) == (1, 1)
    other = Worker(store)
    await other.flags.refresh()
    assert other.policy_context.rules.epoch == 1


async def test_the_rulebook_stays_the_same_object_while_nothing_changes() -> None:
    worker = Worker(FlagStore())
    await worker.flags.start()
    rules = worker.policy_context.rules
    await worker.flags.refresh()
    assert worker.policy_context.rules is rules


async def test_all_carrier_modes_are_passed_on() -> None:
    store = FlagStore()
    here, there = Worker(store), Worker(store)
    await here.flags.set_carrier("north", 2)
    await there.flags.refresh()
    assert here.modes == there.modes == {"north": 2}
    await there.flags.set_carrier("north", 0)
    assert there.modes == {}
