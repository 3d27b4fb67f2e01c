"""Whatever stands in the arguments of a function: an error reply has changed nothing.

The arguments are those of the models' random walks, cut short, stretched and garbled in every place.
"""

from __future__ import annotations

from typing import Any

from hypothesis.stateful import RuleBasedStateMachine

from gateway.store.crypto import Vault
from gateway.store.library import FUNCTIONS
from gateway.store.limits import LimitStore, ShareRequest
from gateway.store.owner import LeaseOwner
from gateway.store.webhook_queues import WebhookQueues
from tests.model.garbler import Garbler
from tests.model.machine import Machine
from tests.model.stroll import STEPS, stroll
from tests.model.walk import walk
from tests.model.world import PARTITIONS, World

VAULT = Vault({1: bytes(32)}, 1)
WRITING = {name for name, flag in FUNCTIONS.items() if flag != "no-writes"} - {"trim"}
"""… which nobody calls in the walks."""


def bound(world: World, machine: type[RuleBasedStateMachine]) -> Any:
    return type("Bound", (machine,), {"world": world})()


def garbling(url: str, seed: int) -> tuple[World, Garbler]:
    world = World(url)
    garbler = Garbler(world.link, WRITING, seed, 0.02)
    world.link = garbler  # type: ignore[assignment]  # it is one, for all that is called here
    world.store._link = garbler
    return world, garbler


def test_an_error_has_changed_nothing(store_url: str) -> None:
    world, garbler = garbling(store_url, 2)
    try:
        for seed in (1, 2):  # one of them calm
            walk(bound(world, Machine), seed, 150)
        for machine, steps in STEPS.items():
            stroll(bound(world, machine), steps, 1, 100)
        sharing = LimitStore(garbler, LeaseOwner("w0", "1"), PARTITIONS)  # type: ignore[arg-type]
        for held in (0.0, 3.0, 5.0):
            world.run(
                sharing.share(
                    [ShareRequest("carrier/north", 10, held, 9), ShareRequest("binds/north", 4, held, 2, 1, whole=True)]
                )
            )
        webhook_queues = WebhookQueues(garbler, world.hasher, VAULT, partitions=PARTITIONS, keep=1)  # type: ignore[arg-type]
        for _ in range(20):  # nearly every name is a good one
            world.run(webhook_queues.follow(["shop", "bank"]))
            world.run(webhook_queues.want_all(["shop", "bank"]))
            world.run(world.store.cancel_account("shop"))
    finally:
        world.close()
    assert set(garbler.refused) >= WRITING, "functions that were never called wrongly"
