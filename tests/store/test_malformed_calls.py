"""Whatever the arguments of a function are, an error reply has changed nothing.

The arguments are those of the models' random walks, cut short, stretched and replaced in every place.
"""

from __future__ import annotations

from typing import Any, cast

from hypothesis.stateful import RuleBasedStateMachine

from gateway.store.crypto import Vault
from gateway.store.library import FUNCTIONS
from gateway.store.limits import LimitStore, ShareRequest
from gateway.store.owner import LeaseOwner
from gateway.store.redis.connection import StoreConnection
from gateway.store.webhook_queues import WebhookQueues
from tests.model.machine import Machine
from tests.model.malformed_calls import MalformedCalls
from tests.model.queue_walks import STEPS, walk_machine
from tests.model.store_driver import PARTITIONS, StoreDriver
from tests.model.walk import walk

VAULT = Vault({1: bytes(32)}, 1)
WRITING = {name for name, flag in FUNCTIONS.items() if flag != "no-writes"}


def bound(driver: StoreDriver, machine: type[RuleBasedStateMachine]) -> Any:
    return type("Bound", (machine,), {"driver": driver})()


def with_malformed_calls(url: str, seed: int) -> tuple[StoreDriver, MalformedCalls]:
    driver = StoreDriver(url)
    malformed = MalformedCalls(driver.link, WRITING, seed, 0.02)
    driver.link = driver.store._link = cast(StoreConnection, malformed)
    return driver, malformed


def test_an_error_has_changed_nothing(store_url: str) -> None:
    driver, malformed = with_malformed_calls(store_url, 2)
    try:
        for seed in (1, 2):  # one of them calm
            walk(bound(driver, Machine), seed, 150)
        for machine, steps in STEPS.items():
            walk_machine(bound(driver, machine), steps, 1, 100)
        sharing = LimitStore(driver.link, LeaseOwner("w0", "1"), PARTITIONS)
        for held in (0.0, 3.0, 5.0):
            driver.run(
                sharing.share(
                    [ShareRequest("carrier/north", 10, held, 9), ShareRequest("binds/north", 4, held, 2, 1, whole=True)]
                )
            )
        webhook_queues = WebhookQueues(driver.link, driver.hasher, VAULT, partitions=PARTITIONS, keep=1)
        for _ in range(20):  # nearly every name is a good one
            driver.run(webhook_queues.follow(["shop", "bank"]))
            driver.run(webhook_queues.want_all(["shop", "bank"]))
            driver.run(driver.store.cancel_account("shop"))
    finally:
        driver.close()
    assert set(malformed.refused) >= WRITING, "functions that were never called wrongly"
