"""The reference model against the real store, on one server and on a cluster of three.

The ordinary profile always does the same and is bounded for CI; ``HYPOTHESIS_PROFILE=thorough`` goes new ways for half
an hour.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import Machine
from tests.model.walk import walk
from tests.model.world import World

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"


def bound(world: World) -> type[Machine]:
    """The machine in this world."""
    return type("Bound", (Machine,), {"world": world})


def run(url: str, examples: int, steps: int) -> None:
    world = World(url)
    try:
        run_state_machine_as_test(
            bound(world),
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                derandomize=not THOROUGH,
                suppress_health_check=list(HealthCheck),
                print_blob=True,
                report_multiple_bugs=False,
            ),
        )
    finally:
        world.close()


def stroll(url: str, seed: int, steps: int) -> None:
    world = World(url)
    try:
        walk(bound(world)(), seed, steps)
    finally:
        world.close()


@pytest.mark.parametrize("seed", range(300 if THOROUGH else 8))
def test_a_walk_on_one_server(store_url: str, seed: int) -> None:
    stroll(store_url, seed, 600 if THOROUGH else 300)


@pytest.mark.parametrize("seed", range(1000, 1100 if THOROUGH else 1003))
def test_a_walk_on_a_cluster_of_three(cluster_url: str, seed: int) -> None:
    stroll(cluster_url, seed, 600 if THOROUGH else 200)


def test_one_server_does_what_the_model_says(store_url: str) -> None:
    run(store_url, *((2000, 80) if THOROUGH else (80, 40)))


def test_a_cluster_of_three_does_what_the_model_says(cluster_url: str) -> None:
    run(cluster_url, *((500, 80) if THOROUGH else (20, 30)))
