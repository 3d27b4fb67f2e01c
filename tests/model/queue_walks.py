"""Dense random walks, as ``walk``, of webhook queues, idempotency claims and the id index."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine

from gateway.store.webhook_queues import BatchOutcome
from tests.model.claims_machine import ClaimsMachine
from tests.model.index_machine import DATES, IndexMachine
from tests.model.store_driver import PARTITIONS
from tests.model.values import ACCOUNTS, CARRIERS, FINAL_PARTS, HOUR, MINUTE
from tests.model.webhooks_machine import WebhooksMachine

Steps = dict[Callable[[Any, Random], Any], int]

BECAME = (BatchOutcome.UNKNOWN, BatchOutcome.TAKEN, BatchOutcome.TAKEN, BatchOutcome.GIVEN_UP)

WEBHOOKS: Steps = {
    lambda m, r: m.happen(r.choice(ACCOUNTS), r.randrange(1, 5)): 20,
    lambda m, r: m.follow(r.sample(ACCOUNTS, r.randrange(2))): 4,
    lambda m, r: m.unfollow(): 2,
    lambda m, r: m.read(r.randrange(2)): 20,
    lambda m, r: m.move(r.randrange(5), r.randrange(2**32)) if m.tails else None: 20,
    lambda m, r: m.leave(r.randrange(2)): 3,
    lambda m, r: m.restart(r.randrange(2)): 2,
    lambda m, r: m.next(
        r.randrange(PARTITIONS), r.choice(ACCOUNTS), r.choice(BECAME), r.choice([1, 3, 100]), r.random() < 0.2, _even(r)
    ): 25,
    lambda m, r: m.bury(r.randrange(PARTITIONS), r.choice(ACCOUNTS), _even(r)): 5,
    lambda m, r: m.advance(r.choice([1, MINUTE, 25 * HOUR])): 4,
}
CLAIMS: Steps = {
    lambda m, r: m.claim(r.randrange(3), r.choice("ab"), r.choice([b"1", b"1", b"2"]) * 16): 20,
    lambda m, r: m.settle(r.randrange(3), r.randrange(4), _even(r)) if m.runs else None: 10,
    lambda m, r: m.beat(r.randrange(3)): 5,
    lambda m, r: m.restart(r.randrange(3)): 2,
    lambda m, r: m.advance(r.choice([1, 2_000, 10_000, HOUR, 23 * HOUR])): 5,
}
INDEX: Steps = {
    lambda m, r: m.bring(r.choice(CARRIERS), _names(r, 3)): 10,
    lambda m, r: m.locate(r.choice(CARRIERS), _names(r, 2), r.choice(FINAL_PARTS), r.choice(DATES)): 20,
    lambda m, r: m.stored(r.choice(CARRIERS), b"%d" % r.randrange(6)): 10,
    lambda m, r: m.relocate(): 8,
    lambda m, r: m.advance(r.choice([1, MINUTE, HOUR, 26 * HOUR])): 8,
}
STEPS: dict[type[RuleBasedStateMachine], Steps] = {
    WebhooksMachine: WEBHOOKS,
    ClaimsMachine: CLAIMS,
    IndexMachine: INDEX,
}


def _even(r: Random) -> bool:
    return r.random() < 0.5


def _names(r: Random, most: int) -> list[bytes]:
    return [b"%d" % number for number in r.sample(range(6), r.randrange(1, most + 1))]


def walk_machine(machine: RuleBasedStateMachine, steps: Steps, seed: int, count: int) -> None:
    """One walk from an empty store, what must hold checked after each step."""
    r = Random(seed)
    machine.begin()  # type: ignore[attr-defined]  # each of them has one
    for done, step in enumerate(r.choices(list(steps), list(steps.values()), k=count)):
        try:
            step(machine, r)
            for holds in machine.invariants:
                holds.function(machine)
        except AssertionError as error:
            raise AssertionError(f"walk {seed}, step {done}: {error}") from error
