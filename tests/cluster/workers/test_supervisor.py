"""A real supervisor with two workers: one gateway to apps and to operators, whichever worker they happen to reach."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from gateway.cli import app as command_line
from gateway.client import Client
from gateway.simulator import Faults
from tests.running_gateway import KEY, TOKEN, RunningGateway, extra, missing, running_gateway, until
from tests.servers import alive

DOCS = Path(__file__).parents[3] / "docs" / "metrics.md"
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    async with running_gateway(
        tmp_path_factory.mktemp("workers"), faults=Faults(receipt_delay_ms=50), workers=2
    ) as built:
        await settled(built, lambda body: all(worker["state"] == "up" for worker in body["workers"]))
        yield built


async def settled(
    gateway: RunningGateway, holds: Callable[[dict[str, Any]], bool], seconds: float = 20.0
) -> dict[str, Any]:
    """The status, once it is as wanted."""
    async with asyncio.timeout(seconds):
        while True:
            body = await gateway.status()
            if "workers" in body and holds(body):
                return body
            await asyncio.sleep(0.05)


async def both_serve(gateway: RunningGateway, count: int, first: int) -> list[Any]:
    """Post on connections of their own, which the kernel hands to either worker."""
    accepted = []
    for number in range(first, first + count):
        client = Client(gateway.http.url, KEY)
        answer = await asyncio.to_thread(client.post, "/v1/messages", {"to": f"+{number}", "text": f"Hello {number}"})
        assert answer.status == 202, answer
        accepted.append(answer.body)
    return accepted


def command_line_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[1:-1]


def command(gateway: RunningGateway, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(command_line, [*words, "--url", gateway.admin.url, "--token", TOKEN])
    return done.exit_code, done.output


def page(gateway: RunningGateway) -> dict[str, dict[tuple[str, ...], float]]:
    """Samples: name -> values of the labels in the order of their names -> value."""
    request = urllib.request.Request(f"{gateway.admin.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        text = reply.read().decode()
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families), "a family stands twice"
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for sample in (sample for family in families for sample in family.samples):
        labels = tuple(dict(sorted(sample.labels.items())).values())
        assert labels not in found.setdefault(sample.name, {}), sample
        found[sample.name][labels] = sample.value
    return found


def allowed(gateway: RunningGateway, path: str) -> str | None:
    """What a 405 names."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(f"{gateway.admin.url}{path}", headers=headers, method="DELETE")
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=10)
    assert refusal.value.code == 405
    said: str | None = refusal.value.headers["Allow"]
    return said


async def test_messages_of_both_workers_are_delivered(gateway: RunningGateway) -> None:
    accepted = await both_serve(gateway, 40, 46_700_000_000)
    await until(lambda: len(gateway.copies()) >= 40, 10)
    metrics = await asyncio.to_thread(page, gateway)
    taken = {labels[-1]: value for labels, value in metrics["smpp_gateway_intake_messages_total"].items()}
    assert set(taken) == {"1", "2"}
    assert sum(taken.values()) >= 40
    client = gateway.http  # whichever worker answers: the record is the same
    await until(lambda: client.get(f"/v1/messages/{accepted[-1]['id']}").body["status"] == "delivered", 10)
    code, said = await asyncio.to_thread(command, gateway, "explain", accepted[-1]["id"])
    assert (code, "reported its delivery" in said) == (0, True)


async def test_one_metrics_page_covers_all_workers(gateway: RunningGateway) -> None:
    metrics = await asyncio.to_thread(page, gateway)
    own = {name for name in metrics if "worker" in name}
    assert own == set(re.findall(r"smpp_gateway_worker\w+", DOCS.read_text()))
    assert metrics["smpp_gateway_workers"] == {("supervisor",): 2}
    assert metrics["smpp_gateway_workers_up"] == {("supervisor",): 2}
    assert set(metrics["process_cpu_seconds_total"]) == {("supervisor",), ("1",), ("2",)}
    assert list(metrics["smpp_gateway_leases"]) == [()]
    assert list(metrics["smpp_gateway_store_up"]) == [()]
    assert {labels[-1] for labels in metrics["smpp_gateway_binds_up"]} == {"1", "2"}


async def test_the_status_lists_the_workers_and_commands_work_unchanged(gateway: RunningGateway) -> None:
    body = await gateway.status()
    assert [(one["name"], one["state"], one["restarts"]) for one in body["workers"]] == [("1", "up", 0), ("2", "up", 0)]
    assert gateway.process is not None
    assert len({gateway.process.process.pid, *(one["pid"] for one in body["workers"])}) == 3
    code, said = await asyncio.to_thread(command, gateway, "status", "--once")
    assert (code, "north" in said, str(body["workers"][1]["pid"]) in said) == (0, True, True)
    for words in (["queue"], ["held"], ["breakers"], ["webhooks"], ["carriers", "show", "north"], ["audit"]):
        code, said = await asyncio.to_thread(command, gateway, *words)
        assert code == 0, said


async def test_an_action_reaches_every_worker_and_is_recorded_once(gateway: RunningGateway) -> None:
    code, said = await asyncio.to_thread(command, gateway, "carriers", "pause", "north")
    assert code == 0, said
    body = (await asyncio.to_thread(gateway.admin.get, "/carriers/north")).body
    assert {(bind["worker"], bind["mode"]) for bind in body["binds"]} == {("1", "paused"), ("2", "paused")}
    code, said = await asyncio.to_thread(command, gateway, "carriers", "resume", "north", "--wait", "5")
    assert code == 0, said
    code, said = await asyncio.to_thread(command, gateway, "breakers", "open", "--account", "shop", "--reason", "why")
    assert (code, "shop" in said) == (0, True)
    code, said = await asyncio.to_thread(command, gateway, "breakers", "close", "--account", "shop")
    assert code == 0, said
    entries = (await asyncio.to_thread(gateway.admin.get, "/audit?limit=4")).body["entries"]
    assert [(e["action"], e["who"], e["outcome"]) for e in entries] == [
        ("breaker.close", "admin", "done"),
        ("breaker.open", "admin", "done"),
        ("carrier.resume", "admin", "done"),
        ("carrier.pause", "admin", "done"),
    ]


async def test_unknown_targets_and_missing_rights_are_refused(gateway: RunningGateway) -> None:
    assert (await asyncio.to_thread(gateway.admin.get, "/carriers/east")).status == 404
    assert (await asyncio.to_thread(gateway.admin.get, "/nothing")).status == 404
    assert (await asyncio.to_thread(gateway.admin.post, "/carriers/north/explode", {})).status == 404
    assert await asyncio.to_thread(allowed, gateway, "/carriers") == "GET, HEAD"
    answer = await asyncio.to_thread(gateway.admin.post, "/carriers/north/binds/1/pause?worker=9", {})
    assert (answer.status, "configured workers: 1, 2" in answer.body["detail"]) == (404, True)
    assert (await asyncio.to_thread(Client(gateway.admin.url).get, "/status")).status == 401
    assert (await asyncio.to_thread(Client(gateway.admin.url, KEY).get, "/status")).status == 403
    assert (await asyncio.to_thread(Client(gateway.admin.url).get, "/healthz")).ok


async def test_no_secret_is_on_a_command_line(gateway: RunningGateway) -> None:
    for worker in (await gateway.status())["workers"]:
        words = command_line_of(worker["pid"])
        assert words[:4] == ["-P", "-m", "gateway.cluster.workers", worker["name"]]
        assert len(words) == 5


async def test_a_reload_is_checked_once_and_applied_by_all_workers(gateway: RunningGateway) -> None:
    good = gateway.file.read_text()
    pids = [one["pid"] for one in (await gateway.status())["workers"]]
    gateway.file.write_text(good.replace("rate = 0", "rate = fast"))
    code, said = await asyncio.to_thread(command, gateway, "reload")
    assert (code, "nothing has changed" in said) == (1, True)
    gateway.file.write_text(good.replace("rate = 0", "rate = 250").replace("workers = 2", "workers = 3"))
    code, said = await asyncio.to_thread(command, gateway, "reload")
    assert (code, "workers changed: 2 → 3" in said, "its binds stay up" in said) == (0, True, True)
    body = await settled(gateway, lambda body: [one["state"] for one in body["workers"]] == ["up"] * 3)
    assert [one["pid"] for one in body["workers"]][:2] == pids
    metrics = await asyncio.to_thread(page, gateway)
    assert {labels for labels in metrics["smpp_gateway_pace_ceiling"] if labels[0] == "north"} == {
        ("north", "1"),
        ("north", "2"),
        ("north", "3"),
    }
    ours = [value for labels, value in metrics["smpp_gateway_pace_ceiling"].items() if labels[0] == "north"]
    assert 0 < sum(ours) < 250.01, "they share it"
    third = body["workers"][2]["pid"]
    gateway.file.write_text(good)
    assert gateway.process is not None
    os.kill(gateway.process.process.pid, signal.SIGHUP)
    await settled(gateway, lambda body: len(body["workers"]) == 2)
    await until(lambda: not alive(third), 5)


async def test_a_killed_worker_is_restarted_and_nothing_is_lost(gateway: RunningGateway) -> None:
    messages = [{"to": f"+{46_710_000_000 + i}", "text": f"Load {i}"} for i in range(3_000)]
    before = extra(gateway.copies())
    posting = [asyncio.create_task(gateway.post(messages[i : i + 100])) for i in range(0, 3_000, 100)]
    victim = (await gateway.status())["workers"][0]
    await asyncio.sleep(0.3)
    os.kill(victim["pid"], signal.SIGKILL)
    batches = await asyncio.gather(*posting, return_exceptions=True)
    accepted = [message for batch in batches if not isinstance(batch, BaseException) for message in batch]
    assert len(accepted) >= 1_000
    body = await settled(gateway, lambda body: body["workers"][0]["state"] == "up" and body["workers"][0]["restarts"])
    assert (body["workers"][0]["pid"] != victim["pid"], body["workers"][1]["restarts"]) == (True, 0)
    await until(lambda: not missing(accepted, gateway.copies()), 30)
    assert extra(gateway.copies()) - before <= 2 * 2 * 100  # carriers, binds of one worker, window
    assert "killed by SIGKILL" in (gateway.folder / "gateway.log").read_text()


async def test_workers_of_a_killed_supervisor_stop_and_the_next_one_continues(gateway: RunningGateway) -> None:
    workers = (await gateway.status())["workers"]
    accepted = await gateway.post([{"to": f"+{46_720_000_000 + i}", "text": f"Late {i}"} for i in range(500)])
    await gateway.kill()
    await gateway.start()
    assert not any(alive(worker["pid"]) for worker in workers)
    await until(lambda: not missing(accepted, gateway.copies()), 20)
    log = (gateway.folder / "gateway.log").read_text()
    assert "embedded store adopted" in log
    assert sum(extra({to: copies}) for to, copies in gateway.copies().items() if to.startswith("4672")) == 0


async def test_sigterm_stops_all_workers_without_errors(gateway: RunningGateway) -> None:
    workers = (await gateway.status())["workers"]
    assert await gateway.stop() == 0
    assert not any(alive(worker["pid"]) for worker in workers)
    log = (gateway.folder / "gateway.log").read_text()
    assert "Traceback" not in log
    assert not [line for line in log.splitlines() if '"level":"error"' in line]
