"""``smpp-gateway demo``: two simulated carriers, the whole gateway, and a story of six messages told as it happens."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.markup import escape

from gateway import logs
from gateway.app import serve
from gateway.client import Answer, Client
from gateway.commands.output import SafeConsole, status_text
from gateway.config import Config, load
from gateway.runner import run as run_program
from gateway.simulator import Faults, Simulator

KEY = "demo"
PATIENCE = 15.0  # seconds for a message to reach its final state; the simulated carriers need one


class Person(NamedTuple):
    """Somebody in the story: a number that is nobody's, and where it is."""

    number: str
    place: str
    zone: str


SWEDE = Person("+46701740605", "Stockholm", "Europe/Stockholm")
CHINESE = Person("+8613800138000", "Shanghai", "Asia/Shanghai")
AROUND_THE_WORLD = (
    SWEDE,
    Person("+819012345678", "Tokyo", "Asia/Tokyo"),
    Person("+919812345678", "Mumbai", "Asia/Kolkata"),
    Person("+5511912345678", "São Paulo", "America/Sao_Paulo"),
    Person("+18085550123", "Honolulu", "Pacific/Honolulu"),
)


class StoryStep(NamedTuple):
    """One message of the story and what should become of it."""

    title: str
    to: Person
    text: str
    expected: str  # a status, or the code of a refusal
    category: str = "transactional"
    consent: bool = False  # recorded just before


class StoryOutcome(NamedTuple):
    """What became of a step. ``seconds`` from the request to the final state, as the app sees it."""

    step: StoryStep
    outcome: str
    seconds: float
    answer: Answer

    @property
    def as_expected(self) -> bool:
        return self.outcome == self.step.expected


def nearest(hour: float, now: datetime) -> Person:
    """The person whose clock is nearest to an hour of the day."""

    def distance(person: Person) -> float:
        there = now.astimezone(ZoneInfo(person.zone))
        apart = abs(there.hour + there.minute / 60 - hour)
        return min(apart, 24 - apart)

    return min(AROUND_THE_WORLD, key=distance)


def story(now: datetime) -> list[StoryStep]:
    """The messages to send at an instant: somewhere it is always day, and somewhere night."""
    awake, asleep = nearest(13.5, now), nearest(3.5, now)
    offer = "Autumn sale: 20 % off all lamps until Sunday. Stop: +46701740606"
    long_text = "您的订单已发货。" * 18
    return [
        StoryStep("An order's news", SWEDE, "Your parcel is waiting at the corner shop.", "delivered"),
        StoryStep("A code", SWEDE, "482913 is your code. Tell nobody.", "delivered", "otp"),
        StoryStep("A long text", CHINESE, long_text, "delivered"),
        StoryStep("An offer nobody asked for", awake, offer, "consent_missing", "marketing"),
        StoryStep("The same, asked for", awake, offer, "delivered", "marketing", consent=True),
        StoryStep("The same, at night", asleep, offer, "deferred", "marketing", consent=True),
    ]


# ── telling it ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def tell(client: Client, steps: list[StoryStep], report: Callable[[StoryOutcome], None]) -> list[StoryOutcome]:
    """Send the messages one after the other and follow each to where it stays. Raises Unreachable."""
    told = []
    for step in steps:
        done = await _tell_one(client, step)
        report(done)
        told.append(done)
    return told


async def _tell_one(client: Client, step: StoryStep) -> StoryOutcome:
    loop = asyncio.get_running_loop()
    if step.consent:
        await asyncio.to_thread(client.grant, step.to.number, method="web_form", evidence="demo")
    message = {"to": step.to.number, "text": step.text, "category": step.category, "from": "Shop"}
    started = loop.time()
    answer = await asyncio.to_thread(client.post, "/v1/messages", message)
    if not answer.ok:
        return StoryOutcome(step, str(answer.body.get("code", answer.status)), loop.time() - started, answer)
    status, path = str(answer.body["status"]), f"/v1/messages/{answer.body['id']}"
    while status in ("queued", "sending", "sent", "unknown") and loop.time() - started < PATIENCE:
        await asyncio.sleep(0.02)
        found = await asyncio.to_thread(client.get, path)
        if found.ok:
            status = str(found.body["status"])
    return StoryOutcome(step, status, loop.time() - started, answer)


def line(told: StoryOutcome, now: datetime) -> str:
    """A step as rich markup, one line to read and one to explain."""
    step, body = told.step, told.answer.body
    clock = now.astimezone(ZoneInfo(step.to.zone)).strftime("%H:%M")
    head = f"[bold]{step.title}[/] to {step.to.number} ({step.to.place}, {clock} there)"
    if step.consent:
        head += "; consent recorded first"
    return f"{head}\n  → {_outcome(told, body)}" + ("" if told.as_expected else f" [red]expected {step.expected}[/]")


def _outcome(told: StoryOutcome, body: Mapping[str, Any]) -> str:
    decision = body.get("decision") or {}
    if not told.answer.ok:
        return f"{status_text('rejected')} {told.answer.status} {told.outcome}: {escape(str(body.get('detail', '')))}"
    if told.outcome in ("deferred", "scheduled"):
        there = datetime.fromisoformat(str(decision.get("next_at"))).astimezone(ZoneInfo(told.step.to.zone))
        return f"{status_text(told.outcome)} until {there:%H:%M} there ({decision.get('code')})"
    parts = f" in {body['segments']} parts" if body.get("segments", 1) > 1 else ""
    return f"{status_text(told.outcome)}{parts} after {told.seconds * 1000:.0f} ms, {body.get('encoding', '')}"


def where_to_look(config: Config, message: str) -> str:
    """What to try next, with this run's addresses and the id of one of its messages: every line works as it stands."""
    http, admin, command = f"http://{config.http.listen}", f"http://{config.admin.listen}", shlex.quote(own_command())
    return f"""
[bold]It keeps running; Ctrl-C ends it.[/] Try, in another terminal:

  curl {http}/v1/messages -H 'Authorization: Bearer {KEY}' \\
       -H 'Content-Type: application/json' -d '{{"to": "+46701740605", "text": "Hello"}}'
  curl {http}/v1/messages/{message} -H 'Authorization: Bearer {KEY}'
  curl {admin}/readyz
  {command} send --url {http} --key {KEY} --to +46701740605 --text Hello --wait 5
  {command} explain {message} --url {admin}
  {command} status --url {admin}

In a browser: {http}/docs
"""


def own_command() -> str:
    """How this program is called from the folder that we are in: by its name when that is on the PATH."""
    script = Path(sys.argv[0]).absolute()
    found = shutil.which("smpp-gateway")
    if found and Path(found).absolute() == script:
        return "smpp-gateway"
    if script.name != "smpp-gateway":  # python -m gateway
        script = Path(sys.executable).parent / "smpp-gateway"
    here = Path.cwd()
    return str(script.relative_to(here) if script.is_relative_to(here) else script)


# ── running it ─────────────────────────────────────────────────────────────────────────────────────────────────────


def run(*, data: Path | None = None, once: bool = False, as_json: bool = False) -> bool:
    """The whole demo, until Ctrl-C or, with ``once``, the story's end. False when a step went otherwise than told."""
    logs.configure("warning")
    with _folder(data) as folder:
        return run_program(partial(_play, folder, once, as_json))


@contextmanager
def _folder(data: Path | None) -> Iterator[Path]:
    if data is not None:
        yield data
        return
    with tempfile.TemporaryDirectory(prefix="smpp-gateway-demo-", ignore_cleanup_errors=True) as room:
        yield Path(room)


async def _play(folder: Path, once: bool, as_json: bool, stop: asyncio.Event) -> bool:
    console = SafeConsole(highlight=False, stderr=as_json)
    console.print("Starting two carriers and the gateway …", style="dim")
    async with AsyncExitStack() as stack:
        ports = {}
        for name in ("NORTH_PORT", "SOUTH_PORT"):
            simulator = Simulator(Faults(latency_ms=10, receipt_delay_ms=200))
            ports[name] = str(await simulator.start())
            stack.push_async_callback(simulator.stop)
        config = load(find_config(), _environment(folder, ports))
        ready = asyncio.Event()
        gateway = asyncio.create_task(serve(config, on_ready=lambda *_: ready.set(), stop=stop))
        try:
            await _first(gateway, asyncio.create_task(ready.wait()))
            good = True
            if not gateway.done():
                telling = asyncio.create_task(_tell(config, console, once=once, as_json=as_json))
                await _first(gateway, telling, asyncio.create_task(stop.wait()))
                good = telling.result() if telling.done() and not telling.cancelled() else True
            if once:
                stop.set()
            await stop.wait()
        finally:
            stop.set()
            await gateway
        return good


async def _first(*tasks: asyncio.Task[Any]) -> None:
    """Wait for the first of some tasks (the gateway is the first given); cancel the others but it. Its error counts."""
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks[1:], return_exceptions=True)
    if tasks[0].done():
        await tasks[0]


async def _tell(config: Config, console: Console, *, once: bool, as_json: bool) -> bool:
    now = datetime.now(UTC)
    client = Client(f"http://{config.http.listen}", KEY)
    told = await tell(client, story(now), lambda one: console.print(line(one, now), soft_wrap=True))
    if as_json:
        steps = [{"to": t.step.to.number, "title": t.step.title, "outcome": t.outcome, **t.answer.body} for t in told]
        summary = {"http": config.http.listen, "admin": config.admin.listen, "key": KEY, "steps": steps}
        sys.stdout.write(json.dumps(summary, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    if not once:
        first = next((one.answer.body["id"] for one in told if one.answer.ok), "ID")
        console.print(where_to_look(config, first), soft_wrap=True)
    return all(one.as_expected for one in told)


def find_config() -> Path:
    """demo.toml of the source tree, or the copy inside an installed package."""
    package = Path(__file__).parent
    candidates = (package / "defaults" / "demo.toml", package.parent / "config" / "demo.toml")
    return next((path for path in candidates if path.exists()), candidates[-1])


def _environment(folder: Path, ports: Mapping[str, str]) -> dict[str, str]:
    usual = {"HTTP_PORT": 8080, "ADMIN_PORT": 8081, "SMPP_PORT": 2776}
    listeners = {name: str(free_port(port)) for name, port in usual.items()}
    return {**os.environ, "DEMO_DATA": str(folder), **listeners, **ports}


def free_port(wanted: int) -> int:
    """The wanted port of 127.0.0.1 when nobody listens there, else one that the kernel chooses."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")
