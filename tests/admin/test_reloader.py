"""A new configuration while the gateway runs: what is not concerned stays up, what is goes over without a loss."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import time

import pytest

from gateway.api.problems import HttpProblem
from gateway.app import App, serve
from gateway.client import Answer, Client
from gateway.config import ConfigError, Source, read
from gateway.intake.service import SubmissionResult
from gateway.intake.submission import Submission
from gateway.model import State
from gateway.simulator import Faults, Simulator
from gateway.store.legacy_numbers import LegacyNumberStore
from gateway.store.messages import MessageStore
from tests.carriers.test_service import until
from tests.test_serve import serving, write_config

ACCOUNT = '[[account]]\nname = "shop"\napi_keys = ["plain:key"]\ndefault_category = "transactional"\n'


class Site:
    """A gateway in this process, and the file it was started from."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "gateway.toml"
        self.app: App
        self._head = (
            f'[store]\ndata_dir = "{folder / "data"}"\ndurability = "everysec"\npartitions = 2\n'
            '[http]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n'
        )

    def write(self, *tables: str, account: str = ACCOUNT, sections: str = "") -> None:
        self.file.write_text("\n".join((self._head, sections, account, *tables)))

    async def accept(self, count: int, *, prefix: str = "+4670174", category: str = "transactional") -> list[bytes]:
        asked = [Submission(f"{prefix}{number:04}", f"hello {number}", category=category) for number in range(count)]  # type: ignore[arg-type]
        account = self.app.config.accounts[0]
        results = await self.app.intake.accept(account, asked, int(time() * 1000))
        return [result.id for result in results if isinstance(result, SubmissionResult)]

    async def states(self, ids: list[bytes]) -> Counter[State]:
        return Counter(record.state for record in await self.app.store.find(ids) if record is not None)

    async def until_states(self, ids: list[bytes], state: State, seconds: float = 15.0) -> None:
        async with asyncio.timeout(seconds):
            while (await self.states(ids))[state] != len(ids):  # noqa: ASYNC110  # the store rings no bell
                await asyncio.sleep(0.05)


def carrier(name: str, simulator: Simulator, **settings: object) -> str:
    words = {"system_id": "gw", "password": "secret", "rate": 0, "binds": 2, **settings}
    lines = [f"{key} = {value!r}".replace("'", '"') for key, value in words.items()]
    return f'[[carrier]]\nname = "{name}"\nhosts = ["127.0.0.1:{simulator.port}"]\n' + "\n".join(lines)


def route(to: str, *carriers: str) -> str:
    return f'[[route]]\nto = "{to}"\ncarriers = [{", ".join(map(repr, carriers))}]'.replace("'", '"')


@asynccontextmanager
async def running(site: Site) -> AsyncIterator[App]:
    ready, stop = asyncio.Event(), asyncio.Event()

    def on_ready(app: App) -> None:
        site.app = app
        ready.set()

    config = read(site.file).config
    task = asyncio.create_task(serve(config, source=Source(site.file), on_ready=on_ready, stop=stop))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    try:
        assert ready.is_set(), task
        yield site.app
    finally:
        waiting.cancel()
        stop.set()
        await asyncio.wait_for(task, 20)


@pytest.fixture
async def north() -> AsyncIterator[Simulator]:
    async with Simulator(ledger=True) as simulator:
        yield simulator


@pytest.fixture
async def south() -> AsyncIterator[Simulator]:
    async with Simulator(ledger=True) as simulator:
        yield simulator


@pytest.fixture
async def east() -> AsyncIterator[Simulator]:
    async with Simulator(ledger=True) as simulator:
        yield simulator


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_binds_stay_up_restart_start_and_end_as_their_carrier_changes(
    site: Site, north: Simulator, south: Simulator, east: Simulator
) -> None:
    everywhere = [route("+46", "south"), route("*", "north")]
    site.write(carrier("north", north), carrier("south", south), *everywhere)
    async with running(site) as app:
        await until(lambda: north.stats.bound == south.stats.bound == 2)
        links = set(north.links)
        ids = await site.accept(300) + await site.accept(300, prefix="+472012")
        more = [route("+47", "east"), *everywhere]
        site.write(
            carrier("north", north, rate=900, status_table={}), carrier("south", south, window=50), *more,
            carrier("east", east, binds=1),
        )  # fmt: skip
        changes = await app.reloader.reload()
        assert [str(change) for change in changes.changed] == [
            "carrier north changed: rate 0.0 → 900.0 (its binds stay up)",
            "carrier south changed: window 100 → 50 (its binds reconnect)",
            "carrier east added",
            "route +47 added",
        ]
        await until(lambda: east.stats.bound == 1 and south.stats.bound == 2)
        assert (set(north.links), north.stats.connections, south.stats.connections) == (links, 2, 4)
        assert [service.dispatcher.pace.ceiling for service in app.services] == [900, 0, 0]
        ids += await site.accept(100, prefix="+472099") + await site.accept(100, prefix="+4670999")
        await site.until_states(ids, State.DELIVERED)
        assert east.stats.accepted >= 100
        assert sum(each.stats.duplicates for each in (north, south, east)) == 0
        site.write(carrier("north", north, rate=900), route("*", "north"))
        changes = await app.reloader.reload()
        assert [str(change) for change in changes.changed][:2] == [
            "carrier south removed (its binds close gracefully)",
            "carrier east removed (its binds close gracefully)",
        ]
        assert (south.stats.bound, east.stats.bound, set(north.links)) == (0, 0, links)
        assert [service.carrier.name for service in app.services] == ["north"]
        assert not await app.reloader.reload()


async def test_messages_waiting_for_a_removed_route_take_another(
    site: Site, north: Simulator, south: Simulator
) -> None:
    south.faults = Faults(bind_status=0x0D)
    site.write(carrier("north", north), carrier("south", south), route("+46", "south"), route("*", "north"))
    async with running(site) as app:
        ids = await site.accept(500)
        later = datetime.now(UTC) + timedelta(hours=1)
        scheduled = Submission("+46701749999", "later", category="transactional", send_at=later)
        (result,) = await app.intake.accept(app.config.accounts[0], [scheduled], int(time() * 1000))
        assert isinstance(result, SubmissionResult)
        site.write(carrier("north", north), route("*", "north"))
        await app.reloader.reload()
        await site.until_states(ids, State.DELIVERED)
        assert (north.stats.accepted, north.stats.duplicates) == (500, 0)
        (record,) = await app.store.find([result.id])
        assert record is not None
        assert (record.state, record.route, record.due // 1000) == (State.SCHEDULED, "*", int(later.timestamp()))


async def test_reloads_under_load_lose_and_duplicate_nothing(site: Site, north: Simulator, south: Simulator) -> None:
    for simulator in (north, south):
        simulator.faults = Faults(latency_ms=15, jitter_ms=15, receipt_delay_ms=5)
    routes = [
        [route("+46", "south", "north"), route("*", "north")],
        [route("*", "north", "south")],
        ['[[route]]\nto = "*"\ncarriers = ["north", "south"]\nweights = [1, 2]'],
    ]
    site.write(carrier("north", north), carrier("south", south), *routes[0])
    ids: list[bytes] = []
    async with running(site) as app:
        await until(lambda: north.stats.bound == south.stats.bound == 2)
        for turn in range(1, 5):
            ids += await site.accept(250, prefix=f"+467{turn:04}") + await site.accept(250, prefix=f"+47{turn:04}")
            settings = {"window": 20 + turn % 2, "binds": 3, "rate": 2000 + turn}
            site.write(carrier("north", north, **settings), carrier("south", south, rate=turn), *routes[turn % 3])
            await app.reloader.reload()
        site.write(carrier("north", north), route("*", "north"))
        await app.reloader.reload()
        await site.until_states(ids, State.DELIVERED, 25)
        assert (await app.store.depths()).leases == 0
    assert len(set(ids)) == north.stats.accepted + south.stats.accepted == 2000
    assert north.stats.duplicates + south.stats.duplicates == 0


async def test_a_route_removed_between_two_runs(site: Site, north: Simulator, south: Simulator) -> None:
    south.faults = Faults(bind_status=0x0D)
    site.write(carrier("south", south), route("+46", "south"))
    async with running(site):
        ids = await site.accept(50)
    site.write(carrier("north", north), route("*", "north"))
    async with running(site):
        await site.until_states(ids, State.DELIVERED)


async def test_messages_without_any_route_left_are_rejected_by_policy(site: Site, south: Simulator) -> None:
    south.faults = Faults(bind_status=0x0D)
    site.write(carrier("south", south), route("+46", "south"))
    async with running(site) as app:
        ids = await site.accept(3)
        site.write(carrier("south", south), route("+47", "south"))
        await app.reloader.reload()
        await site.until_states(ids, State.REJECTED)
        (record, *_) = await app.store.find(ids)
        assert record is not None
        assert record.reason.name == "NO_ROUTE"


async def test_api_keys_and_rates_of_accounts_are_reloaded(site: Site, north: Simulator) -> None:
    site.write(carrier("north", north), route("*", "north"))
    async with running(site) as app:
        assert app.api.accounts.caller(b"Bearer key").name == "shop"
        other = ACCOUNT.replace("plain:key", "plain:other") + '[[account]]\nname = "bank"\napi_keys = ["plain:bank"]\n'
        site.write(carrier("north", north), route("*", "north"), account=other)
        changes = await app.reloader.reload()
        assert [str(change) for change in changes.changed] == [
            "account shop changed: api_keys changed",  # never which
            "account bank added",
        ]
        with pytest.raises(HttpProblem):
            app.api.accounts.caller(b"Bearer key")
        assert [app.api.accounts.caller(f"Bearer {key}".encode()).name for key in ("other", "bank")] == ["shop", "bank"]
        assert set(app.policy_context.rights) == {"shop", "bank"}


async def test_segments_and_requirements_follow_the_carrier_of_the_route(site: Site, north: Simulator) -> None:
    async def told(app: App) -> object:
        asked = [Submission("+46701740605", "x" * 150)]
        (result,) = await app.intake.accept(app.config.accounts[0], asked, int(time() * 1000))
        return result.segments if isinstance(result, SubmissionResult) else result.field

    site.write(carrier("north", north, alphabet="latin1"), route("*", "north"))
    async with running(site) as app:
        assert await told(app) == 2
        site.write(carrier("north", north), route("*", "north"))
        await app.reloader.reload()
        assert await told(app) == 1
        tlvs = 'tlvs = [{ tag = 0x1401, metadata = "template_id", required = true }]'
        site.write(carrier("north", north) + f"\n{tlvs}\n", route("*", "north"))
        changes = await app.reloader.reload()
        assert [change.effect for change in changes.changed] == ["its binds stay up"]
        assert await told(app) == "metadata.template_id"
        await until(lambda: north.stats.accepted == 3)


async def test_destination_limits_apply_from_the_reload_on(site: Site, north: Simulator) -> None:
    site.write(carrier("north", north), route("*", "north"))
    async with running(site) as app:
        assert len(await site.accept(5)) == 5
        own = ACCOUNT + 'velocity = { "+46701" = "3/1h" }\n'
        site.write(carrier("north", north), route("*", "north"), account=own)
        await app.reloader.reload()
        assert len(await site.accept(5)) == 3
        assert not await site.accept(1)


async def test_a_store_with_the_old_number_format_is_recognised_at_the_start(site: Site, north: Simulator) -> None:
    site.write(carrier("north", north), route("*", "north"))
    async with running(site) as app:
        assert type(app.store) is MessageStore
        await app._link._seed.command("HDEL", "gateway:meta", "numbers")
    async with running(site) as app:
        assert type(app.store) is LegacyNumberStore
        assert len(await site.accept(2)) == 2


async def test_new_rules_decide_about_waiting_messages(site: Site, south: Simulator) -> None:
    south.faults = Faults(bind_status=0x0D)
    tables = carrier("south", south), route("*", "south")
    site.write(*tables)
    async with running(site) as app:
        ids = await site.accept(5)
        epoch, version = app.policy_context.rules.epoch, app.policy_context.rules.version
        site.write(*tables, sections="[policy]\ntransactional_caps = ['1/1d']\n[retention]\nfinished = '1h'\n")
        changes = await app.reloader.reload()
        assert [str(change) for change in changes.changed] == [
            "[policy] changed: transactional_caps [] → [1/1d]",
            "[retention] changed: finished 21600.0 → 3600.0",
        ]
        assert app.policy_context.rules.epoch == epoch + 1
        assert app.policy_context.rules.version != version
        assert app.store.retention.finished == 3600
        south.faults = Faults()
        await site.until_states(ids, State.DELIVERED)
        records = [record for record in await app.store.find(ids) if record is not None]
        assert all(len(record.timeline) > 3 for record in records)  # decided again on the way


async def test_an_invalid_file_changes_nothing(site: Site, north: Simulator) -> None:
    site.write(carrier("north", north), route("*", "north"))
    async with running(site) as app:
        config, rules = app.config, app.policy_context.rules
        site.write(carrier("north", north, windw=3), route("*", "nort"))
        with pytest.raises(ConfigError, match="windw") as caught:
            await app.reloader.reload()
        assert "route[0].carriers[0]" in str(caught.value)
        site.write(carrier("north", north), route("*", "north"), sections="[http]\nlisten = 7")
        with pytest.raises(ConfigError):
            await app.reloader.reload()
        assert (app.config, app.policy_context.rules) == (config, rules)


async def test_a_change_that_needs_a_restart_is_named_and_refuses_the_whole_reload(
    site: Site, north: Simulator
) -> None:
    site.write(carrier("north", north), route("*", "north"))
    async with running(site) as app:
        config = app.config
        site.write(carrier("north", north, rate=7), route("*", "north"))
        site.file.write_text('node = "b"\n' + site.file.read_text().replace("partitions = 2", "partitions = 4"))
        changes = await app.reloader.reload()
        assert [str(change) for change in changes.refused] == [
            'node changed: "" → b',
            "[store] changed: partitions 2 → 4",
        ]
        assert app.config is config
        assert app.services[0].dispatcher.pace.ceiling == 0


def post(site: Site, path: str) -> Answer:
    token = (site.file.parent / "data" / "admin.token").read_text().strip()
    return Client(site.app.admin.url, token, timeout=10).post(path, {})


async def test_operators_reload_over_http(site: Site, north: Simulator) -> None:
    site.write(carrier("north", north), route("*", "north"))
    async with running(site) as app:
        site.write(carrier("north", north, rate=77), route("*", "north"))
        looked = await asyncio.to_thread(post, site, "/reload?dry_run=true")
        assert (looked.status, looked.body["applied"], app.config.carriers[0].rate) == (200, False, 0)
        assert looked.body["file"] == str(site.file)
        done = await asyncio.to_thread(post, site, "/reload")
        assert (done.status, done.body["applied"], done.body["settling"]) == (200, True, False)
        assert [change["text"] for change in done.body["changes"]] == [
            "carrier north changed: rate 0.0 → 77.0 (its binds stay up)"
        ]
        assert app.config.carriers[0].rate == 77
        again = await asyncio.to_thread(post, site, "/reload")
        assert (again.status, again.body["applied"], again.body["changes"]) == (200, False, [])
        site.write(carrier("north", north, rate="no"), route("*", "south"))
        bad = await asyncio.to_thread(post, site, "/reload")
        assert (bad.status, bad.body["code"]) == (422, "invalid_configuration")
        assert [error["field"] for error in bad.body["errors"]] == ["carrier[0].rate", "route[0].carriers[0]"]
        site.write(carrier("north", north), route("*", "north"))
        site.file.write_text("workers = 2\n" + site.file.read_text())
        fixed = await asyncio.to_thread(post, site, "/reload")
        assert (fixed.status, fixed.body["code"], fixed.body["errors"][0]["field"]) == (409, "needs_restart", "workers")
        actions = await app.admin_server.audit.tail(10)
        assert [entry["action"] for entry in actions] == ["reload"] * 4


async def test_the_response_does_not_wait_for_windows_to_empty(site: Site, north: Simulator) -> None:
    north.faults = Faults(latency_ms=1500)
    site.write(carrier("north", north), route("*", "north"))
    async with running(site) as app:
        ids = await site.accept(30)
        await until(lambda: north.stats.accepted == 30)
        site.write(carrier("north", north, window=7), route("*", "north"))
        changes = await app.reloader.reload(wait=0.1)
        assert changes.settling
        assert app.config.carriers[0].window == 7
        assert not await app.reloader.reload()  # waits for the one before
        await until(lambda: sum(bind.window for bind in app.services[0].pool.binds) == 14)
        await site.until_states(ids, State.DELIVERED)
        assert north.stats.duplicates == 0


async def test_sighup_reloads_and_a_dry_run_changes_nothing(site: Site, north: Simulator) -> None:
    site.write(carrier("north", north), route("*", "north"))
    async with running(site) as app:
        site.write(carrier("north", north, rate=77), route("*", "north"))
        assert (await app.reloader.reload(apply=False)).changed
        assert app.config.carriers[0].rate == 0
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: app.config.carriers[0].rate == 77)
        site.write(carrier("north", north, rate="no"), route("*", "north"))
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.1)
        assert app.config.carriers[0].rate == 77


def test_the_reload_command_and_sighup_of_a_process(tmp_path: Path) -> None:
    file, _, admin = write_config(tmp_path)

    def reload(*words: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "gateway", "reload", "--url", f"http://127.0.0.1:{admin}", *words]
        env = os.environ | {"SMPP_GATEWAY_TOKEN": (tmp_path / "data" / "admin.token").read_text().strip()}
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=env)
        return done.returncode, done.stdout, done.stderr

    with serving(file, admin) as gateway:
        text = file.read_text()
        file.write_text(text.replace('password = "secret"', 'password = "secret"\nrate = 7'))
        words = "carrier north changed: rate 500.0 → 7.0 (its binds stay up)\n"
        assert reload("--dry-run") == (0, words + "(dry run: nothing was changed)\n", "")
        assert reload() == (0, words, "")
        file.write_text(text.replace('["north"]', '["nort"]'))
        code, out, errors = reload()
        assert (code, 'no carrier "nort"' in out + errors) == (1, True)
        gateway.send_signal(signal.SIGHUP)
        file.write_text(text)
        gateway.send_signal(signal.SIGHUP)
        code, out, _ = reload("--json")
        assert (code, json.loads(out)["needs_restart"]) == (0, [])
        gateway.send_signal(signal.SIGTERM)
        log = gateway.communicate(timeout=30)[1]
    assert "configuration reloaded" in log or "reload refused" in log
    assert "Traceback" not in log
