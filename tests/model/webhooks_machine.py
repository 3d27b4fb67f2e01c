"""The queues of webhooks against their model: two workers with restarts, two receivers, three partitions."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from random import Random

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.model import Category, Content, Envelope, NewMessage, OnUnknown, Permission, Reason, State
from gateway.store.ids import derived_id
from gateway.store.owner import LeaseOwner
from gateway.store.webhook_queues import (
    BatchOutcome,
    EventChunk,
    FrozenBatch,
    NextBatchRequest,
    PartitionTail,
    QueueAddress,
    WebhookQueues,
)
from tests.model.store_driver import PARTITIONS, StoreDriver
from tests.model.values import ACCOUNTS, HOUR, NUMBERS, seeds
from tests.model.webhooks_reference import Followed, Item, Outbox

OF_LATE = 24 * 3600

partitions = st.integers(0, PARTITIONS - 1)
owners = st.integers(0, 1)
accounts = st.sampled_from(ACCOUNTS)


class WebhooksMachine(RuleBasedStateMachine):
    """Set ``driver`` in a subclass."""

    driver: StoreDriver

    @initialize()
    def begin(self) -> None:
        self.driver.reset()
        self.webhook_queues = WebhookQueues(
            self.driver.link, self.driver.hasher, self.driver.vault, partitions=PARTITIONS, keep=100
        )
        self.model = [Followed() for _ in range(PARTITIONS)]
        self.owners = [LeaseOwner("w0", "0"), LeaseOwner("w1", "0")]
        self.tails: list[
            tuple[LeaseOwner, PartitionTail, tuple[int, int]]
        ] = []  # with life and entries moved when it was read
        self.count = 0

    def address(self, account: str) -> QueueAddress:
        return QueueAddress(account, "")

    def outbox(self, partition: int, account: str) -> tuple[bytes, Outbox]:
        queue = self.webhook_queues.queue_name(self.address(account))
        return queue, self.model[partition].outbox(queue)

    # -- events --------------------------------------------------------------------------------------------------------

    def message(self, account: str) -> NewMessage:
        """One that raises one event: it is refused at the door."""
        self.count += 1
        who = self.driver.hasher.recipient(NUMBERS[self.count % len(NUMBERS)])
        id_ = derived_id(self.driver.now, who.partition, self.count.to_bytes(8, "big"))
        permission = Permission(0, 0, self.driver.now + HOUR, 0, bytes(8), bytes(8))
        envelope = Envelope(who.digits, "s", account, int(Category.MARKETING), "b")
        state, reason, category = State.REJECTED, Reason.CONSENT_MISSING, Category.MARKETING
        return NewMessage(
            id_, who, state, reason, 0, category, OnUnknown.NEVER, "", 1, 1, permission, envelope, Content("x")
        )

    @rule(account=accounts, count=st.integers(1, 4))
    def happen(self, account: str, count: int) -> None:
        items = [self.message(account) for _ in range(count)]
        self.driver.run(self.driver.store.accept(items))
        for partition, followed in enumerate(self.model):
            labels = tuple(f"{account}.{one.id.hex()}" for one in items if one.recipient.partition == partition)
            if labels and followed.following:
                followed.entries.append(labels)

    @rule(names=st.lists(accounts, max_size=1))
    def follow(self, names: list[str]) -> None:
        self.driver.run(self.webhook_queues.follow(names))
        for followed in self.model:
            followed.named |= dict.fromkeys(names, self.driver.now)
            followed.following = True

    @rule()
    def unfollow(self) -> None:
        still = self.driver.run(self.webhook_queues.unfollow(OF_LATE))
        kept = False
        for followed in self.model:
            late = any(at > self.driver.now - OF_LATE * 1000 for at in followed.named.values())
            if followed.empty and not late:
                followed.named.clear()
            if followed.following and followed.empty and not late:
                followed.following, followed.holder = False, ""
                followed.entries, followed.moved, followed.life = [], 0, followed.life + 1
            kept = kept or followed.following
        assert still == kept

    # -- moving --------------------------------------------------------------------------------------------------------

    @rule(owner=owners)
    def read(self, owner: int) -> None:
        me = self.owners[owner]
        for tail in self.driver.run(self.webhook_queues.read(me, range(PARTITIONS))):
            followed = self.model[tail.partition]
            mine = followed.holder in ("", me.name) or LeaseOwner.parse(followed.holder).node == me.node
            assert bool(tail.lease) == (followed.following and mine)
            if not tail.lease:
                continue
            assert tail.lease == (1 if followed.holder == me.name else 2)
            followed.holder = me.name
            found = [entry.events[at : at + 16].hex() for entry in tail.entries for at in starts(entry.events)]
            assert found == [label.partition(".")[2] for some in followed.entries[followed.moved :] for label in some]
            if tail.entries:
                self.tails.append((me, tail, (followed.life, followed.moved)))

    @precondition(lambda self: self.tails)
    @rule(index=st.integers(0, 4), seed=seeds)
    def move(self, index: int, seed: int) -> None:
        """What was read lately, by any owner, in pieces of one to three events."""
        me, tail, place = self.tails[-1 - index % len(self.tails)]
        followed, r = self.model[tail.partition], Random(seed)
        pieces, items = [], []
        for account in ACCOUNTS:
            behind = followed.entries[place[1] : place[1] + len(tail.entries)]
            labels = [label for some in behind for label in some if label.startswith(account)]
            while labels:
                size = r.randint(1, 3)
                item = Item(r.randbytes(8), tuple(labels[:size]))
                del labels[:size]
                queue, box = self.outbox(tail.partition, account)
                items.append((box, item))
                pieces.append(EventChunk(queue, self.address(account), item.name, len(item.labels), item.plain))
        may = followed.following and followed.holder == me.name and place == (followed.life, followed.moved)
        (done,) = self.driver.run(self.webhook_queues.move(me, [(tail, pieces)]))
        assert (done is not None) == may
        if done is None:
            return
        for (box, item), told in zip(items, done, strict=True):
            assert told.is_batch == box.put(item, self.driver.now)
            assert told.waiting == events_of(one for one, _ in box.waiting)
        followed.moved += len(tail.entries)

    @rule(owner=owners)
    def leave(self, owner: int) -> None:
        me = self.owners[owner]
        self.driver.run(self.webhook_queues.release(me, range(PARTITIONS)))
        for followed in self.model:
            followed.holder = "" if followed.holder == me.name else followed.holder

    @rule(owner=owners)
    def restart(self, owner: int) -> None:
        old = self.owners[owner]
        self.owners[owner] = LeaseOwner(old.node, str(int(old.start) + 1))

    # -- posting -------------------------------------------------------------------------------------------------------

    @rule(
        partition=partitions,
        account=accounts,
        became=st.sampled_from([BatchOutcome.UNKNOWN, BatchOutcome.TAKEN, BatchOutcome.TAKEN, BatchOutcome.GIVEN_UP]),
        limit=st.sampled_from([1, 3, 100]),
        stale=st.sampled_from([False, False, False, True]),
        old=st.booleans(),
    )
    def next(self, partition: int, account: str, became: BatchOutcome, limit: int, stale: bool, old: bool) -> None:
        queue, box = self.outbox(partition, account)
        first = box.waiting[0][0].name if box.frozen and not stale else b"nobody's"
        until = self.driver.now if old else 0
        ask = NextBatchRequest(partition, queue, limit, became, first, until)
        (batch,) = self.driver.run(self.webhook_queues.next_batches([ask]))
        if became is not BatchOutcome.UNKNOWN:
            box.close(first, taken=became is BatchOutcome.TAKEN, until=until)
        box.freeze(limit)
        self.same_batch(batch, box)
        (again,) = self.driver.run(self.webhook_queues.next_batches([ask]))
        assert again == batch, "a repeated call changed something"

    def same_batch(self, batch: FrozenBatch | None, box: Outbox) -> None:
        if batch is None:
            assert not box.waiting
            return
        items = [item for item, _ in box.batch]
        assert (batch.first, batch.events, batch.since) == (items[0].name, events_of(items), box.waiting[0][1])
        assert batch.plain == b",".join(item.plain for item in items)
        assert batch.waiting == events_of(item for item, _ in box.waiting)

    @rule(partition=partitions, account=accounts, replay=st.booleans())
    def bury(self, partition: int, account: str, replay: bool) -> None:
        """Dead letters: back to the queue, or away."""
        queue, box = self.outbox(partition, account)
        if replay:
            assert self.driver.run(self.webhook_queues.replay(partition, queue)) == box.replay(self.driver.now)
        else:
            assert self.driver.run(self.webhook_queues.drop(partition, queue)) == box.drop()

    @rule(ms=st.sampled_from([1, 60_000, 25 * HOUR]))
    def advance(self, ms: int) -> None:
        self.driver.set_clock(self.driver.now + ms)

    # -- what holds ----------------------------------------------------------------------------------------------------

    @invariant()
    def every_event_is_in_one_place(self) -> None:
        if not hasattr(self, "model"):
            return
        named, seen = self.driver.run(self.webhook_queues.queues())
        assert named == {account for followed in self.model for account in followed.named}
        shown = {(queue.partition, queue.queue): queue for queue in seen}
        for partition, followed in enumerate(self.model):
            for queue, box in followed.outboxes.items():
                self.same_lists(partition, queue, box)
                there = shown.pop((partition, queue), None)
                assert (there is not None) == bool(box.waiting or box.dead)
                if there is not None:
                    waiting, dead = ([item for item, _ in some] for some in (box.waiting, box.dead))
                    assert (there.waiting, there.dead) == (events_of(waiting), events_of(dead))
                    assert there.since == (box.waiting[0][1] if box.waiting else 0)
        assert not shown, "queues of nobody"

    def same_lists(self, partition: int, queue: bytes, box: Outbox) -> None:
        """The raw lists hold what the model says, in its order."""
        tag, link = self.driver.link.tags[partition], self.driver.link
        lists = [(partition, ("LRANGE", tag + name + queue, 0, -1)) for name in (b"sh:", b"sq:", b"dh:", b"dq:")]
        heads, bodies, dead_heads, dead_bodies = self.driver.run(link.commands(lists))
        for some, sealed, items in ((heads, bodies, box.waiting), (dead_heads, dead_bodies, box.dead)):
            assert [head[:8] for head in some] == [item.name for item, _ in items]
            assert [zlib.decompress(self.driver.vault.open(one)) for one in sealed] == [item.plain for item, _ in items]


def starts(packed: bytes) -> Iterable[int]:
    """Where the events of an entry begin (all of accounts and nothing else, as a refusal raises them)."""
    at = 0
    while at < len(packed):
        yield at
        at += 33 + packed[at + 29] + packed[at + 30] + packed[at + 31] + packed[at + 32]


def events_of(items: Iterable[Item]) -> int:
    return sum(len(item.labels) for item in items)
