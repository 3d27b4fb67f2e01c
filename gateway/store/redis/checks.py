"""What a server must be to be trusted with messages: recent enough, durable, and never evicting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import structlog

from gateway.store.errors import StoreError, StoreRefused, StoreUnavailable
from gateway.store.redis.node import StoreNode

_log = structlog.get_logger(__name__)

OLDEST = (7, 2)


async def check(node: StoreNode, clustered: bool, durability: str, volatile: bool) -> None:
    """Raise StoreRefused for a server that may lose or evict messages, or cannot run the functions.

    ``volatile``: a server without persistence is accepted.
    """
    info = read_info(await node.command(b"INFO"))
    version = info.get("redis_version", "0")  # Valkey: the Redis version it is compatible with
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise StoreRefused(f"the store at {node.name} is version {version}; Valkey or Redis 7.2 or newer is needed")
    if info.get("role", "master") != "master":
        raise StoreRefused(f"{node.name} is a replica: point [store] url at its primary ({info.get('master_host')})")
    if (info.get("cluster_enabled") == "1") != clustered:
        wanted = "redis://" if clustered else "redis+cluster://"
        raise StoreRefused(
            f"{node.name} is {'not ' if clustered else ''}part of a cluster: use {wanted} in [store] url"
        )
    try:
        reply = await node.command(b"CONFIG", b"GET", b"appendonly", b"appendfsync", b"maxmemory-policy")
    except StoreError as error:
        if isinstance(error, StoreUnavailable):
            raise
        _log.warning("store settings cannot be checked: make sure of appendonly yes and noeviction", node=node.name)
        return
    setting = {k.decode(): v.decode() for k, v in zip(reply[::2], reply[1::2], strict=True)}
    for problem in unsound(setting, durability, volatile):
        raise StoreRefused(f"the store at {node.name} {problem}")


def unsound(setting: Mapping[str, str], durability: str, volatile: bool) -> Iterable[str]:
    if setting["maxmemory-policy"] != "noeviction":
        yield (
            f"may evict messages (maxmemory-policy {setting['maxmemory-policy']}): "
            "run CONFIG SET maxmemory-policy noeviction and set it in its configuration file"
        )
    if volatile:
        return
    if setting["appendonly"] != "yes":
        yield "loses its data when it stops (appendonly no): set appendonly yes in its configuration file"
    if setting["appendfsync"] == "no" or (durability == "always" and setting["appendfsync"] != "always"):
        yield (
            f"has appendfsync {setting['appendfsync']}, which does not keep the promise of durability = "
            f'"{durability}": set appendfsync always, or choose another [store] durability'
        )


def read_info(reply: bytes) -> dict[str, str]:
    """Return the fields of an INFO reply."""
    lines = (line.partition(":") for line in reply.decode().splitlines())
    return {name: value for name, colon, value in lines if colon}
