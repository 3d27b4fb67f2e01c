"""A gateway that is killed while its receiver fails: every event arrives, under the id it always had."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.simulator import Simulator
from tests.running_gateway import RunningGateway
from tests.webhooks.receivers import inbox

COUNT = 200


async def test_a_kill_while_webhooks_are_posted_loses_no_event(tmp_path: Path) -> None:
    async with inbox() as box:
        carrier = Simulator()
        await carrier.start()
        gateway = RunningGateway(tmp_path, {"north": carrier})
        settings = f'callback_url = "{box.url}"\nwebhook_batch = 20\nwebhook_events = "all"'
        text = gateway.file.read_text().replace("rate = 1000000", f"rate = 1000000\n{settings}", 1)
        gateway.file.write_text(text + '\n[webhooks]\nallow_networks = ["127.0.0.0/8"]\n')
        await gateway.start()
        try:
            box.delay = 0.05
            messages = [{"to": f"+4670{n:07d}", "text": "hello", "client_ref": str(n)} for n in range(COUNT)]
            accepted = await gateway.post(messages)
            await box.until(lambda: len(box.posts) > 5, 10)
            await gateway.kill()
            await gateway.start()
            box.status = 500
            await asyncio.sleep(0.3)
            await gateway.kill()
            box.status, box.delay = 200, 0.0
            await gateway.start()
            ids = {message.id for message in accepted}
            await box.until(lambda: {one["data"]["message_id"] for one in box.taken if is_end(one["type"])} == ids, 20)
        finally:
            await gateway.stop()
            await carrier.stop()
    by_id = {event["id"]: event for event in box.taken}
    assert all(by_id[event["id"]] == event for event in box.taken), "an event posted again is the same event"
    for message in ids:
        events = [event for event in by_id.values() if event["data"]["message_id"] == message]
        sequences = sorted(event["sequence"] for event in events)
        assert sequences == list(range(1, len(sequences) + 1)), "every change of state was posted"
        first = [event["sequence"] for event in box.taken if event["data"]["message_id"] == message]
        assert list(dict.fromkeys(first)) == sequences, "in order"


def is_end(kind: str) -> bool:
    return kind == "message.delivered"
