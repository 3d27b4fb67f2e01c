"""The connection to the store: one server or a cluster, calls in pipelines.

``connect`` checks the servers (version, persistence, eviction, what the data was made with), loads the function library
on every primary and returns a ``StoreConnection``. ``StoreConnection.calls`` sends a list of calls as one pipeline per
node, all nodes at once. On a cluster it follows MOVED and ASK, reads the slot table again, and loads the functions on a
primary that lacks them, once that has shown that it has our data.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from redis import exceptions as foreign
from redis.crc import key_slot

from gateway.policy.identity import VERSION
from gateway.store.errors import StoreError, StoreRefused, StoreUnavailable, StoreUnconfirmed
from gateway.store.keys import META, NUMBERS, RESTORING
from gateway.store.redis.call_times import CallTimes
from gateway.store.redis.checks import check
from gateway.store.redis.node import ErrorReply, StoreNode, pack, translate
from gateway.store.redis.store_id import StoreIdentity
from gateway.store.redis.url import parse

if TYPE_CHECKING:
    from gateway.store.library import FunctionLibrary

_HOPS = 5  # MOVED, ASK, TRYAGAIN and missing functions are followed this often before giving up
_PAUSE = 0.05  # seconds, times the hop: moving or failing over a slot takes a moment


class StoreConnection:
    """Calls to functions and commands, each to the node that holds its partition."""

    # Not redis-py's RedisCluster: it sends COMMAND GETKEYS with all arguments before every FCALL (5 times the CPU),
    # repeats whole pipelines after a lost connection although calls may be done, and waits for hung nodes.

    def __init__(
        self, url: str, *, tags: Sequence[bytes], library: FunctionLibrary, connections: int, timeout: float
    ) -> None:
        """``tags``: of the partitions; ``connections``: per node. Raises StoreRefused for an invalid URL."""
        self.partitions = len(tags)
        self.tags = tuple(tags)
        self._library = library
        self._connections = connections
        self._timeout = timeout
        self._options, self.clustered = parse(url)
        self._nodes: dict[str, StoreNode] = {}
        self._seed = self._node(self._options.get("host", "localhost"), self._options.get("port", 6379))
        self._node_of = [self._seed] * self.partitions
        self._topology = asyncio.Lock()
        self._topology_count = 0
        self._confirm: bytes | None = None
        self._identity = StoreIdentity(self.tags, self.commands)
        self.times = CallTimes()
        self.numbers = VERSION
        """Version of ``policy.identity`` that names recipients in the store; 0: from before there was one."""

    # -- calls ---------------------------------------------------------------------------------------------------------

    async def call(self, partition: int, function: str, *args: Any) -> Any:
        """Return the reply of ``FCALL function`` with the partition's tag as KEYS[1]. Raises StoreError."""
        (reply,) = await self.calls([(partition, function, args)])
        return reply

    async def calls(self, requests: Sequence[tuple[int, str, Sequence[Any]]], *, partial: bool = False) -> list[Any]:
        """Call functions: one pipeline per node, all nodes at once; replies in the order of the requests.

        Raises the first StoreError; with ``partial`` each StoreError is returned in the place of its reply instead, so
        that the replies of the other calls are not lost.
        """
        if not requests:
            return []
        name, tags = self._library.function, self.tags
        packed = [(p, pack(b"FCALL", name(function), 1, tags[p], *args)) for p, function, args in requests]
        return await self.times.observe(requests[0][1], self._send(packed, partial))

    async def command(self, partition: int, *args: Any) -> Any:
        """Return the reply of a command on the partition's node; its keys begin with the tag. Raises StoreError."""
        (reply,) = await self.commands([(partition, args)])
        return reply

    async def commands(self, requests: Sequence[tuple[int, Sequence[Any]]], *, partial: bool = False) -> list[Any]:
        """Send commands as ``calls`` sends function calls. Timed under the name of the first."""
        if not requests:
            return []
        packed = [(p, pack(*args)) for p, args in requests]
        return await self.times.observe(_name(requests[0][1][0]), self._send(packed, partial))

    async def everywhere(self, *args: Any) -> list[Any]:
        """Return the replies of one command on every primary. Raises StoreError."""
        return list(await asyncio.gather(*[node.command(*args) for node in self.primaries]))

    async def probe(self) -> None:
        """Write on every primary, for readiness. Raises StoreError when one cannot, or has lost its data."""
        first = {node.name: partition for partition, node in reversed(list(enumerate(self._node_of)))}
        await self.commands([(p, (b"SET", self.tags[p] + b"probe", b"1", b"EX", 60)) for p in first.values()])
        await self._identity.check(first.values())

    async def close(self) -> None:
        """Close every connection."""
        for node in self._nodes.values():
            await node.close()

    @property
    def partitions_by_node(self) -> dict[StoreNode, list[int]]:
        """Return the partitions of each node."""
        found: dict[StoreNode, list[int]] = {}
        for partition, node in enumerate(self._node_of):
            found.setdefault(node, []).append(partition)
        return found

    @property
    def primaries(self) -> list[StoreNode]:
        """Return the nodes that hold partitions."""
        return list(dict.fromkeys(self._node_of))

    def __repr__(self) -> str:
        kind = "cluster" if self.clustered else "single"
        return f"<StoreConnection {kind} {' '.join(n.name for n in self.primaries)} partitions={self.partitions}>"

    def describe(self) -> str:
        """Return what operators want to know of it, in words."""
        kind = "cluster" if self.clustered else "store"
        return f"{kind} at {', '.join(node.name for node in self.primaries)}: {self.partitions} partitions"

    # -- routing -------------------------------------------------------------------------------------------------------

    async def _send(self, packed: Sequence[tuple[int, bytes]], partial: bool) -> list[Any]:
        replies: list[Any] = [None] * len(packed)
        todo: Sequence[int] = range(len(packed))
        for hop in range(_HOPS + 1):
            await self._round(packed, todo, replies)
            todo = await self._again(packed, todo, replies) if hop < _HOPS else ()
            if not todo:
                break
            await asyncio.sleep(_PAUSE * hop)
        for index, reply in enumerate(replies):
            if isinstance(reply, ErrorReply):
                replies[index] = translate(reply.error, self._node_of[packed[index][0]].name)
            if isinstance(replies[index], StoreError) and not partial:
                raise replies[index]
        return replies

    async def _round(self, packed: Sequence[tuple[int, bytes]], todo: Iterable[int], replies: list[Any]) -> None:
        """Send the commands that are to do, each to its node, and put the replies in their places."""
        by_node: dict[StoreNode, list[int]] = {}
        for index in todo:
            by_node.setdefault(self._node_of[packed[index][0]], []).append(index)
        batches = [self._batch(node, [packed[i][1] for i in indices]) for node, indices in by_node.items()]
        answers = [await batches[0]] if len(batches) == 1 else await asyncio.gather(*batches)
        for indices, answer in zip(by_node.values(), answers, strict=True):
            for index, reply in zip(indices, answer, strict=True):
                replies[index] = reply

    async def _batch(self, node: StoreNode, commands: list[bytes]) -> list[Any]:
        """Return the replies of one pipeline; when it fails, its StoreError in every place."""
        try:
            if self._confirm is None:
                return await node.exchange(commands)
            *replies, confirmed = await node.exchange([*commands, self._confirm])
        except StoreError as error:
            return [error] * len(commands)
        if isinstance(confirmed, ErrorReply):
            return [translate(confirmed.error, node.name)] * len(commands)
        if confirmed[1] < 1:
            lost = StoreUnconfirmed(f"no replica of {node.name} confirmed the write in time: is one connected?")
            return [lost] * len(commands)
        return replies

    async def _again(self, packed: Sequence[tuple[int, bytes]], todo: Sequence[int], replies: list[Any]) -> list[int]:
        """Return what has to be sent again, after doing what the error replies of the last round ask for."""
        again: list[int] = []
        missing: set[StoreNode] = set()
        moved = away = False
        for index in todo:
            reply = replies[index]
            error = reply.error if isinstance(reply, ErrorReply) else None
            if self.clustered and isinstance(reply, StoreUnavailable):
                away = True  # perhaps failed over; the call may have been carried out, so only the caller may repeat it
                continue
            if isinstance(error, foreign.MovedError):  # a MovedError is an AskError: this order
                moved = True
            elif isinstance(error, foreign.AskError):
                replies[index] = await self._asking(error, packed[index][1])
                continue
            elif error is not None and "unction not found" in str(error):
                missing.add(self._node_of[packed[index][0]])
            elif not (self.clustered and _passing(reply)):
                continue
            else:
                moved = True
            again.append(index)
        if moved:
            await self._follow()
        elif away:
            with contextlib.suppress(StoreUnavailable):
                await self._follow()
        if missing:
            await self._identity.check([p for p, node in enumerate(self._node_of) if node in missing])
            await asyncio.gather(*[self._load(node) for node in missing])
        return again

    async def _asking(self, error: foreign.AskError, command: bytes) -> Any:
        """Send a command to the node that its slot is moving to, which takes it only after ASKING."""
        _, reply = await self._node(error.host, error.port).exchange([pack(b"ASKING"), command])
        return reply

    async def _follow(self) -> None:
        """Read the slot table again, once for all callers that ask at the same time."""
        count = self._topology_count
        async with self._topology:
            if count == self._topology_count:
                await self._read_topology()
                self._topology_count += 1

    async def _read_topology(self) -> None:
        if not self.clustered:
            return
        for node in [self._seed, *self._nodes.values()]:
            try:
                ranges = await node.command(b"CLUSTER", b"SLOTS")
                break
            except StoreUnavailable:
                continue
        else:
            raise StoreUnavailable(f"no node of the cluster answers (tried {', '.join(self._nodes)}): is it running?")
        self._node_of = [self._node_of_slot(key_slot(tag), ranges, node) for tag in self.tags]

    def _node_of_slot(self, slot: int, ranges: Any, asked: StoreNode) -> StoreNode:
        for first, last, primary, *_ in ranges:
            if first <= slot <= last:
                host = primary[0].decode() if primary[0] else asked.name.rsplit(":", 1)[0]
                return self._node(host, primary[1])
        raise StoreUnavailable(f"slot {slot} of the cluster is assigned to no node: assign all slots")

    def _node(self, host: str, port: int) -> StoreNode:
        path = self._options.get("path")
        name = path or f"{host}:{port}"
        if name not in self._nodes:
            options = self._options if path else {**self._options, "host": host, "port": port}
            self._nodes[name] = StoreNode(name, options, self._connections, self._timeout)
        return self._nodes[name]

    # -- opening -------------------------------------------------------------------------------------------------------

    async def _load(self, node: StoreNode) -> None:
        """Load the library on a primary; its name has its hash, so one that is there already is the same."""
        try:
            await node.command(b"FUNCTION", b"LOAD", self._library.source)
        except StoreUnavailable:
            raise
        except StoreError as error:
            if "already exists" not in str(error):
                raise

    async def reach(self) -> None:
        """Find the nodes, and nothing else: no check, no write. Raises StoreError."""
        await self._read_topology()

    async def check(self, durability: str) -> None:
        """Check that every primary may be trusted with messages. Raises StoreRefused, StoreError."""
        for node in self.primaries:
            await check(node, self.clustered, durability, False)

    @property
    def database(self) -> int:
        """Return the number of the database in which the store is."""
        return int(self._options.get("db") or 0)

    async def open(self, durability: str, fingerprint: str, volatile: bool, *, migrating: bool = False) -> None:
        """Find the nodes, check them and load the functions. Raises StoreError."""
        await self._read_topology()
        for node in self.primaries:
            await check(node, self.clustered, durability, volatile)
            await self._load(node)
        made_with = {b"partitions": str(self.partitions).encode(), b"secret": fingerprint.encode()}
        node = await self._meta_node()
        if await node.command(b"HEXISTS", META, RESTORING):
            raise StoreRefused(
                f"the store at {node.name} was not restored to the end: empty it (FLUSHALL on every primary) and run "
                "smpp-gateway restore again"
            )
        self.numbers = await _numbers(node, migrating)
        await self._check_meta(node, made_with)
        await self._identity.learn(node, META)
        if durability == "replicated":
            self._confirm = pack(b"WAITAOF", 1, 1, int(self._timeout * 500))

    async def set_meta(self, field: bytes, value: bytes, *more: bytes) -> None:
        """Store fields of ``gateway:meta``, what the data was made with. ``more``: field, value … Raises StoreError."""
        await (await self._meta_node()).command(b"HSET", META, field, value, *more)

    async def meta(self) -> dict[bytes, bytes]:
        """Return all fields of ``gateway:meta``. Raises StoreError."""
        reply = await (await self._meta_node()).command(b"HGETALL", META)
        return dict(zip(reply[::2], reply[1::2], strict=True))

    async def drop_meta(self, field: bytes) -> None:
        """Delete a field of ``gateway:meta``. Raises StoreError."""
        await (await self._meta_node()).command(b"HDEL", META, field)

    async def _meta_node(self) -> StoreNode:
        """Return the node that holds ``gateway:meta``."""
        if not self.clustered:
            return self._seed
        return self._node_of_slot(key_slot(META), await self._seed.command(b"CLUSTER", b"SLOTS"), self._seed)

    async def _check_meta(self, node: StoreNode, wanted: Mapping[bytes, bytes]) -> None:
        """Compare with what the data was made with; the first start stores it. Raises StoreRefused, StoreError."""
        for field, value in wanted.items():
            if not value:
                continue
            await node.command(b"HSETNX", META, field, value)
            kept = await node.command(b"HGET", META, field)
            if kept != value:
                raise StoreRefused(_DIFFERS[field].format(kept=kept.decode(), value=value.decode()))


async def _numbers(node: StoreNode, migrating: bool) -> int:
    """Return the version of the names in the store. A new store gets ours before any other field."""
    if not await node.command(b"HEXISTS", META, b"partitions"):
        await node.command(b"HSETNX", META, NUMBERS, str(VERSION).encode())
    kept = int(await node.command(b"HGET", META, NUMBERS) or 0)
    if kept > VERSION:
        raise StoreRefused(
            f"the store names recipients by the rules of a newer gateway (version {kept}, this one knows {VERSION}), "
            "and here opt-outs would not be found: upgrade this gateway"
        )
    if 0 < kept < VERSION and not migrating:
        raise StoreRefused(
            f"the store names recipients by rules of version {kept} and this gateway by those of version {VERSION}: "
            "stop all gateways on it and run `smpp-gateway migrate --config FILE`"
        )
    return kept


_DIFFERS = {
    b"partitions": "the store was made with partitions = {kept} and the configuration says {value}: set "
    "[store] partitions = {kept}, or start with an empty store",
    b"secret": "the store was made with another hashing secret (fingerprint {kept}, now {value}): restore secrets.json "
    "or [privacy] hashing_secret, for without it no opt-out or consent in the store can be found",
}


def _name(command: str | bytes) -> str:
    """Return the name under which the calls of a command are timed."""
    return (command if isinstance(command, str) else command.decode()).lower()


def _passing(reply: Any) -> bool:
    """Tell whether an error reply of a cluster may pass once the slot table is read again. Such a call did nothing."""
    error = reply.error if isinstance(reply, ErrorReply) else None
    return isinstance(error, foreign.TryAgainError | foreign.ReadOnlyError)


async def connect(
    url: str,
    *,
    tags: Sequence[bytes],
    library: FunctionLibrary,
    durability: str = "always",
    fingerprint: str = "",
    volatile: bool = False,
    connections: int = 16,
    timeout: float = 10.0,  # noqa: ASYNC109 - not of this call: each pipeline's from now on
    migrating: bool = False,
) -> StoreConnection:
    """Open the store at ``url``.

    ``tags``: the partitions' tags (``keys``); ``library``: the functions (``library``); ``fingerprint``: of the hashing
    secret, "" to skip its check; ``volatile`` permits a server without persistence; ``connections`` per node;
    ``timeout`` in seconds for one pipeline; ``migrating``: recipients may be named by older rules. Raises
    StoreRefused, which names the remedy, or StoreUnavailable.
    """
    link = StoreConnection(url, tags=tags, library=library, connections=connections, timeout=timeout)
    try:
        await link.open(durability, fingerprint, volatile, migrating=migrating)
    except BaseException:
        await link.close()
        raise
    return link
