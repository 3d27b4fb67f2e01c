"""The operators' side of a whole gateway: real listener, real store, simulated carriers; what they see is so, what they
do happens at once and loses nothing."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from gateway import logs
from gateway.api.schemas import rfc3339
from gateway.cli import app as command_line
from gateway.client import Answer, Client
from gateway.clock import now_ms
from gateway.commands.common import Exit
from gateway.model import State
from gateway.simulator import Faults, Simulator
from gateway.store.errors import StoreUnavailable
from gateway.store.ids import text
from gateway.store.keys import RESTORED
from tests.admin.test_reloader import ACCOUNT, Site, carrier, route, running

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
BRANDS = ACCOUNT + 'brands = ["shop", "outlet"]\n'


class OperatedGateway:
    """A running gateway, its carrier, and an operator with the token that the gateway made."""

    def __init__(self, site: Site, north: Simulator, folder: Path) -> None:
        self.site, self.north, self.folder = site, north, folder
        self.token = (folder / "data" / "admin.token").read_text().strip()
        self.url = site.app.admin.url
        self.client = Client(self.url, self.token)
        self.apps = Client(site.app.http.url, "key")

    async def get(self, path: str) -> Any:
        answer = await asyncio.to_thread(self.client.get, path)
        assert answer.ok, answer
        return answer.body

    async def post(self, path: str, body: object = None) -> Answer:
        return await asyncio.to_thread(self.client.post, path, body or {})

    async def in_mode(self, mode: str) -> Any:
        """The carrier, once all its binds are in this mode."""
        return await self.until(lambda body: all(bind["mode"] == mode for bind in body["binds"]))

    async def text(self) -> str:
        """The metrics' page as it comes."""

        def ask() -> str:
            request = urllib.request.Request(f"{self.url}/metrics", headers={"Authorization": f"Bearer {self.token}"})
            with urllib.request.urlopen(request, timeout=10) as reply:
                return str(reply.read().decode())

        return await asyncio.to_thread(ask)

    async def page(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Its samples: name -> label values, in the order of the labels' names -> value."""
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for family in text_string_to_metric_families(await self.text()):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(dict(sorted(sample.labels.items())).values())] = sample.value
        return found

    async def until(self, holds: Callable[[Any], bool], path: str = "/carriers/north", seconds: float = 10.0) -> Any:
        """What ``path`` answers, once it is as wanted."""
        async with asyncio.timeout(seconds):
            while not holds(body := await self.get(path)):  # noqa: ASYNC110  # it is asked over HTTP
                await asyncio.sleep(0.02)
        return body

    async def command(self, *words: str) -> tuple[int, str]:
        """A command of ``smpp-gateway``, told where the gateway is."""
        given = [*words, "--url", self.url, "--token", self.token]
        done = await asyncio.to_thread(CliRunner().invoke, command_line, given)
        return done.exit_code, done.output

    def copies(self) -> Counter[bytes]:
        """Recipient -> how often the carrier accepted something for it."""
        return Counter(entry.dest for entry in self.north.ledger)


@asynccontextmanager
async def operated_gateway(
    folder: Path, *, faults: Faults | None = None, more: Sequence[str] = (), **settings: object
) -> AsyncIterator[OperatedGateway]:
    logs.configure("error")
    north = Simulator(faults, ledger=True)
    await north.start()
    site = Site(folder)
    names = ["north", "south"] if more else ["north"]
    site.write(carrier("north", north, **settings), *more, route("*", *names), account=BRANDS)
    try:
        async with running(site):
            built = OperatedGateway(site, north, folder)
            await built.until(lambda body: body["up"] == 2)
            yield built
    finally:
        await north.stop()


def midday() -> str:
    """A zone where nobody sleeps just now."""
    hours = 13 - datetime.now(UTC).hour
    return f"Etc/GMT{-hours:+d}"


async def test_the_metrics_are_those_of_the_documentation(tmp_path: Path) -> None:
    async with operated_gateway(tmp_path) as gateway:
        ids = await gateway.site.accept(60)
        await gateway.site.until_states(ids, State.DELIVERED)
        await asyncio.to_thread(gateway.apps.get, "/v1/messages/none")
        refused = await asyncio.to_thread(
            gateway.apps.post, "/v1/messages", {"to": "+46701740605", "text": "Sale", "category": "marketing"}
        )
        assert refused.status == 422
        page = await gateway.page()
        taken = {("shop", "", "queued"): 60, ("shop", "consent_missing", "rejected"): 1}
        assert page["smpp_gateway_intake_messages_total"] == taken
        assert page["smpp_gateway_submits_total"] == {("north",): 60}
        assert page["smpp_gateway_submit_answers_total"][("north", "ok")] == 60
        assert page["smpp_gateway_receipt_states_total"] == {("north", "delivered"): 60}
        assert page["smpp_gateway_submit_to_answer_seconds_count"] == {("north",): pytest.approx(60)}
        assert page["smpp_gateway_accept_to_submit_seconds_count"][("north", "transactional")] == pytest.approx(60)
        assert page["smpp_gateway_binds_up"] == page["smpp_gateway_binds"] == {("north",): 2}
        assert page["smpp_gateway_store_up"] == {(): 1}
        assert page["smpp_gateway_store_memory_bytes"][("embedded",)] > 1000
        assert page["smpp_gateway_store_log_healthy"] == {("embedded",): 1}
        assert page["smpp_gateway_store_call_seconds_count"][("accept",)] >= 1
        assert page["process_resident_memory_bytes"][()] > 1e6
        whole = await gateway.text()
        shown = dict(re.findall(r"^# TYPE (smpp_gateway_\w+) (\w+)$", whole, re.MULTILINE))
        written = dict(re.findall(r"^\| `(smpp_gateway_\w+)` \| (\w+) \|", DOCS.read_text(), re.MULTILINE))
        assert shown == written
        assert "4670174" not in whole

        async def away() -> None:
            raise StoreUnavailable("gone")

        gateway.site.app.store.depths = away  # type: ignore[method-assign, assignment]
        await asyncio.sleep(1.05)  # what the store said is believed for a second
        page = await gateway.page()
        assert page["smpp_gateway_store_up"] == {(): 0}
        assert page["smpp_gateway_submits_total"] == {("north",): 60}
        assert "smpp_gateway_held_messages" not in page


async def test_a_paused_carrier_gets_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    async with operated_gateway(tmp_path) as gateway:
        paused = await gateway.post("/carriers/north/pause")
        assert (paused.body["mode"], paused.body["up"], paused.body["taking"]) == ("paused", 2, False)
        ids = await gateway.site.accept(30)
        await asyncio.sleep(0.6)
        assert gateway.copies() == {}
        (lane,) = (await gateway.get("/queue"))["lanes"]
        assert (lane["ready"], lane["accounts"][0]["account"]) == (30, "shop")
        (mine,) = (await gateway.get("/queue"))["accounts"]
        assert (mine["account"], mine["waiting"], mine["queued"], mine["max_queued"]) == ("shop", 30, 30, 1_000_000)
        assert (await gateway.page())["smpp_gateway_account_waiting_messages"] == {("shop", "queued"): 30}
        assert lane["oldest_s"] >= 0.5
        why = " ".join((await gateway.get(f"/messages/{text(ids[0])}"))["why"])
        assert "north is paused by an operator" in why
        await gateway.site.app.flags.refresh()  # the store knows it too: so do other workers, and the next start
        assert (await gateway.get("/carriers/north"))["mode"] == "paused"
        assert (await gateway.post("/carriers/north/resume")).body["taking"]
        await gateway.site.until_states(ids, State.DELIVERED)
        assert set(gateway.copies().values()) == {1}
        assert await gateway.get("/queue") == {"lanes": [], "accounts": []}


async def test_the_next_carrier_of_a_route_takes_over_from_a_paused_one(tmp_path: Path) -> None:
    async with Simulator(ledger=True) as south, operated_gateway(tmp_path, more=[carrier("south", south)]) as gateway:
        await gateway.post("/carriers/north/pause")
        ids = await gateway.site.accept(10)
        await gateway.site.until_states(ids, State.DELIVERED)
        assert (gateway.copies(), len(south.ledger)) == ({}, 10)


async def test_a_paused_carrier_is_still_paused_after_a_restart(tmp_path: Path) -> None:
    async with operated_gateway(tmp_path) as gateway:
        await gateway.post("/carriers/north/drain")
        site = gateway.site
    async with running(site):
        (service,) = site.app.services
        assert service.controls.mode.name == "DRAINED"
        assert [slot.kept_down for slot in service.pool.slots] == [True, True]


async def test_drain_and_reconnect_under_load_lose_and_duplicate_nothing(tmp_path: Path) -> None:
    async with operated_gateway(tmp_path, faults=Faults(latency_ms=150, receipt_delay_ms=20), window=20) as gateway:
        ids = await gateway.site.accept(400)
        await gateway.until(lambda body: body["outstanding"] >= 20)
        drained = await gateway.post("/carriers/north/drain")
        assert {bind["mode"] for bind in drained.body["binds"]} == {"draining"}
        body = await gateway.in_mode("drained")
        assert (body["up"], body["outstanding"], body["unanswered"]) == (0, 0, 0)
        sent = sum(gateway.copies().values())
        assert 0 < sent < 400
        await asyncio.sleep(0.3)
        assert sum(gateway.copies().values()) == sent
        await gateway.post("/carriers/north/resume")
        await gateway.in_mode("running")
        await asyncio.sleep(0.3)
        tries = gateway.site.app.services[0].pool.tries
        await gateway.post("/carriers/north/reconnect")
        await gateway.site.until_states(ids, State.DELIVERED, 20)
        await gateway.until(lambda _: gateway.site.app.services[0].pool.tries >= tries + 2)
        assert set(gateway.copies().values()) == {1}
        assert (await gateway.get("/carriers/north"))["unanswered"] == 0


async def test_a_single_bind_is_drained_and_resumed(tmp_path: Path) -> None:
    async with operated_gateway(tmp_path) as gateway:
        first, second = (await gateway.post("/carriers/north/binds/1/drain")).body["binds"]
        assert (first["mode"] in ("draining", "drained"), second["mode"]) == (True, "running")
        await gateway.until(lambda body: body["up"] == 1)
        ids = await gateway.site.accept(20)
        await gateway.site.until_states(ids, State.DELIVERED)
        assert (await gateway.post("/carriers/north/binds/3/pause")).status == 404
        assert (await gateway.post("/carriers/south/pause")).status == 404
        assert (await gateway.post("/carriers/north/explode")).status == 404
        await gateway.post("/carriers/north/resume")
        await gateway.until(lambda body: body["up"] == 2)


async def test_a_breaker_holds_waiting_and_new_messages_and_releases_them(tmp_path: Path) -> None:
    async with operated_gateway(tmp_path) as gateway:
        grant = {"status": "granted", "method": "web_form", "evidence": "ticked"}
        numbers = [f"+467017406{n:02}" for n in range(6)]
        for number in numbers:
            await asyncio.to_thread(gateway.apps.put, f"/v1/consents/{number}", grant)

        async def offer(number: str) -> Any:
            message = {"to": number, "text": "Sale", "category": "marketing", "time_zone": midday()}
            return (await asyncio.to_thread(gateway.apps.post, "/v1/messages", message)).body

        await gateway.post("/carriers/north/pause")
        before = [await offer(number) for number in numbers[:3]]
        opened = await gateway.post("/breakers/open", {"account": "shop", "brand": "shop", "reason": "complaints"})
        assert [(one["account"], one["brand"]) for one in opened.body["open"]] == [("shop", "shop")]
        after = [await offer(number) for number in numbers[3:]]
        assert [one["status"] for one in before + after] == ["queued"] * 3 + ["held"] * 3
        assert (await gateway.post("/breakers/open", {"account": "nobody"})).status == 400
        assert (await gateway.post("/breakers/open", {})).status == 400
        await gateway.post("/carriers/north/resume")
        held = await gateway.until(lambda body: body["held"] == 6, "/held")
        (group,) = held["groups"]
        assert (group["account"], group["brand"], group["count"]) == ("shop", "shop", 6)
        assert group["breakers"] == [{"account": "shop", "brand": "shop"}]
        why = (await gateway.get(f"/messages/{before[0]['id']}"))["why"]
        assert "open breaker (account shop, brand shop)" in why[0]
        assert gateway.copies() == {}
        ids = [bytes.fromhex(one["id"].replace("-", "")) for one in before + after]
        closed = await gateway.post("/breakers/close", {"account": "shop", "brand": "shop"})
        assert (closed.body["released"], closed.body["open"]) == (6, [])
        await gateway.site.until_states(ids, State.DELIVERED)
        assert set(gateway.copies().values()) == {1}
        actions = [(entry["action"], entry.get("released")) for entry in (await gateway.get("/audit"))["entries"]]
        assert actions[0] == ("breaker.close", 6)


async def test_a_restored_store_holds_what_it_had_until_the_operator_releases_it(tmp_path: Path) -> None:
    async with operated_gateway(tmp_path) as gateway:
        app = gateway.site.app

        async def offer(number: str) -> Any:
            message = {"to": number, "text": "Code 1234", "category": "otp"}
            return (await asyncio.to_thread(gateway.apps.post, "/v1/messages", message)).body

        await gateway.post("/carriers/north/pause")
        old = await offer("+46701740601")
        await asyncio.sleep(0.002)
        instant = now_ms()
        await app.store.flag(RESTORED, instant)
        await app.flags.refresh()
        await gateway.post("/carriers/north/resume")
        new = await offer("+46701740602")
        held = await gateway.until(lambda body: body["held"] == 1, "/held")
        await gateway.site.until_states([bytes.fromhex(new["id"].replace("-", ""))], State.DELIVERED)
        assert held["restored"] == rfc3339(instant) == (await gateway.get("/status"))["restored"]
        why = (await gateway.get(f"/messages/{old['id']}"))["why"]
        assert "restored from a backup" in why[0]
        for command in ("held",), ("status", "--once"):
            assert "--restored" in (await gateway.command(*command))[1].replace("\n", " ")
        assert (await gateway.page())["smpp_gateway_restored_timestamp_seconds"] == {(): instant / 1000}
        assert (await gateway.post("/held/release", {"everybody": True})).body["released"] == 1
        await gateway.until(lambda body: body["held"] == 1, "/held")  # the flag still stands
        assert len(gateway.copies()) == 1
        assert (await gateway.post("/held/release", {"restored": True, "account": "shop"})).status == 400
        code, said = await gateway.command("held", "release", "--restored", "--everybody")
        assert (code, "leave the other options out" in said) == (Exit.USAGE, True)
        code, said = await gateway.command("held", "release", "--restored")
        assert (code, said.startswith("1 released")) == (Exit.OK, True)
        await gateway.site.until_states([bytes.fromhex(old["id"].replace("-", ""))], State.DELIVERED)
        assert set(gateway.copies().values()) == {1}
        assert len(gateway.copies()) == 2
        entries = (await gateway.get("/audit"))["entries"]
        assert (entries[0]["action"], entries[0]["target"], entries[0]["released"]) == ("held.release", "restored", 1)
        assert (await gateway.get("/status"))["restored"] == ""


async def test_a_breaker_of_another_worker_holds_and_releases_messages_here(tmp_path: Path) -> None:
    async with operated_gateway(tmp_path) as gateway:
        app = gateway.site.app
        scope = app.policy_context.rights["shop"].account_scope
        await app.store.flag(b"b" + scope, 1)
        await app.flags.refresh()
        assert app.policy_context.rules.held == {scope}
        await app.store.flag(b"b" + scope, 0)
        await app.flags.refresh()
        assert app.policy_context.rules.held == frozenset()
        gone = b"\x01" * 8  # of an account that the configuration no longer has
        await app.store.flag(b"b" + gone, 1)
        await app.flags.refresh()
        ((shown,), (_, said)) = ((await gateway.get("/breakers"))["open"], await gateway.command("breakers"))
        assert (shown["scope"], gone.hex() in said) == (gone.hex(), True)
        assert (await gateway.command("breakers", "close", "--scope", gone.hex()))[0] == Exit.OK
        assert (await gateway.command("breakers", "close", "--scope", "zz"))[0] == Exit.REFUSED
        assert (await gateway.get("/breakers"))["open"] == []


async def test_an_action_that_cannot_be_recorded_is_not_performed(tmp_path: Path) -> None:
    async with operated_gateway(tmp_path) as gateway:
        await gateway.post("/carriers/north/binds/1/reconnect")
        audit = gateway.site.app.admin_server.audit
        (entry,) = (await gateway.get("/audit"))["entries"]
        assert (entry["who"], entry["action"], entry["target"]) == ("admin", "bind.reconnect", "north/1")
        assert (entry["outcome"], entry["from"]) == ("done", "127.0.0.1")
        assert audit.path.stat().st_mode & 0o777 == 0o600
        audit.path = tmp_path  # a folder: nothing can be appended to it
        refused = await gateway.post("/carriers/north/pause")
        assert (refused.status, refused.body["code"]) == (503, "audit_unavailable")
        assert (await gateway.get("/carriers/north"))["mode"] == "running"


async def test_commands_act_like_the_admin_routes(tmp_path: Path) -> None:
    async with operated_gateway(tmp_path) as gateway:
        code, said = await gateway.command("carriers", "drain", "north", "--wait", "10", "--json")
        assert (code, '"drained"' in said) == (Exit.OK, True)
        (message,) = await gateway.site.accept(1)
        code, said = await gateway.command("explain", text(message))
        assert code == Exit.OK
        assert "north is drained by an operator" in said
        assert "4670174" not in said.replace("+4670****", "")
        code, said = await gateway.command("queue")
        assert (code, "*#0:1" in said, "shop" in said) == (Exit.OK, True, True)
        assert (await gateway.command("carriers", "resume", "north", "--wait", "10"))[0] == Exit.OK
        await gateway.site.until_states([message], State.DELIVERED)
        code, said = await gateway.command("status", "--once")
        assert (code, "2/2" in said, "no messages wait" in said) == (Exit.OK, True, True)
        code, said = await gateway.command("audit")
        assert [word in said for word in ("carrier.drain", "carrier.resume", "north", "done")] == [True] * 4
        assert (await gateway.command("carriers", "pause", "south"))[0] == Exit.REFUSED
        assert (await gateway.command("explain", "nonsense"))[0] == Exit.REFUSED
        assert (await gateway.command("breakers", "open"))[0] == Exit.USAGE


async def test_a_command_of_the_same_user_discovers_gateway_and_token(tmp_path: Path) -> None:
    async with operated_gateway(tmp_path) as gateway:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SMPP_GATEWAY")}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "gateway", "status", "--json", "--url", gateway.url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
        out, errors = await process.communicate()
        assert process.returncode == Exit.OK, errors
        assert b'"name": "north"' in out
