"""A connection that makes malformed calls before some of the real ones and checks that they change nothing.

Functions are not rolled back: each must validate its arguments before its first write, so an error reply must have left
every key as it was. What a malformed call did without an error is undone, since the model does not know of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from random import Random
from typing import Any

from gateway.store.errors import StoreError
from gateway.store.redis.connection import StoreConnection

Keys = dict[bytes, tuple[bytes, int]]

SNAPSHOT = """
local out = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  out[#out + 1] = {key, redis.call('DUMP', key), redis.call('PEXPIRETIME', key)}
end
return out
"""


class MalformedCalls:
    """Stands before a ``StoreConnection`` of a single server. ``refused`` counts error replies by function."""

    def __init__(self, link: StoreConnection, functions: Collection[str], seed: int, share: float) -> None:
        """``share`` of the calls to these functions are made in malformed variants first; so is the first of each."""
        self._link = link
        self._functions = functions
        self._random = Random(seed)
        self._share = share
        self.refused: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    async def call(self, partition: int, function: str, *args: Any) -> Any:
        (reply,) = await self.calls([(partition, function, args)])
        return reply

    async def calls(self, requests: Sequence[tuple[int, str, Sequence[Any]]], *, partial: bool = False) -> list[Any]:
        for partition, function, args in requests:
            if function in self._functions and (self._random.random() < self._share or not self.refused[function]):
                await self._malformed(partition, function, [_octets(arg) for arg in args])
        return await self._link.calls(requests, partial=partial)

    async def _malformed(self, partition: int, function: str, args: list[bytes]) -> None:
        before = await self._snapshot()
        for variant in self._variants(args):
            (reply,) = await self._link.calls([(partition, function, variant)], partial=True)
            after = await self._snapshot()
            if isinstance(reply, StoreError):
                self.refused[function] += 1
                changed = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
                assert not changed, f"{function} failed and changed {changed}: {variant} ({reply})"
            else:
                self.accepted[function] += 1
                await self._restore(before, after)
                before = await self._snapshot()  # the same data may be encoded otherwise now

    def _variants(self, args: list[bytes]) -> list[list[bytes]]:
        """Return malformed variants of a call: cut off, one argument too many, one argument replaced."""
        r = self._random
        variants = [args[: r.randrange(len(args))], [*args, r.randbytes(r.randrange(40))]] if args else [[b"x"]]
        for _ in range(4 if args else 0):
            at = r.randrange(len(args))
            one = args[at]
            sizes = [one[: len(one) // 2], one[:-1], one + b"\0", one * 3]
            other = r.choice([b"", b"x", b"-1", b"444", b"9" * 25, b"nan", *sizes])
            variants.append([*args[:at], other, *args[at + 1 :]])
        return variants

    async def _snapshot(self) -> Keys:
        (found,) = await self._link.everywhere("EVAL", SNAPSHOT, 0)
        return {key: (dump, until) for key, dump, until in found}

    async def _restore(self, before: Keys, after: Keys) -> None:
        for key in after.keys() - before.keys():
            await self._link.everywhere("DEL", key)
        for key, (dump, until) in before.items():
            if after.get(key) != (dump, until):
                await self._link.everywhere("RESTORE", key, max(until, 0), dump, "REPLACE", "ABSTTL")


def _octets(arg: Any) -> bytes:
    return arg if isinstance(arg, bytes) else str(arg).encode()
