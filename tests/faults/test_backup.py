"""A backup of a gateway at work, its machine lost, and what a restored store sends: nothing twice unless released."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.client import Unreachable
from gateway.config import load
from gateway.model import Reason, State
from gateway.open_store import open_store
from gateway.simulator import Faults, Simulator
from gateway.store import ids
from gateway.store.keys import GENERATION, RESTORED, Hasher
from gateway.store.messages import MessageStore
from gateway.store.records import MessageRecord
from tests.running_gateway import Message, RunningGateway, until
from tests.servers import Cluster

SLOW = "binds = 1\nwindow = 20"


async def command(*words: object) -> tuple[int, str]:
    """Run ``smpp-gateway`` in a process of its own; return exit code and output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *map(str, words)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def records(gateway: RunningGateway, messages: Sequence[Message]) -> tuple[list[MessageRecord | None], Any]:
    """Return what the store of a stopped gateway has of these messages, with its flags and the fields of its meta."""
    async with open_store(load(gateway.file)) as (link, secrets, _):
        hasher = Hasher(secrets.hashing, link.partitions)
        store = MessageStore(link, hasher, secrets.vault, partitions=link.partitions)
        found = await store.find([ids.parse(message.id) for message in messages])
        return found, (await store.flags(), await link.meta())


async def until_held(gateway: RunningGateway, count: int) -> None:
    async with asyncio.timeout(60):
        while (await gateway.status())["held"] < count:  # noqa: ASYNC110 - it is asked over HTTP
            await asyncio.sleep(0.1)


async def lose_machine(gateway: RunningGateway) -> None:
    """Kill the gateway and the server of its store at once."""
    assert gateway.process is not None
    pids = [gateway.process.process.pid, int((gateway.folder / "data" / "server.pid").read_text())]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    await gateway.process.stop()


@asynccontextmanager
async def carriers(faults: Faults | None = None) -> AsyncIterator[dict[str, Simulator]]:
    built = {name: Simulator(faults, ledger=True) for name in ("north", "south")}
    for one in built.values():
        await one.start()
    try:
        yield built
    finally:
        for one in built.values():
            await one.stop()


def new_gateway(folder: Path, built: dict[str, Simulator], store: str = "", settings: str = SLOW) -> RunningGateway:
    folder.mkdir(exist_ok=True)
    return RunningGateway(folder, built, settings, store=store, more="[policy]\notp_caps = []")


def sent_by(gateway: RunningGateway) -> Counter[str]:
    """Recipient -> how often the carriers accepted something for it."""
    return Counter({to: sum(parts.values()) for to, parts in gateway.copies().items()})


async def test_a_backup_under_load_is_restored_and_sends_nothing_twice(tmp_path: Path) -> None:
    """Offered 1,000 a second, sent 400: at the snapshot messages wait, are on their way, and were sent."""
    async with carriers(Faults(latency_ms=100, receipt_delay_ms=200)) as built:
        first, second = new_gateway(tmp_path / "first", built), new_gateway(tmp_path / "second", built)
        archive = tmp_path / "backup.tar"
        accepted: list[Message] = []

        async def work() -> None:
            number = 46_700_000_000
            while True:
                categories = ["otp", "transactional"]
                accepted.extend(
                    await first.post(
                        [
                            {"to": f"+{number + i}", "text": f"Hello {i}", "category": categories[i % 2]}
                            for i in range(100)
                        ]
                    )
                )
                number += 100
                await asyncio.sleep(0.1)

        await first.start()
        working = asyncio.create_task(work())
        try:
            await until(lambda: len(accepted) >= 900, 60)
            before = list(accepted)
            code, said = await command("backup", archive, "--config", first.file)
            assert (code, "with the secrets" in said) == (0, True), said
            count = len(accepted)
            await until(lambda: len(accepted) > count, 20)  # it goes on
        finally:
            await lose_machine(first)
            with contextlib.suppress(Unreachable):
                await working

        code, said = await command("restore", archive, "--config", second.file)
        assert (code, "held release --restored" in said) == (0, True), said
        found, (flags, meta) = await records(second, before)
        assert all(found), "everything that was accepted before the snapshot is there"
        states = Counter(one.state for one in found if one)
        assert states[State.QUEUED] > 100
        assert states[State.SENT] + states[State.DELIVERED] > 100
        assert all(one.accepted_at < flags[RESTORED] for one in found if one)
        assert meta[GENERATION] == b"1"

        earlier = sent_by(second)
        await second.start()
        try:
            assert (await second.status())["restored"]
            later = await second.post([{"to": f"+4679{i:07}", "text": "New", "category": "otp"} for i in range(50)])
            await until(lambda: all(sent_by(second)[message.to] == 1 for message in later), 60)
            await until_held(second, states[State.QUEUED])
            assert sent_by(second) - earlier == Counter({message.to: 1 for message in later})

            code, said = await command(
                *("held", "release", "--restored", "--url", second.admin.url, "--token", "token-of-the-operators")
            )
            assert code == 0, said
            waiting = [message.to for message, one in zip(before, found, strict=True) if _waits(one)]
            await until(lambda: all((sent_by(second) - earlier)[to] for to in waiting), 60)
            again = sent_by(second) - earlier
            assert all(again[to] == 1 for to in waiting), "each once"
            done = [message.to for message, one in zip(before, found, strict=True) if _is_done(one)]
            assert not any(again[to] for to in done), "what had been sent before the backup is not sent again"
            assert ((await second.status())["held"], (await second.status())["restored"]) == (0, "")
        finally:
            await second.stop()


def _waits(one: MessageRecord | None) -> bool:
    return one is not None and one.state is State.QUEUED


def _is_done(one: MessageRecord | None) -> bool:
    return one is not None and one.state in (State.SENT, State.DELIVERED)


async def test_an_embedded_store_moves_to_a_cluster_and_back(tmp_path: Path) -> None:
    """What no carrier could send is in the cluster, then in another embedded store, and is sent from there."""
    cluster = Cluster()
    everysec = 'durability = "everysec"'
    async with carriers() as built:
        folders = [tmp_path / name for name in ("embedded", "cluster", "back")]
        stores = [everysec, f'url = "{cluster.url}"\n{everysec}', everysec]
        first, middle, last = (new_gateway(folder, built, store) for folder, store in zip(folders, stores, strict=True))
        try:
            await first.start()
            for name in built:
                await asyncio.to_thread(first.admin.post, f"/carriers/{name}/pause", {})
            accepted = await first.post([{"to": f"+4670{i:07}", "text": "Hello"} for i in range(400)])
            await first.stop()
            for source, target in ((first, middle), (middle, last)):
                archive = tmp_path / f"{source.folder.name}.tar"
                code, said = await command("backup", archive, "--config", source.file)
                assert code == 0, said
                code, said = await command("restore", archive, "--config", target.file)
                assert code == 0, said
            found, (_, meta) = await records(middle, accepted)
            assert {one.state for one in found if one} == {State.QUEUED}
            assert all(found)
            assert all(len(node.run("KEYS", "*")) > 20 for node in cluster.nodes)
            found, (_, meta) = await records(last, accepted)
            assert all(found)
            assert meta[GENERATION] == b"2"
            await last.start()
            for name in built:
                await asyncio.to_thread(last.admin.post, f"/carriers/{name}/resume", {})
            await until_held(last, len(accepted))
            assert not sent_by(last)
            await asyncio.to_thread(last.admin.post, "/held/release", {"restored": True})
            await until(lambda: len(sent_by(last)) == len(accepted), 60)
            assert set(sent_by(last).values()) == {1}
        finally:
            await first.stop()
            await last.stop()
            cluster.stop()


async def test_a_disk_that_is_full_leaves_nothing_half(tmp_path: Path) -> None:
    async with carriers() as built:
        gateway = new_gateway(tmp_path / "data", built)
        await gateway.start()
        try:
            await gateway.post([{"to": f"+4670{i:07}", "text": "Hello"} for i in range(100)])
            out = tmp_path / "out"
            out.mkdir()
            limited = f"ulimit -f 30; exec {sys.executable} -m gateway backup {out / 'b.tar'} --config {gateway.file}"
            words = f"{limited} --secrets {out / 's.json'}"
            process = await asyncio.create_subprocess_exec(
                *("bash", "-c", words), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            said = (await process.communicate())[0].decode()
            assert (process.returncode, "cannot write" in said, "File too large" in said) == (1, True, True), said
            assert list(out.iterdir()) == []
            assert (await command("backup", out / "b.tar", "--config", gateway.file))[0] == 0
            assert [path.name for path in out.iterdir()] == ["b.tar"]
        finally:
            await gateway.stop()


async def test_what_is_held_for_it_says_so(tmp_path: Path) -> None:
    """The reason is in the message's status, for the app as well."""
    async with carriers() as built:
        first, second = new_gateway(tmp_path / "first", built), new_gateway(tmp_path / "second", built)
        await first.start()
        for name in built:
            await asyncio.to_thread(first.admin.post, f"/carriers/{name}/drain", {})
        (message,) = await first.post([{"to": "+46701740605", "text": "Hello"}])
        await first.stop()
        assert (await command("backup", tmp_path / "b.tar", "--config", first.file))[0] == 0
        assert (await command("restore", tmp_path / "b.tar", "--config", second.file))[0] == 0
        await second.start()
        try:
            for name in built:
                await asyncio.to_thread(second.admin.post, f"/carriers/{name}/resume", {})
            await until_held(second, 1)
            shown = (await asyncio.to_thread(second.http.get, f"/v1/messages/{message.id}")).body
            assert shown["status"] == "held"
            assert shown["timeline"][-1]["reason"] == Reason.RESTORED.name.lower()
        finally:
            await second.stop()


async def test_several_workers_are_backed_up_restored_and_released_as_one(tmp_path: Path) -> None:
    async with carriers() as built:
        (tmp_path / "first").mkdir()
        (tmp_path / "second").mkdir()
        first, second = (RunningGateway(tmp_path / name, built, SLOW, workers=2) for name in ("first", "second"))
        await first.start()
        try:
            for name in built:
                await asyncio.to_thread(first.admin.post, f"/carriers/{name}/pause", {})
            accepted = await first.post([{"to": f"+4670{i:07}", "text": "Hello"} for i in range(100)])
            code, said = await command("backup", tmp_path / "b.tar", "--config", first.file)
            assert code == 0, said
        finally:
            await first.stop()
        code, said = await command("restore", tmp_path / "b.tar", "--config", second.file)
        assert code == 0, said
        await second.start()
        try:
            for name in built:
                await asyncio.to_thread(second.admin.post, f"/carriers/{name}/resume", {})
            await until_held(second, len(accepted))
            assert (await second.status())["restored"]
            assert not sent_by(second)
            await asyncio.to_thread(second.admin.post, "/held/release", {"restored": True})
            await until(lambda: len(sent_by(second)) == len(accepted), 60)
            assert set(sent_by(second).values()) == {1}
        finally:
            await second.stop()
