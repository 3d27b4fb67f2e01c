"""A real store whose clock the test sets and whose keys it reads."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any, NamedTuple, TypeVar

import msgspec

from gateway.model import State, StreamEvent
from gateway.store import keys
from gateway.store.crypto import Vault
from gateway.store.library import KEY_CLOCK, build_library
from gateway.store.messages import MessageStore
from gateway.store.redis.connection import StoreConnection, connect
from gateway.store.requests import Retention

T = TypeVar("T")

PARTITIONS = 3
START = 1_800_000_000_007  # no full minute, so that nothing comes due exactly when a sweep runs

PLACES = """
local tag, out = KEYS[1], {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  if string.sub(key, 1, #tag) == tag then
    local name, kind = string.sub(key, #tag + 1), string.sub(key, #tag + 1, #tag + 2)
    if kind == 'q:' then out[#out + 1] = {name, redis.call('LRANGE', key, 0, -1)}
    elseif kind == 'y:' or name == 'held' then out[#out + 1] = {name, redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')}
    elseif kind == 'x:' or kind == 'u:' or name == 'a' then out[#out + 1] = {name, redis.call('HGETALL', key)}
    elseif name == 'kr' then out[#out + 1] = {name, redis.call('HGETALL', key)}
    elseif name == 'k' then out[#out + 1] = {name, redis.call('HKEYS', key)}
    elseif kind == 'c:' then out[#out + 1] = {name, redis.call('TYPE', key)['ok'] == 'zset'
      and redis.call('ZRANGE', key, 0, -1) or {redis.call('GET', key)}}
    end
  end
end
return out
"""


ID_MAP = """
local tag, out = KEYS[1], {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  if string.sub(key, 1, #tag + 2) == tag .. 'i:' then
    out[#out + 1] = {string.sub(key, #tag + 1), redis.call('HGETALL', key)}
  end
end
return out
"""

FIRST_DUE = """
local minute = redis.call('ZRANGE', KEYS[1] .. 'wheel', '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, 1)[1]
return minute and redis.call('LRANGE', KEYS[1] .. 'w:' .. minute, 0, -1) or {}
"""


class Places(NamedTuple):
    """Where ids lie in a partition, as the raw structures have it."""

    ready: dict[str, list[bytes]]  # lane/account
    delayed: dict[str, dict[bytes, int]]  # lane -> id -> due
    held: dict[bytes, int]
    leases: dict[str, dict[bytes, bytes]]  # owner -> lease -> packed ids
    parked: set[bytes]  # carrier, NUL, 8 octets of the recipient, carrier's id
    parked_list: set[bytes]  # likewise, as listed by carrier and recipient
    lost: dict[str, dict[bytes, list[bytes]]]  # carrier -> 8 octets of the recipient -> messages
    caps: dict[bytes, dict[bytes, int]]  # recipient, scope, window -> id -> when
    waiting: Counter[tuple[str, State]]  # how many of an account


class StoreDriver:
    """A store on one server or a cluster, on an event loop of its own. ``reset`` empties it; ``now`` is its clock."""

    def __init__(self, url: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.url = url
        self.now = START
        self.retention = Retention()
        self.hasher = keys.Hasher(bytes(32), PARTITIONS)
        self.link: StoreConnection = self.run(
            connect(url, tags=keys.tags(PARTITIONS), library=build_library(KEY_CLOCK), durability="everysec")
        )
        self.vault = Vault({1: bytes(32)}, 1)
        self.store = MessageStore(self.link, self.hasher, self.vault, partitions=PARTITIONS, retention=self.retention)
        self._after = ["0"] * PARTITIONS

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(what)

    def reset(self) -> None:
        self.run(self.link.everywhere("FLUSHALL"))
        self._after = ["0"] * PARTITIONS
        self.set_clock(START)

    def set_clock(self, now: int) -> None:
        self.now = now
        self.run(self.link.commands([(p, ("SET", self.link.tags[p] + b"clock", now)) for p in range(PARTITIONS)]))

    def new_events(self) -> list[StreamEvent]:
        """All events since the last call, per message in order."""
        found = []
        for partition in range(PARTITIONS):
            for entry, events in self.run(self.store.events(partition, self._after[partition], 1000)):
                self._after[partition] = entry
                found += events
        return found

    def places(self, partition: int) -> Places:
        raw = self.run(self.link.command(partition, "EVAL", PLACES, 1, self.link.tags[partition]))
        places = Places({}, {}, {}, {}, set(), set(), {}, {}, Counter())
        for name, values in raw:
            kind, _, rest = name.partition(b":")
            match kind:
                case b"q":
                    places.ready[rest.decode()] = values
                case b"y":
                    places.delayed[rest.decode()] = _scores(values)
                case b"held":
                    places.held.update(_scores(values))
                case b"x":
                    places.leases[rest.decode()] = dict(zip(values[::2], values[1::2], strict=True))
                case b"a":
                    counts = zip(values[::2], values[1::2], strict=True)
                    places.waiting.update({(field[1:].decode(), State(field[0])): int(n) for field, n in counts})
                case b"k":
                    places.parked.update(values)
                case b"u":
                    lists = zip(values[::2], values[1::2], strict=True)
                    places.lost[rest.decode()] = {
                        who: [ids[n : n + 16] for n in range(0, len(ids), 16)] for who, ids in lists
                    }
                case b"kr":
                    for under, ids in zip(values[::2], values[1::2], strict=True):
                        places.parked_list.update(under + one for one in _with_lengths(ids))
                case b"c":
                    held = b"".join(values)
                    entries = [held[n : n + 24] for n in range(0, len(held), 24)]
                    places.caps[rest] = {entry[8:]: int.from_bytes(entry[:8], "big") for entry in entries}
        return places

    def first_due(self, partition: int) -> list[bytes]:
        """Ids that the next sweep of a partition looks at."""
        return self.run(
            self.link.command(partition, "EVAL", FIRST_DUE, 1, self.link.tags[partition], self.now // 60_000)
        )

    def id_map(self, partition: int) -> set[tuple[str, bytes, bytes]]:
        """Where carriers' ids lead: carrier, 8 octets of the recipient and id, message."""
        raw = self.run(self.link.command(partition, "EVAL", ID_MAP, 1, self.link.tags[partition]))
        return {
            (key[2:].rpartition(b":")[0].decode(), field, value[at : at + 16])
            for key, pairs in raw
            for field, value in zip(pairs[::2], pairs[1::2], strict=True)
            for at in range(0, len(value), 17)
        }

    def raw_record(self, partition: int, id_: bytes) -> bytes | None:
        """A record as it lies there."""
        found: bytes | None = self.run(self.link.command(partition, "HGET", self._bucket(partition, id_), id_))
        return found

    def put_record(self, partition: int, id_: bytes, record: bytes) -> None:
        self.run(self.link.command(partition, "HSET", self._bucket(partition, id_), id_, record))

    def _bucket(self, partition: int, id_: bytes) -> bytes:
        return self.link.tags[partition] + b"m:" + id_[:4].hex().encode()

    def close(self) -> None:
        self.run(self.link.close())
        self.loop.close()


def _scores(values: list[bytes]) -> dict[bytes, int]:
    return {member: int(float(score)) for member, score in zip(values[::2], values[1::2], strict=True)}


def _with_lengths(packed: bytes) -> list[bytes]:
    """Each with an octet of length before it."""
    out, at = [], 0
    while at < len(packed):
        out.append(packed[at + 1 : at + 1 + packed[at]])
        at += 1 + packed[at]
    return out


def plain(thing: Any) -> Any:
    """For messages of failed assertions."""
    return msgspec.to_builtins(thing)
