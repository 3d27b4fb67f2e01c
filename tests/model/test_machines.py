"""Every model against the real store, by hypothesis: messages on one server and on a cluster of three; queues of
webhooks, requests with an Idempotency-Key and the index by id on one server.

The ordinary profile always does the same and is bounded for CI. ``HYPOTHESIS_PROFILE=thorough`` goes new ways.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.model.claims_machine import ClaimsMachine
from tests.model.index_machine import IndexMachine
from tests.model.machine import Machine
from tests.model.store_driver import StoreDriver
from tests.model.webhooks_machine import WebhooksMachine

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"


def run(machine: type[RuleBasedStateMachine], url: str, *extent: tuple[int, int]) -> None:
    """``extent``: examples and steps of each, in CI and thoroughly."""
    driver = StoreDriver(url)
    examples, steps = extent[THOROUGH]
    bound: Any = type("Bound", (machine,), {"driver": driver})
    try:
        run_state_machine_as_test(
            bound,
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
        driver.close()


def test_one_server_does_what_the_model_says(store_url: str) -> None:
    run(Machine, store_url, (70, 40), (2000, 80))


def test_a_cluster_of_three_does_what_the_model_says(cluster_url: str) -> None:
    run(Machine, cluster_url, (15, 30), (500, 80))


@pytest.mark.parametrize("machine", [WebhooksMachine, ClaimsMachine, IndexMachine])
def test_queues_claims_and_the_index_do_what_their_models_say(
    store_url: str, machine: type[RuleBasedStateMachine]
) -> None:
    run(machine, store_url, (20, 50), (4000, 80))


def test_the_queues_of_webhooks_on_a_cluster(cluster_url: str) -> None:
    run(WebhooksMachine, cluster_url, (5, 40), (400, 80))
