"""A whole gateway of which parts fail: it keeps answering, and what is not concerned goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway import supervision
from gateway.carriers.dispatcher import Dispatcher
from gateway.cluster.flags import SharedFlags
from gateway.cluster.sweeper import Sweeper
from gateway.intake.redecide import Redecider
from gateway.model import State
from gateway.simulator import Simulator
from gateway.webhooks.follower import EventFollower
from tests.admin.test_reloader import Site, carrier, route, running
from tests.admin.test_server import OperatedGateway


@pytest.fixture
async def north() -> Any:
    async with Simulator(ledger=True) as simulator:
        yield simulator


@pytest.fixture
async def south() -> Any:
    async with Simulator(ledger=True) as simulator:
        yield simulator


async def test_components_that_always_fail_end_neither_the_gateway_nor_other_carriers(
    tmp_path: Path, north: Simulator, south: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "FIRST", 0.01)

    async def fails(self: object) -> None:
        raise OverflowError("byte must be in range(0, 256)")

    for part in (Sweeper, SharedFlags, EventFollower):
        monkeypatch.setattr(part, "run", fails)
    plan = Dispatcher._plan

    def stuck(self: Dispatcher, now: float) -> Any:
        if self.name == "north":
            raise KeyError("a corrupt record")
        return plan(self, now)

    monkeypatch.setattr(Dispatcher, "_plan", stuck)
    site = Site(tmp_path)
    site.write(carrier("north", north), carrier("south", south), route("+46701", "north"), route("*", "south", "north"))
    async with running(site) as app:
        gateway = OperatedGateway(site, north, tmp_path)
        for round_ in range(3):
            answer = await asyncio.to_thread(
                gateway.apps.post,
                "/v1/messages/batch",
                {"messages": [{"to": f"+46702{round_}{number:05}", "text": "hello"} for number in range(40)]},
            )
            assert (answer.status, answer.body["accepted"]) == (202, 40)
            await asyncio.sleep(0.1)
        waiting = await site.accept(5, prefix="+4670174")  # north's, which never takes
        await gateway.until(lambda body: body["submitted"] == 120, "/carriers/south")
        assert await site.states(waiting) == {State.QUEUED: 5}
        status = await gateway.get("/status")
        assert {"sweeper", "flags", "webhooks", "north: dispatcher"} <= set(status["faults"]["restarts"])
        page = await gateway.page()
        assert page["smpp_gateway_part_restarts_total"]["north: dispatcher",] > 1
        assert page["smpp_gateway_part_restarts_total"]["south: dispatcher",] == 0
        monkeypatch.setattr(Dispatcher, "_plan", plan)
        await site.until_states(waiting, State.DELIVERED)
        assert app.supervision.restarts["heartbeat"] == 0
    assert south.stats.accepted == 120


async def test_a_decision_that_raises_is_tried_three_times_and_ends_its_message_alone(
    tmp_path: Path, north: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.intake.redecide.TRIES", 1)  # the store hands out again every five seconds
    permit = Redecider._permit
    site = Site(tmp_path)
    site.write(carrier("north", north), route("*", "north"))
    async with running(site) as app:
        app.carrier_manager.set_modes({"north": 1})
        ids = await site.accept(20)
        bad = ids[7]

        def picky(self: Redecider, item: Any, *rest: Any) -> Any:
            if item.id == bad:
                raise UnicodeError("what a text")
            return permit(self, item, *rest)

        monkeypatch.setattr(Redecider, "_permit", picky)
        await app.store.flag(b"epoch", 77)  # all of them are to be decided afresh
        await app.flags.refresh()
        app.carrier_manager.set_modes({})
        await site.until_states([one for one in ids if one != bad], State.DELIVERED)
        await site.until_states([bad], State.REJECTED)
        assert app.supervision.set_aside_counts == {"decision": 1}
        (record,) = await app.store.find([bad])
        assert record is not None
        assert record.reason.name == "GATEWAY_FAULT"
