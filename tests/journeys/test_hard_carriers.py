"""Every accepted message ends truthfully, whatever its carrier does: cuts links, never answers, answers late, gives the
same id twice; and messages whose time is over, and accounts that ask for more than they may have."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

from gateway.simulator import Faults
from tests.running_gateway import Message, RunningGateway, extra, missing, running_gateway, until

FAST = 'binds = 2\nwindow = 50\nresponse_timeout = "1s"'


def batch(count: int, start: int = 46_700_000_000, **more: Any) -> list[dict[str, Any]]:
    return [{"to": f"+{start + number}", "text": f"Hello {number}", **more} for number in range(count)]


async def at_their_end(gateway: RunningGateway, messages: list[Message], seconds: float = 40.0) -> Counter[str]:
    """The final states, once all have one."""
    async with asyncio.timeout(seconds):
        while sum((finals := await gateway.finals()).values()) < len(messages):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    return Counter(finals)


async def test_a_carrier_that_keeps_closing_its_link_gets_every_message(tmp_path: Path) -> None:
    faults = Faults(drop_every=100, drop_mode="reset", receipt_delay_ms=20)
    async with running_gateway(tmp_path, ["north"], faults=faults, settings=FAST) as gateway:
        accepted: list[Message] = []
        for start in range(0, 1500, 50):
            accepted += await gateway.post(batch(50, 46_700_000_000 + start))
            await asyncio.sleep(0.05)
        await until(lambda: missing(accepted, gateway.copies()) == [], 60)
        north = gateway.carriers["north"]
        assert north.stats.cut >= 10
        assert extra(gateway.copies()) <= north.stats.cut * 60
        assert await at_their_end(gateway, accepted) == {"delivered": 1500}


async def test_a_receipt_proves_a_submit_without_a_response_and_prevents_a_resend(tmp_path: Path) -> None:
    faults = Faults(noresp_every=4, receipt_delay_ms=100)
    async with running_gateway(tmp_path, ["north"], faults=faults, settings=FAST) as gateway:
        accepted = await gateway.post(batch(80))
        assert await at_their_end(gateway, accepted) == {"delivered": 80}
        assert extra(gateway.copies()) == 0


async def test_late_responses_count_and_prevent_duplicates(tmp_path: Path) -> None:
    """Answers after nine seconds, a time-out of one: the first window is given up and answered all the same."""
    faults = Faults(latency_ms=9000, receipt_delay_ms=50)
    async with running_gateway(tmp_path, ["north"], faults=faults, settings=FAST + '\non_unknown = "hold"') as gateway:
        accepted = await gateway.post(batch(60))
        assert await at_their_end(gateway, accepted) == {"delivered": 60}
        assert extra(gateway.copies()) == 0


async def test_messages_of_a_carrier_that_falls_silent_go_to_the_next(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, settings=FAST) as gateway:
        north, south = gateway.carriers["north"], gateway.carriers["south"]
        north.faults = Faults(noresp_every=1, receipts="off")
        accepted = await gateway.post(batch(300))
        async with asyncio.timeout(20):
            while [one["name"] for one in (await gateway.status())["carriers"] if one["sick"]] != ["north"]:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert await at_their_end(gateway, accepted) == {"delivered": 300}  # while north is silent
        assert {entry.dest for entry in south.ledger} == {message.to.encode() for message in accepted}


async def test_one_id_for_many_messages_of_a_recipient_ends_none_of_them_wrongly(tmp_path: Path) -> None:
    faults = Faults(empty_id_every=1, receipt_delay_ms=300)
    async with running_gateway(tmp_path, ["north"], faults=faults, settings=FAST) as gateway:
        north = gateway.carriers["north"]
        await gateway.post([{"to": "+46700000001", "text": f"Hello {number}"} for number in range(6)])
        await until(lambda: north.stats.accepted == 6, 20)
        north.faults = Faults(empty_id_every=1, receipt_states={"UNDELIV": 1.0})
        await gateway.post(batch(1, 46_700_000_002))
        await until(lambda: north.stats.receipts_acknowledged >= 7, 20)
        finals = Counter(await gateway.finals())
        assert finals["undelivered"] == 1  # of the recipient with one message, about which there is no doubt
        assert finals["delivered"] == 0  # six were, in any order: which of them each receipt tells, nobody knows


async def test_a_message_that_expires_while_its_carrier_is_down_is_never_sent_and_ends_once(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, ["north"], settings=FAST) as gateway:
        north = gateway.carriers["north"]
        outage = asyncio.create_task(north.outage(6.0))
        await asyncio.sleep(0.5)
        soon = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
        old = await gateway.post(batch(40, expires_at=soon))
        new = await gateway.post(batch(40, 46_710_000_000))
        await outage
        await until(lambda: missing(new, gateway.copies()) == [], 40)
        assert await at_their_end(gateway, [*old, *new], 90) == {"expired": 40, "delivered": 40}
        assert set(gateway.copies()) == {message.to for message in new}


async def test_an_account_over_its_rate_gets_its_rate_and_delays_no_other(
    tmp_path: Path,
) -> None:
    other = '[[account]]\nname = "other"\napi_keys = ["plain:other"]\ndefault_category = "transactional"\nrate = 50'
    async with running_gateway(tmp_path, ["north"], settings=FAST, more=other) as gateway:
        greedy, modest = gateway.client("other"), gateway.http
        answers: Counter[tuple[str, int]] = Counter()
        end, begun = monotonic() + 5.0, monotonic()

        async def ask(name: str, client: Any, gap: float, start: int) -> None:
            number = start
            while monotonic() < end:
                body = {"to": f"+{number}", "text": "hello"}
                number += 1
                answer = await asyncio.to_thread(client.post, "/v1/messages", body)
                answers[name, answer.status] += 1
                await asyncio.sleep(gap)

        asking = [ask("greedy", greedy, 0.0, 46_710_000_000 + 1_000_000 * n) for n in range(8)]
        await asyncio.gather(*asking, ask("modest", modest, 0.05, 46_700_000_000))
        took = monotonic() - begun
        assert answers["greedy", 429] > 0
        assert answers["greedy", 202] <= 50 * (took + 1.0) * 1.05
        assert {status for name, status in answers if name == "modest"} == {202}
