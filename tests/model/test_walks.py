"""Dense random walks of the messages' model against the real store, on one server and on a cluster of three.

The ordinary profile always takes the same ones. ``HYPOTHESIS_PROFILE=thorough MODEL_SEED=7`` takes hundreds of new
ones, whose seeds begin at a million times the number.
"""

from __future__ import annotations

import os

import pytest
from hypothesis.stateful import RuleBasedStateMachine

from tests.model.machine import Machine
from tests.model.queue_walks import STEPS, walk_machine
from tests.model.store_driver import StoreDriver
from tests.model.walk import walk

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
FIRST = int(os.environ.get("MODEL_SEED", "0")) * 1_000_000


def take(url: str, seed: int, steps: int) -> None:
    driver = StoreDriver(url)
    try:
        walk(type("Bound", (Machine,), {"driver": driver})(), seed, steps)
    finally:
        driver.close()


@pytest.mark.parametrize("seed", range(FIRST, FIRST + (300 if THOROUGH else 7)))
def test_a_walk_on_one_server(store_url: str, seed: int) -> None:
    take(store_url, seed, 600 if THOROUGH else 300)


@pytest.mark.parametrize("seed", range(FIRST + 1000, FIRST + (1100 if THOROUGH else 1003)))
def test_a_walk_on_a_cluster_of_three(cluster_url: str, seed: int) -> None:
    take(cluster_url, seed, 600 if THOROUGH else 200)


@pytest.mark.parametrize("machine", STEPS)
def test_walks_of_queues_claims_and_the_index(store_url: str, machine: type[RuleBasedStateMachine]) -> None:
    driver = StoreDriver(store_url)
    try:
        for seed in range(FIRST, FIRST + (300 if THOROUGH else 3)):
            walk_machine(
                type("Bound", (machine,), {"driver": driver})(), STEPS[machine], seed, 500 if THOROUGH else 250
            )
    finally:
        driver.close()
