"""What operators see of the store: how long messages wait in each lane, and whose are held. Read only."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gateway.store.redis.connection import StoreConnection


class WaitingMessages(NamedTuple):
    """Ready messages of an account in a lane. ``oldest``: when the oldest was accepted, ms UTC, 0 = none."""

    account: str
    ready: int
    oldest: int


class LaneView(NamedTuple):
    """One lane over all partitions. ``next_due``: when its first delayed message wakes, ms UTC, 0 = none."""

    name: str
    delayed: int
    next_due: int
    accounts: tuple[WaitingMessages, ...]

    @property
    def ready(self) -> int:
        return sum(waiting.ready for waiting in self.accounts)

    @property
    def oldest(self) -> int:
        """Return when the oldest ready message was accepted, ms UTC, 0 = none."""
        return _earlier(*(waiting.oldest for waiting in self.accounts))


class LanesView(NamedTuple):
    """All lanes, by name. ``now``: the store's clock, ms UTC; ``oldest_held``: when it was accepted, 0 = none."""

    now: int
    oldest_held: int
    lanes: tuple[LaneView, ...]

    def age(self, instant: int) -> float:
        """Return the seconds since an instant; 0.0 when there is none."""
        return max(0, self.now - instant) / 1000 if instant else 0.0


class HeldMessages(NamedTuple):
    """Held messages of an account under one brand."""

    account: str
    account_scope: bytes
    brand_scope: bytes
    count: int  # type: ignore[assignment]  # the usual name; tuple.count is not used
    oldest: int


class StoreOverview:
    """Reads lanes and held messages over all partitions. Every method may raise StoreError."""

    def __init__(self, link: StoreConnection, partitions: int) -> None:
        self._link = link
        self._partitions = partitions

    def __repr__(self) -> str:
        return f"<StoreOverview over {self._partitions} partitions>"

    async def lanes(self) -> LanesView:
        """Return what waits in each lane, and since when."""
        now = held = 0
        lanes: dict[str, tuple[int, int, dict[str, WaitingMessages]]] = {}
        for reply in await self._link.calls([(partition, "overview", ()) for partition in range(self._partitions)]):
            now, held = max(now, reply[0]), _earlier(held, reply[1])
            for raw_name, more, due, ready in reply[2:]:
                name = raw_name.decode()
                delayed, next_due, accounts = lanes.get(name, (0, 0, {}))
                for raw, count, oldest in zip(ready[::3], ready[1::3], ready[2::3], strict=True):
                    account = raw.decode()
                    before = accounts.get(account, WaitingMessages(account, 0, 0))
                    accounts[account] = WaitingMessages(account, before.ready + count, _earlier(before.oldest, oldest))
                lanes[name] = (delayed + more, _earlier(next_due, due), accounts)
        views = [LaneView(name, *lanes[name][:2], tuple(lanes[name][2].values())) for name in sorted(lanes)]
        return LanesView(now, held, tuple(views))

    async def held(self) -> list[HeldMessages]:
        """Return whose messages are held. Reads all of them, 500 per call."""
        found: dict[tuple[str, bytes, bytes], tuple[int, int]] = {}
        todo = [(partition, 0) for partition in range(self._partitions)]
        while todo:
            replies = await self._link.calls([(partition, "overview", (start,)) for partition, start in todo])
            for reply in replies:
                for i in range(1, len(reply), 5):
                    account, account_scope, brand_scope, count, oldest = reply[i : i + 5]
                    key = account.decode(), account_scope, brand_scope
                    before = found.get(key, (0, 0))
                    found[key] = before[0] + count, _earlier(before[1], oldest)
            todo = [(partition, reply[0]) for (partition, _), reply in zip(todo, replies, strict=True) if reply[0] >= 0]
        return [HeldMessages(*key, *found[key]) for key in sorted(found)]


def _earlier(*instants: int) -> int:
    """Return the earliest of some instants, of which 0 means none."""
    return min((instant for instant in instants if instant), default=0)
