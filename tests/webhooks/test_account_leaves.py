"""An account leaves the configuration: what waits is named, can be held or canceled, and its events still go out."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import time
from typing import Any

import pytest
from aiohttp import web

from gateway.app import App
from gateway.client import Client
from gateway.client.webhook_receiver import Webhooks
from gateway.commands.reload import change_lines
from gateway.intake.service import SubmissionResult
from gateway.intake.submission import Submission
from gateway.model import State
from gateway.simulator import Simulator
from tests.admin.test_reloader import Site, carrier, route, running

SECRET = "whsec_" + "QUJD" * 11
OTHER = '[[account]]\nname = "line"\napi_keys = ["plain:other"]\ndefault_category = "transactional"\n'


def shop(url: str = "") -> str:
    hook = f'callback_url = "{url}"\nwebhook_secret = "{SECRET}"\nwebhook_events = "all"\n' if url else ""
    return f'[[account]]\nname = "shop"\napi_keys = ["plain:key"]\ndefault_category = "transactional"\n{hook}'


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def accepted(app: App, account: str, count: int, **more: Any) -> list[bytes]:
    asked = [Submission(f"+4670174{number:04}", f"hello {number}", **more) for number in range(count)]
    one = next(one for one in app.config.accounts if one.name == account)
    results = [await app.intake.accept(one, asked[at : at + 500], int(time() * 1000)) for at in range(0, count, 500)]
    return [result.id for some in results for result in some if isinstance(result, SubmissionResult)]


async def order(app: App, path: str, body: dict[str, Any]) -> dict[str, Any]:
    token = (Path(app.config.store.data_dir) / "admin.token").read_text().strip()
    answer = await asyncio.to_thread(Client(app.admin.url, token, timeout=30).post, path, body)
    return {"status": answer.status, **answer.body}


async def test_what_waits_of_an_account_that_leaves_is_named_and_can_be_canceled(site: Site) -> None:
    away = Simulator()  # never started: nothing goes out
    away.port = 1  # type: ignore[misc]
    tables = (carrier("north", away), route("*", "north"))
    site.write(*tables, account=shop() + OTHER)
    async with running(site) as app:
        later = datetime.now(UTC) + timedelta(days=1)
        mine = [*await accepted(app, "shop", 1300), *await accepted(app, "shop", 30, send_at=later)]
        theirs = [*await accepted(app, "line", 20), *await accepted(app, "line", 10, send_at=later)]
        site.write(*tables, account=OTHER)
        for apply in (False, True):
            changes = await app.reloader.reload(apply=apply)
            (line,) = change_lines(changes.as_json())
            assert line == (
                "account shop removed (1330 of its messages wait and will be sent; "
                "smpp-gateway queue cancel --account shop cancels them)"
            )
        held = await order(app, "/breakers/open", {"account": "shop", "reason": "gone"})
        assert (held["status"], len(held["open"])) == (200, 1)
        done = await order(app, "/queue/cancel", {"account": "shop"})
        assert done == {"status": 200, "canceled": 1330, "more": False}
        assert await site.states(mine) == {State.CANCELED: 1330}
        assert await site.states(theirs) == {State.QUEUED: 20, State.SCHEDULED: 10}
        depths = await app.store.depths()
        assert sum(depths.waiting.get("shop", {}).values()) == 0
        assert [one.account for one in depths.ready] == ["line"] * len(depths.ready)
        assert (await order(app, "/queue/cancel", {"account": "shop"}))["status"] == 400  # nothing of it any more
        assert (await order(app, "/queue/cancel", {"account": "nobody"}))["status"] == 400
        trail = await asyncio.to_thread((Path(app.config.store.data_dir) / "audit.jsonl").read_text)
        assert [json.loads(one).get("action") for one in trail.splitlines()].count("queue.cancel") == 1


class Hook:
    """A receiver that believes only what is signed."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    async def post(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.events += Webhooks(SECRET).read(dict(request.headers), body) if body else []
        return web.Response(status=204)


@pytest.mark.parametrize("restart", [False, True])
async def test_events_of_an_account_that_has_left_still_go_out_signed(site: Site, restart: bool) -> None:
    hook = Hook()
    web_app = web.Application()
    web_app.router.add_route("*", "/events", hook.post)
    runner = web.AppRunner(web_app)
    await runner.setup()
    receiver = web.TCPSite(runner, "127.0.0.1", 0)
    await receiver.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/events"
    networks = '[webhooks]\nallow_networks = ["127.0.0.0/8"]\n'
    try:
        async with Simulator() as north:
            tables = (carrier("north", north), route("*", "north"))
            site.write(*tables, account=shop(url) + OTHER, sections=networks)
            async with running(site) as app:
                await order(app, "/carriers/north/pause", {})
                ids = await accepted(app, "shop", 3)
                if not restart:
                    site.write(*tables, account=OTHER, sections=networks)
                    await app.reloader.reload()
                    await order(app, "/carriers/north/resume", {})
                    await _told(hook, len(ids))
            if restart:
                site.write(*tables, account=OTHER, sections=networks)
                async with running(site) as app:
                    await order(app, "/carriers/north/resume", {})
                    await _told(hook, len(ids))
    finally:
        await runner.cleanup()


async def _told(hook: Hook, count: int) -> None:
    async with asyncio.timeout(30):
        while sum(event.type == "message.delivered" for event in hook.events) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
