"""``smpp-gateway backup`` and ``restore``: from and into every kind of store, and everything they refuse."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.commands.common import Exit
from gateway.config import load
from gateway.open_store import open_store
from gateway.store.backup.archive import MANIFEST
from gateway.store.backup.restore import CLOCKS_APART, _explained, _groups, held_before
from gateway.store.embedded.file_lock import open_lock, try_lock
from gateway.store.errors import StoreError, StoreRefused
from gateway.store.keys import GENERATION, META, RESTORED, RESTORING, tags
from tests.servers import Server

ACCOUNT = '[[account]]\nname = "shop"\napi_keys = ["plain:key"]\n'
OTHER_SECRETS = (
    '[privacy]\nhashing_secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="\n'
    'encryption_keys = { 1 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" }\n'
)
P0 = tags(8)[0]


def configured(folder: Path, name: str, url: str = "", more: str = "", partitions: int = 8) -> Path:
    """Write a configuration with a data folder of its own."""
    store = f'data_dir = "{folder / name}"\ndurability = "everysec"\npartitions = {partitions}\n'
    store += f'url = "{url}"\n' if url else ""
    file = folder / f"{name}.toml"
    file.write_text(f"[store]\n{store}\n{more}\n{ACCOUNT}")
    return file


def fill(config: Path) -> None:
    """Start the store of a configuration, write something into it, and stop it."""

    async def run() -> None:
        async with open_store(load(config)) as (link, _, _):
            await link.command(0, b"SET", P0 + b"c:there", b"1", b"PX", 3_600_000)
            await link.command(0, b"HSET", P0 + b"f", b"epoch", b"3")
            for partition, tag in enumerate(link.tags):
                await link.command(partition, b"RPUSH", tag + b"q:lane/shop", *[b"%d" % n for n in range(300)])

    asyncio.run(run())


class Found:
    """What a store has."""

    def __init__(self, config: Path) -> None:
        asyncio.run(self._read(config))

    async def _read(self, config: Path) -> None:
        async with open_store(load(config)) as (link, _, _):
            self.meta = await link.meta()
            self.flags = [int(await link.command(p, b"HGET", tag + b"f", RESTORED)) for p, tag in enumerate(link.tags)]
            self.epoch = await link.command(0, b"HGET", P0 + b"f", b"epoch")
            self.lifetime = await link.command(0, b"PTTL", P0 + b"c:there")
            self.lists = [await link.command(p, b"LLEN", tag + b"q:lane/shop") for p, tag in enumerate(link.tags)]

    def check(self, instant: int, generation: int = 1) -> None:
        assert self.lists == [300] * 8
        assert self.epoch == b"3"
        assert 3_000_000 < self.lifetime <= 3_600_000
        assert len(set(self.flags)) == 1
        assert instant <= self.flags[0] <= instant + CLOCKS_APART
        assert self.meta[GENERATION] == b"%d" % generation
        assert RESTORING not in self.meta


def run(*words: object, code: Exit = Exit.OK) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


def backed_up(archive: Path, config: Path, *more: object) -> int:
    """Take a backup and return its instant."""
    instant = json.loads(run("backup", archive, "--config", config, "--json", *more))["instant"]
    assert isinstance(instant, int)
    return instant


@pytest.fixture
def server() -> Iterator[Server]:
    built = Server("--repl-diskless-sync-delay", "0")
    yield built
    built.stop()


def test_from_embedded_to_embedded(tmp_path: Path) -> None:
    source, target, again = (configured(tmp_path, name) for name in ("source", "target", "again"))
    fill(source)
    instant = backed_up(tmp_path / "b.tar", source)
    said = run("restore", tmp_path / "b.tar", "--config", target)
    assert "generation 1" in said
    assert "held until smpp-gateway held release --restored" in said
    Found(target).check(instant)
    assert sorted(path.name for path in (tmp_path / "target").glob("restor*")) == []
    assert (tmp_path / "target" / "secrets.json").stat().st_mode & 0o777 == 0o600
    second = backed_up(tmp_path / "c.tar", target)
    run("restore", tmp_path / "c.tar", "--config", again)
    Found(again).check(second, generation=2)


def test_from_a_server_with_others_keys_to_embedded_and_back(tmp_path: Path, server: Server) -> None:
    source = configured(tmp_path, "source", f"{server.url}?db=2")
    server.run("SET", "others", "in database 0")
    fill(source)
    server.run("SELECT", 2)
    server.run("SET", "foreign", "in ours")
    instant = backed_up(tmp_path / "b.tar", source)
    target = configured(tmp_path, "target")
    assert "left out, as they are not the gateway's: 1 key " in run("restore", tmp_path / "b.tar", "--config", target)
    Found(target).check(instant)
    instant = backed_up(tmp_path / "c.tar", target)
    run("restore", tmp_path / "c.tar", "--config", configured(tmp_path, "last", f"{server.url}?db=5"))
    Found(tmp_path / "last.toml").check(instant, generation=2)


def test_secrets_apart(tmp_path: Path) -> None:
    source, target = (configured(tmp_path, name) for name in ("source", "target"))
    fill(source)
    backed_up(tmp_path / "b.tar", source, "--secrets", tmp_path / "s.json")
    backed_up(tmp_path / "c.tar", source, "--secrets", tmp_path / "s.json")  # the same secrets: kept
    backed_up(tmp_path / "d.tar", source, "--no-secrets")
    for name in "bcd":
        with tarfile.open(tmp_path / f"{name}.tar") as tar:
            assert tar.getnames() == ["snapshot-1.rdb", MANIFEST]
    assert (tmp_path / "s.json").stat().st_mode & 0o777 == 0o600
    said = run("restore", tmp_path / "b.tar", "--config", target, code=Exit.REFUSED)
    assert "made without the secrets: pass their file with --secrets FILE" in said
    run("restore", tmp_path / "b.tar", "--config", target, "--secrets", tmp_path / "s.json")
    assert (tmp_path / "target" / "secrets.json").read_text() == (tmp_path / "s.json").read_text()
    (tmp_path / "s.json").write_text("{}")
    said = run("backup", tmp_path / "e.tar", "--config", source, "--secrets", tmp_path / "s.json", code=Exit.REFUSED)
    assert "exists and has something else" in said
    assert not (tmp_path / "e.tar").exists()
    run("backup", tmp_path / "e.tar", "--config", source, "--secrets", "x", "--no-secrets", code=Exit.USAGE)


def test_secrets_of_the_configuration(tmp_path: Path) -> None:
    source, target = (configured(tmp_path, name, more=OTHER_SECRETS) for name in ("source", "target"))
    fill(source)
    instant = backed_up(tmp_path / "b.tar", source)
    run("restore", tmp_path / "b.tar", "--config", target)
    assert not (tmp_path / "target" / "secrets.json").exists()
    Found(target).check(instant)
    plain = configured(tmp_path, "plain")  # whose secrets come out of the archive
    run("restore", tmp_path / "b.tar", "--config", plain)
    Found(plain).check(instant)


def test_wrong_secrets_are_refused(tmp_path: Path) -> None:
    source, target = configured(tmp_path, "source"), configured(tmp_path, "target", more=OTHER_SECRETS)
    fill(source)
    backed_up(tmp_path / "b.tar", source)
    said = run("restore", tmp_path / "b.tar", "--config", target, code=Exit.REFUSED)
    assert "the secrets of this configuration are not those of the backup" in said
    kept = json.loads((tmp_path / "source" / "secrets.json").read_text())
    kept["keys"] = {"2": kept["keys"]["1"]} | {"1": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}
    (tmp_path / "s.json").write_text(json.dumps(kept))
    words = ("restore", tmp_path / "b.tar", "--config", configured(tmp_path, "another"), "--secrets")
    said = run(*words, tmp_path / "s.json", code=Exit.REFUSED)
    assert "have no encryption key 1, or another one than the backup" in said
    said = run(*words, tmp_path / "none.json", code=Exit.REFUSED)
    assert "No such file" in said
    assert not (tmp_path / "another" / "appendonlydir").exists()


def test_a_store_that_is_not_empty_is_refused(tmp_path: Path, server: Server) -> None:
    source = configured(tmp_path, "source")
    fill(source)
    backed_up(tmp_path / "b.tar", source)
    said = run("restore", tmp_path / "b.tar", "--config", source, code=Exit.REFUSED)
    assert "holds data (appendonlydir)" in said
    remote = configured(tmp_path, "remote", server.url)
    server.run("SET", "x", "y")
    said = run("restore", tmp_path / "b.tar", "--config", remote, code=Exit.REFUSED)
    assert "holds 1 keys, and a backup is restored into an empty store only" in said
    assert server.run("KEYS", "*") == [b"x"]


def test_a_running_gateway_is_refused_as_target(tmp_path: Path) -> None:
    source, target = (configured(tmp_path, name) for name in ("source", "target"))
    fill(source)
    backed_up(tmp_path / "b.tar", source)
    (tmp_path / "target").mkdir()
    lock = open_lock(tmp_path / "target" / "gateway.lock")
    assert try_lock(lock)
    assert "in use by a running gateway" in run("restore", tmp_path / "b.tar", "--config", target, code=Exit.REFUSED)


def test_partitions_of_the_configuration_count(tmp_path: Path) -> None:
    source, other = configured(tmp_path, "source"), configured(tmp_path, "other", partitions=16)
    fill(source)
    backed_up(tmp_path / "b.tar", source)
    said = run("restore", tmp_path / "b.tar", "--config", other, code=Exit.REFUSED)
    assert "the backup has 8 partitions and the configuration says 16: set [store] partitions = 8" in said
    other.write_text(source.read_text().replace("partitions = 8", "partitions = 16"))
    said = run("backup", tmp_path / "c.tar", "--config", other, code=Exit.REFUSED)
    assert "has 8 partitions: set [store] partitions = 8" in said
    assert not (tmp_path / "c.tar").exists()


def test_there_must_be_something_to_back_up(tmp_path: Path, server: Server) -> None:
    said = run("backup", tmp_path / "b.tar", "--config", configured(tmp_path, "none"), code=Exit.REFUSED)
    assert "there is no store in" in said
    assert not (tmp_path / "none").exists()
    remote = configured(tmp_path, "remote", server.url, OTHER_SECRETS)
    said = run("backup", tmp_path / "b.tar", "--config", remote, code=Exit.REFUSED)
    assert "is empty: there is nothing to back up" in said
    assert server.run("DBSIZE") == 0
    fill(remote)
    other = configured(tmp_path, "other", server.url, OTHER_SECRETS.replace('secret = "AAAA', 'secret = "BAAA'))
    said = run("backup", tmp_path / "b.tar", "--config", other, code=Exit.REFUSED)
    assert "the secrets of this configuration are not those of the store" in said
    assert not (tmp_path / "b.tar").exists()


def test_a_damaged_backup_changes_nothing(tmp_path: Path, server: Server) -> None:
    source = configured(tmp_path, "source")
    fill(source)
    backed_up(tmp_path / "b.tar", source)
    raw = bytearray((tmp_path / "b.tar").read_bytes())
    raw[5000] ^= 1
    (tmp_path / "bad.tar").write_bytes(raw)
    (tmp_path / "cut.tar").write_bytes(raw[:-6000])
    targets = configured(tmp_path, "target"), configured(tmp_path, "remote", server.url)
    for name, said in (("bad", "does not have the SHA-256"), ("cut", "cut off")):
        for target in targets:
            assert said in run("restore", tmp_path / f"{name}.tar", "--config", target, code=Exit.REFUSED)
    assert server.run("DBSIZE") == 0
    assert not (tmp_path / "target" / "appendonlydir").exists()
    assert not (tmp_path / "target" / "secrets.json").exists()
    run("restore", tmp_path / "b.tar", "--config", targets[0])


def test_a_restore_that_was_cut_off_keeps_gateways_away(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, remote = configured(tmp_path, "source"), configured(tmp_path, "remote", server.url)
    fill(source)
    backed_up(tmp_path / "b.tar", source)

    async def fail(*_: object) -> None:
        raise OSError("the machine died")

    with monkeypatch.context() as patched:
        patched.setattr("gateway.store.backup.restore._seal", fail)
        run("restore", tmp_path / "b.tar", "--config", remote, code=Exit.REFUSED)
    with pytest.raises(StoreRefused, match="was not restored to the end"):
        Found(remote)
    said = run("restore", tmp_path / "b.tar", "--config", remote, code=Exit.REFUSED)
    assert "holds a restore that was not finished: empty it (FLUSHALL" in said
    said = run("backup", tmp_path / "c.tar", "--config", remote, code=Exit.REFUSED)
    assert "empty" in said
    server.flush()
    run("restore", tmp_path / "b.tar", "--config", remote)


def test_secrets_are_there_before_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that found data without secrets would make new ones."""
    source, target = (configured(tmp_path, name) for name in ("source", "target"))
    fill(source)
    backed_up(tmp_path / "b.tar", source)
    replace = os.replace

    def fail(draft: Path | str, path: Path | str) -> None:
        if str(path).endswith("target/appendonlydir"):
            assert (tmp_path / "target" / "secrets.json").exists()
            raise OSError(28, "No space left on device")
        replace(draft, path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fail)
        said = run("restore", tmp_path / "b.tar", "--config", target, code=Exit.REFUSED)
    assert "cannot restore: No space left on device" in said
    left = {path.name for path in (tmp_path / "target").iterdir()}
    assert left == {"gateway.lock", "server.lock", "secrets.json"}
    run("restore", tmp_path / "b.tar", "--config", target)


def test_what_a_killed_restore_left_in_a_data_folder_is_removed(tmp_path: Path) -> None:
    source, target = (configured(tmp_path, name) for name in ("source", "target"))
    fill(source)
    instant = backed_up(tmp_path / "b.tar", source)
    shutil.copytree(tmp_path / "source", tmp_path / "target" / "restoring")
    run("restore", tmp_path / "b.tar", "--config", target)
    Found(target).check(instant)


def test_a_partition_that_is_missing_is_noticed(tmp_path: Path, server: Server) -> None:
    source, target = configured(tmp_path, "source", server.url), configured(tmp_path, "target")
    fill(source)
    server.run("DEL", P0 + b"made")
    backed_up(tmp_path / "b.tar", source)
    said = run("restore", tmp_path / "b.tar", "--config", target, code=Exit.REFUSED)
    assert "lacks the data of partition 0" in said
    assert not (tmp_path / "target" / "appendonlydir").exists()


def test_a_replica_is_refused(tmp_path: Path, server: Server) -> None:
    source = configured(tmp_path, "source", server.url)
    fill(source)
    replica = Server()
    try:
        replica.run("REPLICAOF", "127.0.0.1", server.port or 1)
        named = configured(tmp_path, "named", replica.url, OTHER_SECRETS)
        said = run("backup", tmp_path / "b.tar", "--config", named, code=Exit.REFUSED)
        assert "is a replica, which may be behind: name its primary" in said
        said = run("restore", tmp_path / "b.tar", "--config", named, code=Exit.REFUSED)
        assert "cannot read" in said
        backed_up(tmp_path / "b.tar", source)
        named = configured(tmp_path, "source2", replica.url)
        assert "is a replica" in run("restore", tmp_path / "b.tar", "--config", named, code=Exit.CANNOT_START)
    finally:
        replica.stop()


def test_a_user_who_may_not_is_told_which_right_is_missing(tmp_path: Path, server: Server) -> None:
    source = configured(tmp_path, "source", server.url, OTHER_SECRETS)
    fill(source)
    server.run("ACL", "SETUSER", "app", "on", ">word", "~*", "&*", "+@all", "-sync", "-replconf")
    named = configured(tmp_path, "named", server.url.replace("unix://", "unix://app:word@"), OTHER_SECRETS)
    said = run("backup", tmp_path / "b.tar", "--config", named, code=Exit.CANNOT_START)
    assert "does not let this user take a snapshot" in said
    assert "ACL SETUSER NAME +sync +replconf" in said
    assert not (tmp_path / "b.tar").exists()
    assert META in server.run("KEYS", "*")


def test_a_key_that_is_too_large_for_the_server_is_named(tmp_path: Path) -> None:
    small = Server("--proto-max-bulk-len", "1mb")
    try:
        source, remote = configured(tmp_path, "source"), configured(tmp_path, "remote", small.url)

        async def fill_up() -> None:
            async with open_store(load(source)) as (link, _, _):
                for number in range(20):
                    await link.command(0, b"RPUSH", P0 + b"large", os.urandom(100_000) + b"%d" % number)

        asyncio.run(fill_up())
        backed_up(tmp_path / "b.tar", source)
        said = run("restore", tmp_path / "b.tar", "--config", remote, code=Exit.CANNOT_START)
        assert "the server takes 1048576 in one call: run CONFIG SET proto-max-bulk-len" in said
    finally:
        small.stop()


def test_a_clock_that_was_ahead_sends_nothing_twice_and_holds_nothing_new() -> None:
    assert held_before(1_000_000, 9_000_000) == 1_000_000 + CLOCKS_APART
    assert held_before(1_000_000, 1_005_000) == 1_005_000  # restored at once: what comes now goes out
    assert held_before(1_000_000, 999_000) == 1_000_000  # this machine's clock is behind


def test_keys_are_copied_in_groups_of_bounded_size() -> None:
    keys = [(0, b"%d" % n) for n in range(6)]
    sizes = [1, 40 << 20, 1, 1, (32 << 20) - 1, 1]
    assert list(_groups(keys, sizes)) == [keys[:1], keys[1:2], keys[2:4], keys[4:6]]
    assert list(_groups([], [])) == []


def test_a_server_that_is_too_old_for_the_data_is_named() -> None:
    said = str(_explained(StoreError("RESTORE: ERR DUMP payload version or checksum are wrong")))
    assert "the server is older than the one that comes with this gateway" in said
    other = StoreError("ERR something else")
    assert _explained(other) is other


@pytest.mark.parametrize("end", ["SIGTERM", "SIGINT", "the server dies"])
def test_a_backup_that_is_ended_early_leaves_nothing(tmp_path: Path, end: str) -> None:
    server = Server("--repl-diskless-sync-delay", "60")  # so long does it wait for other replicas
    try:
        source, out = configured(tmp_path, "source", server.url, OTHER_SECRETS), tmp_path / "out"
        fill(source)
        out.mkdir()
        words = ["backup", out / "b.tar", "--config", source, "--secrets", out / "s.json"]
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", *map(str, words)], stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 30
        while not (out / "s.json").exists() or b"flags=S" not in server.run("CLIENT", "LIST"):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        if end == "the server dies":
            server.kill()
        else:
            process.send_signal(signal.Signals[end])
        _, said = process.communicate(timeout=30)
        if end == "the server dies":
            assert (process.returncode, "the store" in said) == (Exit.CANNOT_START, True), said
        else:
            assert process.returncode == Exit.INTERRUPTED, said
        assert list(out.iterdir()) == []
    finally:
        server.stop()
