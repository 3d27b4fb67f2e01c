"""A message names a callback_url, and no account has one: its events arrive there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.client import Client
from gateway.simulator import Simulator
from tests.admin.test_reloader import Site, carrier, route, running
from tests.webhooks.receivers import Inbox, inbox

NETWORKS = '[webhooks]\nallow_networks = ["127.0.0.0/8"]\n'
ACCOUNT = (
    '[[account]]\nname = "shop"\napi_keys = ["plain:key"]\ndefault_category = "transactional"\n'
    f'webhook_secret = "whsec_{"QUJD" * 11}"\n'
)


async def send(site: Site, box: Inbox, **fields: Any) -> Any:
    """One message, by HTTP, as an application would."""
    client = Client(site.app.http.url, "key", timeout=30)
    body = {"to": "+46701740605", "text": "hello", "callback_url": box.url, **fields}
    return await asyncio.to_thread(client.post, "/v1/messages", body)


@pytest.mark.parametrize("refused", [False, True], ids=["delivered", "refused on the spot"])
async def test_events_of_the_first_message_with_a_callback_url_arrive_there(tmp_path: Path, refused: bool) -> None:
    site = Site(tmp_path)
    async with Simulator() as north, inbox() as box:
        site.write(carrier("north", north), route("*", "north"), account=ACCOUNT, sections=NETWORKS)
        async with running(site):
            answer = await send(site, box, **({"category": "marketing"} if refused else {}))
            assert answer.status == (422 if refused else 202)
            await box.until(lambda: bool(box.taken), 30)
    (event,) = box.taken
    assert event["type"] == ("message.rejected" if refused else "message.delivered")
    assert event["data"]["message_id"] == answer.body["id"]
