"""The link: routing, errors in our words, and what a server must be before it is trusted."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from redis import exceptions as foreign
from redis.crc import key_slot

from bench.store_path import messages
from gateway.model import AcceptResult
from gateway.store.crypto import Vault
from gateway.store.errors import (
    StoreBusy,
    StoreError,
    StoreFull,
    StorePartly,
    StoreRefused,
    StoreUnavailable,
    StoreUnconfirmed,
)
from gateway.store.keys import Hasher
from gateway.store.messages import MessageStore
from gateway.store.redis.connection import StoreConnection, connect
from gateway.store.redis.node import translate
from gateway.store.redis.url import parse
from tests.servers import Cluster, Server, free_ports

TAGS = [b"{%d}" % n for n in range(8)]

BODY = """
redis.register_function{{function_name='put{v}', callback=function(keys, args)
  redis.call('SET', keys[1] .. args[1], args[2]) return {{args[1], args[2]}} end}}
redis.register_function{{function_name='grow{v}', flags={{'allow-oom'}}, callback=function(keys, args)
  redis.call('SET', keys[1] .. args[1], args[2]) return 1 end}}
redis.register_function{{function_name='broken{v}', callback=function(keys, args) return nil .. 'x' end}}
"""


class Small:
    """A library of three functions whose registered names carry its hash."""

    def __init__(self, salt: str = "") -> None:
        self.version = hashlib.blake2b(salt.encode(), digest_size=4).hexdigest()
        self.name = f"small{self.version}"
        self.source = f"#!lua name={self.name}\n" + BODY.format(v=self.version)

    def function(self, name: str) -> str:
        return f"{name}{self.version}"


async def link_to(url: str, **options: object) -> StoreConnection:
    given = {"tags": TAGS, "library": Small(), "durability": "everysec", "connections": 4, **options}
    return await connect(url, **given)  # type: ignore[arg-type]


async def test_calls_come_back_in_the_order_of_the_requests(store_url: str) -> None:
    link = await link_to(store_url)
    replies = await link.calls([(n % 8, "put", (f"k{n}", n)) for n in range(50)])
    assert replies == [[b"k%d" % n, b"%d" % n] for n in range(50)]
    assert await link.command(3, "GET", TAGS[3] + b"k11") == b"11"
    assert repr(link) == f"<StoreConnection single {store_url[7:]} partitions=8>"
    assert link.describe() == f"store at {store_url[7:]}: 8 partitions"
    await link.probe()
    await link.close()


async def test_a_cluster_gets_each_call_on_the_node_of_its_partition(
    cluster_url: str, cluster_servers: Cluster
) -> None:
    link = await link_to(cluster_url)
    assert len(link.primaries) == 3
    replies = await link.calls([(n % 8, "put", (f"k{n}", n)) for n in range(50)])
    assert replies == [[b"k%d" % n, b"%d" % n] for n in range(50)]
    held = [sum(1 for key in node.client.scan_iter() if b"k" in key) for node in cluster_servers.nodes]
    assert sum(held) == 50
    assert all(held)
    await link.probe()
    await link.close()


async def test_functions_that_are_gone_are_loaded_again(store_url: str, single_server: Server) -> None:
    link = await link_to(store_url)
    single_server.client.function_flush()
    assert await link.calls([(n, "put", ("a", n)) for n in range(8)]) == [[b"a", b"%d" % n] for n in range(8)]
    await link.close()


async def test_two_versions_of_the_functions_live_side_by_side(store_url: str) -> None:
    old, new = await link_to(store_url, library=Small("old")), await link_to(store_url, library=Small("new"))
    assert await old.call(0, "put", "a", 1) == await new.call(0, "put", "a", 1)
    await old.close()
    await new.close()


async def test_a_slot_that_moves_is_followed(cluster_url: str, cluster_servers: Cluster) -> None:
    link = await link_to(cluster_url)
    slot = key_slot(TAGS[0])
    owner = next(node for node in cluster_servers.nodes if f":{node.port}" in link._node_of[0].name)
    target = next(node for node in cluster_servers.nodes if node is not owner)
    ids = {node: node.run("CLUSTER", "MYID").decode() for node in (owner, target)}
    try:
        owner.run("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        target.run("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[owner])
        assert await link.call(0, "put", "during", 1) == [b"during", b"1"]  # ASK
        owner.run("MIGRATE", "127.0.0.1", target.port, TAGS[0] + b"made", 0, 1000)
        for node in (target, owner):
            node.run("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
        target.client.function_flush()
        assert await link.call(0, "put", "after", 2) == [b"after", b"2"]  # MOVED, to a node without the functions
        assert f":{target.port}" in link._node_of[0].name
    finally:
        for node in cluster_servers.nodes:
            node.client.flushall()
        for node in (owner, target):
            node.run("CLUSTER", "SETSLOT", slot, "NODE", ids[owner])
        await link.close()


async def test_an_error_of_one_call_is_raised_or_stands_in_its_place() -> None:
    server = Server()
    try:
        link = await link_to(server.url)
        with pytest.raises(StoreError, match="could not carry out"):
            await link.calls([(0, "put", ("a", 1)), (1, "broken", ())])
        replies = await link.calls([(0, "put", ("a", 1)), (1, "broken", ()), (2, "put", ("b", 2))], partial=True)
        assert replies[0] == [b"a", b"1"]
        assert type(replies[1]) is StoreError
        assert replies[2] == [b"b", b"2"]
        server.kill()
        with pytest.raises(StoreUnavailable, match="is it running"):
            await link.call(0, "put", "a", 1)
        server.start()
        assert await link.call(0, "put", "a", 1) == [b"a", b"1"]
        await link.close()
    finally:
        server.stop()


async def test_full_memory_refuses_what_is_not_marked_for_it() -> None:
    server = Server()
    try:
        link = await link_to(server.url)
        server.client.config_set("maxmemory", 1)
        with pytest.raises(StoreFull, match="raise maxmemory"):
            await link.call(0, "put", "a", 1)
        assert await link.call(0, "grow", "a", 1) == 1
        await link.close()
    finally:
        server.stop()


async def test_a_cancelled_call_leaves_no_reply_behind_for_the_next(store_url: str) -> None:
    link = await link_to(store_url, connections=1)
    for _ in range(20):
        task = asyncio.create_task(link.call(0, "put", "a", "x" * 100_000))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await link.call(1, "put", "b", "y") == [b"b", b"y"]
    await link.close()


async def test_more_calls_than_connections_wait_their_turn(store_url: str) -> None:
    link = await link_to(store_url, connections=2)
    replies = await asyncio.gather(*[link.call(n % 8, "put", f"k{n}", n) for n in range(200)])
    assert [int(reply[1]) for reply in replies] == list(range(200))
    await link.close()


async def test_calls_that_get_no_connection_in_time_raise_store_busy(store_url: str, single_server: Server) -> None:
    link = await link_to(store_url, timeout=0.2, connections=1)
    single_server.run("CLIENT", "PAUSE", 600)
    results = await asyncio.gather(*[link.call(n, "put", "a", 1) for n in range(8)], return_exceptions=True)
    single_server.run("CLIENT", "UNPAUSE")
    assert [type(result) for result in results] == [StoreUnconfirmed] + [StoreBusy] * 7
    assert await link.call(0, "put", "a", 2) == [b"a", b"2"]
    await link.close()


async def test_a_silent_server_is_unavailable_in_time(store_url: str, single_server: Server) -> None:
    link = await link_to(store_url, timeout=0.5)
    single_server.run("CLIENT", "PAUSE", 10_000)
    with pytest.raises(StoreUnavailable):
        await link.call(0, "put", "a", 1)
    single_server.run("CLIENT", "UNPAUSE")
    assert await link.call(0, "put", "a", 2) == [b"a", b"2"]
    await link.close()


@pytest.mark.parametrize(
    ("settings", "durability", "said"),
    [
        (("--appendonly", "no"), "everysec", "set appendonly yes"),
        (("--maxmemory-policy", "allkeys-lru"), "everysec", "maxmemory-policy noeviction"),
        ((), "always", "set appendfsync always"),
        (("--appendfsync", "no"), "everysec", "does not keep the promise"),
    ],
)
async def test_a_server_that_could_lose_messages_is_refused(
    settings: tuple[str, ...], durability: str, said: str
) -> None:
    server = Server(*settings)
    try:
        with pytest.raises(StoreRefused, match=said):
            await link_to(server.url, durability=durability)
        if "noeviction" not in said:
            await (await link_to(server.url, durability=durability, volatile=True)).close()
    finally:
        server.stop()


async def test_replicated_waits_for_a_replica_to_have_it_on_disk() -> None:
    (port,) = free_ports(1)
    at_once = ("--appendfsync", "always")
    primary = Server("--repl-diskless-sync-delay", "0", *at_once, port=port)
    replica = Server("--replicaof", f"127.0.0.1 {port}", *at_once)
    try:
        async with asyncio.timeout(10):
            while "online" not in str(primary.run("INFO", "replication")):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        primary.run("SET", "a", 1)
        assert primary.run("WAITAOF", 1, 1, 10_000) == [1, 1]  # the replica has written out what it was given at first
        link = await link_to(primary.url, durability="replicated", timeout=2.0)
        assert await link.calls([(n, "put", ("a", n)) for n in range(8)]) == [[b"a", b"%d" % n] for n in range(8)]
        assert replica.client.get(TAGS[3] + b"a") == b"3"
        with pytest.raises(StoreRefused, match="is a replica"):
            await link_to(replica.url)
        replica.kill()
        with pytest.raises(StoreUnavailable, match="no replica"):
            await link.call(0, "put", "b", 1)
        await link.close()
    finally:
        replica.stop()
        primary.stop()


async def test_an_old_server_is_refused(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.redis.checks.OLDEST", (99, 0))
    with pytest.raises(StoreRefused, match="newer is needed"):
        await link_to(store_url)


async def test_a_user_without_config_is_only_warned(
    store_url: str, single_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    single_server.run("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-config")
    path = store_url.removeprefix("unix://")
    link = await link_to(f"unix://app:secret@{path}")
    assert await link.call(0, "put", "a", 1) == [b"a", b"1"]
    await link.close()
    with pytest.raises(StoreRefused, match="check user, password"):
        await link_to(f"unix://app:wrong@{path}")
    single_server.run("ACL", "DELUSER", "app")


async def test_partitions_and_secret_are_those_of_the_first_start(store_url: str) -> None:
    await (await link_to(store_url, fingerprint="aa")).close()
    await (await link_to(store_url, fingerprint="aa")).close()
    with pytest.raises(StoreRefused, match="set \\[store\\] partitions = 8"):
        await link_to(store_url, tags=TAGS[:4])
    with pytest.raises(StoreRefused, match=r"restore secrets\.json"):
        await link_to(store_url, fingerprint="bb")


async def test_single_and_cluster_urls_are_not_mixed_up(cluster_servers: Cluster) -> None:
    (port,) = free_ports(1)
    server = Server(port=port)
    try:
        with pytest.raises(StoreRefused, match="use redis://"):
            await link_to(f"redis+cluster://127.0.0.1:{port}")
        await (await link_to(f"redis://127.0.0.1:{port}")).close()
    finally:
        server.stop()
    with pytest.raises(StoreRefused, match=r"use redis\+cluster://"):
        await link_to(f"redis://127.0.0.1:{cluster_servers.nodes[0].port}")


@pytest.mark.parametrize(
    "url",
    ["", "embedded", "http://x", "unix://", "redis+cluster://h/3", "redis+cluster+cluster://h", "unix+cluster:///s"],
)
def test_an_invalid_store_url_is_refused(url: str) -> None:
    with pytest.raises(StoreRefused, match="url"):
        parse(url)


def test_a_password_is_never_shown() -> None:
    with pytest.raises(StoreRefused) as caught:
        parse("redis+cluster://user:hunter2@h:1/3")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (foreign.OutOfMemoryError("allow-oom flag is not set", status_code="OOM"), StoreFull),
        (foreign.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"), StoreFull),
        (foreign.NoPermissionError("no permissions", status_code="NOPERM"), StoreRefused),
        (foreign.AuthenticationError("invalid", status_code="WRONGPASS"), StoreRefused),
        (foreign.BusyLoadingError("loading", status_code="LOADING"), StoreUnavailable),
        (foreign.ReadOnlyError("read only", status_code="READONLY"), StoreUnavailable),
        (foreign.ClusterDownError("CLUSTERDOWN The cluster is down"), StoreUnavailable),
        (foreign.MovedError("1 127.0.0.1:1"), StoreUnavailable),
        (foreign.ResponseError("BUSY script"), StoreBusy),
        (foreign.ConnectionError("No connection available."), StoreBusy),
        (foreign.MaxConnectionsError("Too many"), StoreBusy),
        (foreign.ConnectionError("reset"), StoreUnavailable),
        (ConnectionRefusedError(111, "refused"), StoreUnavailable),
        (TimeoutError(), StoreUnavailable),
        (foreign.ResponseError("user_function:3: attempt to concatenate"), StoreError),
    ],
)
def test_every_error_of_redis_py_becomes_a_store_error(error: Exception, ours: type[StoreError]) -> None:
    assert type(translate(error, "there")) is ours


async def test_of_a_batch_over_partitions_each_message_has_its_own_outcome() -> None:
    class Half:
        """Answers for even partitions, and has lost the answer of the others."""

        async def calls(self, requests: Any, *, partial: bool = False) -> list[Any]:
            assert partial
            return [[] if partition % 2 == 0 else StoreUnconfirmed("cut") for partition, *_ in requests]

    hasher = Hasher(bytes(32), 8)
    store = MessageStore(Half(), hasher, Vault({0: bytes(32)}, 0), partitions=8)  # type: ignore[arg-type]
    items = messages(hasher, 40, 0)
    with pytest.raises(StorePartly) as raised:
        await store.accept(items)
    for item, outcome in zip(items, raised.value.outcomes, strict=True):
        wanted = StoreUnconfirmed if item.recipient.partition % 2 else AcceptResult
        assert type(outcome) is wanted
