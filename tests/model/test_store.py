"""The reference model against the real store, on one server and on a cluster of three.

``HYPOTHESIS_PROFILE=thorough`` runs for minutes; the ordinary profile is bounded for CI.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import Machine
from tests.model.walk import walk
from tests.model.world import World
from tests.servers import Cluster, Server

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
                suppress_health_check=list(HealthCheck),
                print_blob=True,
                report_multiple_bugs=False,
            ),
        )
    finally:
        world.close()


@pytest.mark.parametrize("seed", range(int(os.environ.get("WALKS", "10"))))
def test_a_walk_on_one_server(single_server: Server, seed: int) -> None:
    world = World(single_server.url)
    try:
        walk(bound(world)(), seed, 400)
    finally:
        world.close()


def test_one_server_does_what_the_model_says(single_server: Server) -> None:
    single_server.flush()
    run(single_server.url, *((2000, 80) if THOROUGH else (40, 40)))


def test_a_cluster_of_three_does_what_the_model_says(cluster_servers: Cluster) -> None:
    cluster_servers.flush()
    run(cluster_servers.url, *((500, 80) if THOROUGH else (12, 30)))
