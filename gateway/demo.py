"""``smpp-gateway demo``: the whole gateway with two simulated carriers, and six messages followed to their status."""

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
FINAL_TIMEOUT = 15.0  # seconds for a message to become final; the simulated carriers need one


class DemoRecipient(NamedTuple):
    """A number that is not in use, and its city and time zone."""

    number: str
    city: str
    zone: str


SWEDE = DemoRecipient("+46701740605", "Stockholm", "Europe/Stockholm")
CHINESE = DemoRecipient("+8613800138000", "Shanghai", "Asia/Shanghai")
AROUND_THE_WORLD = (
    SWEDE,
    DemoRecipient("+819012345678", "Tokyo", "Asia/Tokyo"),
    DemoRecipient("+919812345678", "Mumbai", "Asia/Kolkata"),
    DemoRecipient("+5511912345678", "São Paulo", "America/Sao_Paulo"),
    DemoRecipient("+18085550123", "Honolulu", "Pacific/Honolulu"),
)


class DemoStep(NamedTuple):
    """One message and its expected outcome."""

    title: str
    to: DemoRecipient
    text: str
    expected: str  # a status, or the error code of a refusal
    category: str = "transactional"
    consent: bool = False  # recorded first


class DemoOutcome(NamedTuple):
    """The outcome of a step. ``seconds``: from the request to the final status, as the app sees it."""

    step: DemoStep
    outcome: str
    seconds: float
    answer: Answer

    @property
    def as_expected(self) -> bool:
        """Whether the outcome is the expected one."""
        return self.outcome == self.step.expected


def nearest(hour: float, now: datetime) -> DemoRecipient:
    """Return the recipient whose local time is nearest to an hour of the day."""

    def distance(recipient: DemoRecipient) -> float:
        there = now.astimezone(ZoneInfo(recipient.zone))
        apart = abs(there.hour + there.minute / 60 - hour)
        return min(apart, 24 - apart)

    return min(AROUND_THE_WORLD, key=distance)


def demo_steps(now: datetime) -> list[DemoStep]:
    """Return the messages to send now. The offers go where it is day, and where it is night."""
    by_day, by_night = nearest(13.5, now), nearest(3.5, now)
    offer = "Autumn sale: 20 % off all lamps until Sunday. Stop: +46701740606"
    long_text = "您的订单已发货。" * 18
    return [
        DemoStep("Order update", SWEDE, "Your parcel is waiting at the corner shop.", "delivered"),
        DemoStep("One-time password", SWEDE, "482913 is your code. Do not share it.", "delivered", "otp"),
        DemoStep("Long text", CHINESE, long_text, "delivered"),
        DemoStep("Offer without consent", by_day, offer, "consent_missing", "marketing"),
        DemoStep("Offer with consent", by_day, offer, "delivered", "marketing", consent=True),
        DemoStep("Offer in quiet hours", by_night, offer, "deferred", "marketing", consent=True),
    ]


# ── sending ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def run_steps(client: Client, steps: list[DemoStep], report: Callable[[DemoOutcome], None]) -> list[DemoOutcome]:
    """Send the messages one by one, follow each to its outcome and report it. Raises Unreachable."""
    outcomes = []
    for step in steps:
        outcome = await _run_step(client, step)
        report(outcome)
        outcomes.append(outcome)
    return outcomes


async def _run_step(client: Client, step: DemoStep) -> DemoOutcome:
    loop = asyncio.get_running_loop()
    if step.consent:
        await asyncio.to_thread(client.grant, step.to.number, method="web_form", evidence="demo")
    message = {"to": step.to.number, "text": step.text, "category": step.category, "from": "Shop"}
    started = loop.time()
    answer = await asyncio.to_thread(client.post, "/v1/messages", message)
    if not answer.ok:
        return DemoOutcome(step, str(answer.body.get("code", answer.status)), loop.time() - started, answer)
    status, path = str(answer.body["status"]), f"/v1/messages/{answer.body['id']}"
    while status in ("queued", "sending", "sent", "unknown") and loop.time() - started < FINAL_TIMEOUT:
        await asyncio.sleep(0.02)
        found = await asyncio.to_thread(client.get, path)
        if found.ok:
            status = str(found.body["status"])
    return DemoOutcome(step, status, loop.time() - started, answer)


def describe(done: DemoOutcome, now: datetime) -> str:
    """Return two lines of rich markup: the message, and its outcome."""
    step, body = done.step, done.answer.body
    clock = now.astimezone(ZoneInfo(step.to.zone)).strftime("%H:%M")
    head = f"[bold]{step.title}[/] to {step.to.number} ({step.to.city}, {clock} local time)"
    if step.consent:
        head += ", after recording consent"
    return f"{head}\n  → {_outcome(done, body)}" + ("" if done.as_expected else f" [red]expected {step.expected}[/]")


def _outcome(done: DemoOutcome, body: Mapping[str, Any]) -> str:
    decision = body.get("decision") or {}
    if not done.answer.ok:
        return f"{status_text('rejected')} {done.answer.status} {done.outcome}: {escape(str(body.get('detail', '')))}"
    if done.outcome in ("deferred", "scheduled"):
        local = datetime.fromisoformat(str(decision.get("next_at"))).astimezone(ZoneInfo(done.step.to.zone))
        return f"{status_text(done.outcome)} until {local:%H:%M} local time ({decision.get('code')})"
    parts = f" in {body['segments']} parts" if body.get("segments", 1) > 1 else ""
    return f"{status_text(done.outcome)}{parts} after {done.seconds * 1000:.0f} ms, {body.get('encoding', '')}"


def next_steps(config: Config, message: str) -> str:
    """Return commands to try, with the addresses of this run and the id of a message; each can be pasted."""
    http, admin, command = f"http://{config.http.listen}", f"http://{config.admin.listen}", shlex.quote(program())
    return f"""
[bold]The gateway keeps running until Ctrl-C.[/] Try in another terminal:

  curl {http}/v1/messages -H 'Authorization: Bearer {KEY}' \\
       -H 'Content-Type: application/json' -d '{{"to": "+46701740605", "text": "Hello"}}'
  curl {http}/v1/messages/{message} -H 'Authorization: Bearer {KEY}'
  curl {admin}/readyz
  {command} send --url {http} --key {KEY} --to +46701740605 --text Hello --wait 5
  {command} explain {message} --url {admin}
  {command} status --url {admin}

In a browser: {http}/docs
"""


def program() -> str:
    """Return how to call this program from the current folder: by its name if that is on the PATH."""
    script = Path(sys.argv[0]).absolute()
    found = shutil.which("smpp-gateway")
    if found and Path(found).absolute() == script:
        return "smpp-gateway"
    if script.name != "smpp-gateway":  # python -m gateway
        script = Path(sys.executable).parent / "smpp-gateway"
    here = Path.cwd()
    return str(script.relative_to(here) if script.is_relative_to(here) else script)


# ── running ─────────────────────────────────────────────────────────────────────────────────────────────────────


def run(*, data: Path | None = None, once: bool = False, as_json: bool = False) -> bool:
    """Run the demo until Ctrl-C or, with ``once``, until the last message. Return whether all went as expected."""
    logs.configure("warning")
    with _folder(data) as folder:
        return run_program(partial(_run, folder, once, as_json))


@contextmanager
def _folder(data: Path | None) -> Iterator[Path]:
    if data is not None:
        yield data
        return
    with tempfile.TemporaryDirectory(prefix="smpp-gateway-demo-", ignore_cleanup_errors=True) as temporary:
        yield Path(temporary)


async def _run(folder: Path, once: bool, as_json: bool, stop: asyncio.Event) -> bool:
    console = SafeConsole(highlight=False, stderr=as_json)
    console.print("Starting two simulated carriers and the gateway …", style="dim")
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
            as_expected = True
            if not gateway.done():
                sending = asyncio.create_task(_send_messages(config, console, once=once, as_json=as_json))
                await _first(gateway, sending, asyncio.create_task(stop.wait()))
                as_expected = sending.result() if sending.done() and not sending.cancelled() else True
            if once:
                stop.set()
            await stop.wait()
        finally:
            stop.set()
            await gateway
        return as_expected


async def _first(*tasks: asyncio.Task[Any]) -> None:
    """Wait until one of the tasks is done, then cancel all but the first, the gateway. Raises the gateway's error."""
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks[1:], return_exceptions=True)
    if tasks[0].done():
        await tasks[0]


async def _send_messages(config: Config, console: Console, *, once: bool, as_json: bool) -> bool:
    now = datetime.now(UTC)
    client = Client(f"http://{config.http.listen}", KEY)
    outcomes = await run_steps(client, demo_steps(now), lambda one: console.print(describe(one, now), soft_wrap=True))
    if as_json:
        steps = [
            {"to": one.step.to.number, "title": one.step.title, "outcome": one.outcome, **one.answer.body}
            for one in outcomes
        ]
        summary = {"http": config.http.listen, "admin": config.admin.listen, "key": KEY, "steps": steps}
        sys.stdout.write(json.dumps(summary, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    if not once:
        first = next((one.answer.body["id"] for one in outcomes if one.answer.ok), "ID")
        console.print(next_steps(config, first), soft_wrap=True)
    return all(one.as_expected for one in outcomes)


def find_config() -> Path:
    """Return demo.toml of the source tree, or the copy in an installed package."""
    package = Path(__file__).parent
    candidates = (package / "defaults" / "demo.toml", package.parent / "config" / "demo.toml")
    return next((path for path in candidates if path.exists()), candidates[-1])


def _environment(folder: Path, ports: Mapping[str, str]) -> dict[str, str]:
    usual = {"HTTP_PORT": 8080, "ADMIN_PORT": 8081, "SMPP_PORT": 2776}
    listeners = {name: str(free_port(port)) for name, port in usual.items()}
    return {**os.environ, "DEMO_DATA": str(folder), **listeners, **ports}


def free_port(wanted: int) -> int:
    """Return the wanted port of 127.0.0.1 if it is free, else another free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")
