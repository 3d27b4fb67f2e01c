"""Webhooks on a real store, posted to a real endpoint that fails in many ways."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from gateway import signature
from gateway.config.addresses import AddressGuard
from gateway.model import Category, Content, Envelope, NewMessage, OnUnknown, Permission, Reason, State
from gateway.store.crypto import Vault
from gateway.store.errors import StoreError, StoreUnavailable
from gateway.store.former_accounts import EndpointSettings
from gateway.store.ids import new_ids, partition_of, text
from gateway.store.keys import Hasher, tags
from gateway.store.library import build_library
from gateway.store.messages import MessageStore
from gateway.store.owner import LeaseOwner
from gateway.store.redis.connection import StoreConnection, connect
from gateway.store.webhook_queues import FrozenBatch, NextBatchRequest, WebhookQueues
from gateway.webhooks.admin import WebhookAdmin, without_query
from gateway.webhooks.endpoints import Endpoints
from gateway.webhooks.event_json import write_summarized
from gateway.webhooks.follower import EventFollower
from gateway.webhooks.poster import Poster
from tests.webhooks.receivers import Inbox, inbox

PARTITIONS = 2
KEYS = (bytes(range(32)), bytes(32))
HOUR = 3_600_000


@asynccontextmanager
async def running(follower: EventFollower) -> AsyncIterator[EventFollower]:
    await follower.start()
    task = asyncio.create_task(follower.run())
    try:
        yield follower
    finally:
        task.cancel()
        await follower.stop(0.1)


def endpoint(account: str, url: str, keys: tuple[bytes, ...] = (), batch: int = 100) -> tuple[str, EndpointSettings]:
    return account, EndpointSettings(url, keys, batch)


def local_poster() -> Poster:
    return Poster(AddressGuard(["127.0.0.0/8"]), agent="test")


class WebhookSetup:
    """A store, and as many workers as are asked for."""

    def __init__(self, link: StoreConnection) -> None:
        self.link = link
        self.hasher = Hasher(bytes(32), PARTITIONS)
        vault = Vault({1: bytes(32)}, 1)
        self.store = MessageStore(link, self.hasher, vault, partitions=PARTITIONS)
        self.webhook_queues = WebhookQueues(link, self.hasher, vault, partitions=PARTITIONS, keep=1000)
        self.count = 0

    def build(
        self,
        *settings: tuple[str, EndpointSettings],
        owner: LeaseOwner | None = None,
        make_poster: Callable[[], Poster] = local_poster,
    ) -> EventFollower:
        self.endpoints = Endpoints(make_poster)
        follower = EventFollower(self.webhook_queues, self.store, owner or LeaseOwner.fresh("node"), self.endpoints)
        follower.configure(dict(settings))
        return follower

    def admin(self, follower: EventFollower) -> WebhookAdmin:
        """Of the follower built last."""
        return WebhookAdmin(self.webhook_queues, self.endpoints, follower.scheduler)

    @asynccontextmanager
    async def worker(self, *settings: tuple[str, EndpointSettings]) -> AsyncIterator[EventFollower]:
        async with running(self.build(*settings)) as follower:
            yield follower

    async def refuse(self, count: int, account: str = "shop", url: str = "") -> list[str]:
        """Messages with one event each, a final one; their ids."""
        now = time.time_ns() // 1_000_000
        recipients = [self.hasher.recipient(f"4670{self.count + n:07d}") for n in range(count)]
        self.count += count
        permission = Permission(0, 0, now + HOUR, 0, bytes(8), bytes(8))
        ids = new_ids(now, [recipient.partition for recipient in recipients])
        messages = [
            NewMessage(
                one,
                recipient,
                State.REJECTED,
                Reason.CONSENT_MISSING,
                0,
                Category.MARKETING,
                OnUnknown.NEVER,
                "",
                1,
                1,
                permission,
                Envelope(recipient.digits, "s", account, 2, "b", f"ref-{recipient.digits}", url),
                Content("x"),
            )
            for one, recipient in zip(ids, recipients, strict=True)
        ]
        await self.store.accept(messages)
        return [text(one) for one in ids]


@pytest.fixture
async def setup(store_url: str) -> AsyncIterator[WebhookSetup]:
    link = await connect(store_url, tags=tags(PARTITIONS), library=build_library(), durability="everysec")
    yield WebhookSetup(link)
    await link.everywhere("FLUSHALL")  # others share the server, with other partitions
    await link.close()


@pytest.fixture
async def box() -> AsyncIterator[Inbox]:
    async with inbox() as built:
        yield built


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.webhooks.follower.ROUND", 0.01)
    monkeypatch.setattr("gateway.webhooks.endpoint_queue.retry_delay", lambda *_: 0.02)


def messages(box: Inbox) -> list[str]:
    return [event["data"]["message_id"] for event in box.taken]


async def eventually(holds: Callable[[], Awaitable[bool]], seconds: float = 5.0) -> None:
    """Wait until the store says so. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - it happens in a server
            await asyncio.sleep(0.02)


async def is_dead(setup: WebhookSetup, count: int) -> bool:
    return sum(queue.dead for queue in (await setup.webhook_queues.queues())[1]) == count


async def empty(setup: WebhookSetup) -> bool:
    return await setup.webhook_queues.queues() == (set(), [])


async def test_events_are_posted_signed_and_in_batches(setup: WebhookSetup, box: Inbox) -> None:
    async with setup.worker(endpoint("shop", box.url, KEYS, 50)) as follower:
        ids = await setup.refuse(300)
        await setup.refuse(5, account="bank")  # has no endpoint
        await box.until(lambda: len(box.taken) == 300)
        await asyncio.sleep(0.1)
        assert follower.scheduler.counts == {"events": 300, "posted": 300}
        assert repr(follower).startswith("<EventFollower <DeliveryScheduler 0 queues active>")
    assert sorted(messages(box)) == sorted(ids)
    assert {event["data"]["client_ref"] for event in box.taken} == {f"ref-4670{n:07d}" for n in range(300)}
    for headers, body in box.posts:
        assert len(msgspec.json.decode(body)) <= 50
        for key in KEYS:
            assert signature.verify([key], headers, body, time.time()) == headers["webhook-id"]
    assert len(set(box.names)) == len(box.posts)
    assert box.probes <= PARTITIONS  # each queue may ask before the first answer is there
    assert await empty(setup)


async def test_an_endpoint_that_is_down_gets_each_event_once(setup: WebhookSetup, box: Inbox) -> None:
    box.status = 503
    async with setup.worker(endpoint("shop", box.url, KEYS)) as follower:
        ids = await setup.refuse(20)
        await box.until(lambda: box.probes >= 10)
        (failing, *_) = follower.scheduler.failing()
        assert (failing.address.account, failing.last_error) == ("shop", "HTTP 503")
        assert "HTTP 503" in repr(failing)
        (status,) = await setup.admin(follower).endpoints()
        assert (status.waiting, status.last_error) == (20, "HTTP 503")
        assert 0 < status.failing_s < 10
        assert 0 < follower.scheduler.outages()["shop"] < 10
        assert box.posts == []
        box.status = 200
        await box.until(lambda: len(box.taken) == 20)
        assert sorted(messages(box)) == sorted(ids)
        await asyncio.sleep(0.1)
        assert follower.scheduler.failing() == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 422, 501])
async def test_an_endpoint_that_does_not_support_probes_gets_the_events(
    setup: WebhookSetup, box: Inbox, status: int
) -> None:
    box.probe_status = status
    async with setup.worker(endpoint("shop", box.url, KEYS)):
        await setup.refuse(4)
        await box.until(lambda: len(box.taken) == 4)


async def test_an_endpoint_that_fails_probes_gets_the_events_and_is_not_probed_again(
    setup: WebhookSetup, box: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.webhooks.endpoint_queue.PROBE_FOR", 0.2)
    box.probe_status = 500
    async with setup.worker(endpoint("shop", box.url, KEYS)):
        await setup.refuse(4)
        await box.until(lambda: len(box.taken) == 4)
        await asyncio.sleep(0.1)
        probes, box.status = box.probes, 500
        await setup.refuse(4)
        await box.until(lambda: len(box.posts) > 4)
        box.status = 200
        await box.until(lambda: len(box.taken) == 8)
        assert box.probes == probes
    assert max(Counter(messages(box)).values()) == 1


async def test_an_endpoint_that_closes_on_probes_gets_the_events(
    setup: WebhookSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that hangs up on what it does not know."""
    monkeypatch.setattr("gateway.webhooks.endpoint_queue.PROBE_FOR", 0.2)
    bodies = []

    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if head.startswith(b"post"):
            bodies.append(await reader.readexactly(int(head.split(b"content-length:")[1].split()[0])))
            writer.write(b"HTTP/1.1 204 No\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(rude, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, setup.worker(endpoint("shop", url)) as follower:
        ids = await setup.refuse(4)

        async def posted() -> bool:
            return follower.scheduler.counts["posted"] == 4

        await eventually(posted)
        told = [event["data"]["message_id"] for body in bodies for event in msgspec.json.decode(body)]
        assert sorted(told) == sorted(ids)


async def test_an_endpoint_that_is_gone_is_not_tried_again(setup: WebhookSetup, box: Inbox) -> None:
    box.status = 410
    async with setup.worker(endpoint("shop", box.url)) as follower:
        await setup.refuse(6)
        await eventually(lambda: is_dead(setup, 6))
        posts = len(box.posts) + box.probes
        await setup.refuse(6)
        await eventually(lambda: is_dead(setup, 12))
        assert len(box.posts) + box.probes == posts
        box.status = 200
        await follower.reload()  # a reload: perhaps it is another one now
        assert await setup.admin(follower).replay("shop") == 12
        await setup.refuse(1)
        await setup.refuse(20)
        await box.until(lambda: len(box.taken) == 33)


async def test_dead_urls_of_an_account_do_not_crowd_out_a_healthy_one(
    setup: WebhookSetup, box: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More dead receivers than may be worked at once, each on a server of its own that is mute."""
    monkeypatch.setattr("gateway.webhooks.scheduler.MAX_ACTIVE", 20)
    monkeypatch.setattr("gateway.webhooks.endpoint_queue.retry_delay", lambda *_: 30.0)
    mute = [socket.create_server(("127.0.0.1", 0)) for _ in range(40)]
    follower = setup.build(
        endpoint("shop", box.url),
        make_poster=lambda: Poster(AddressGuard(["127.0.0.0/8"]), connect=0.3, total=0.3),
    )
    async with running(follower):
        await follower.follow_accounts({"shop"})
        await setup.refuse(4)
        await box.until(lambda: len(box.taken) == 4)
        for one in mute:
            await setup.refuse(2, url=f"http://127.0.0.1:{one.getsockname()[1]}/")
        for round_ in range(3):
            follower.scheduler.retry_all()  # all of the dead at once
            begun = time.monotonic()
            await setup.refuse(4)
            await box.until(lambda count=8 + 4 * round_: len(box.taken) == count)  # type: ignore[misc]
            assert time.monotonic() - begun < 1.5
            await asyncio.sleep(0.2)
        assert len(follower.scheduler.failing()) > 20
        assert "waiting to retry" in repr(follower.scheduler)
    for one in mute:
        one.close()


async def test_a_batch_keeps_its_id_and_its_octets_until_it_is_taken(
    setup: WebhookSetup, box: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.webhooks.endpoint_queue.PROBE_FOR", 0.0)
    box.status = 500
    async with setup.worker(endpoint("shop", box.url, KEYS)):
        await setup.refuse(10)
        await box.until(lambda: len(box.posts) >= 8)
        await setup.refuse(10)
        await box.until(lambda: len(box.posts) >= 16)
        bodies = {headers["webhook-id"]: body for headers, body in box.posts}
        assert all(bodies[headers["webhook-id"]] == body for headers, body in box.posts)
        assert len(bodies) <= PARTITIONS
        box.status = 200
        await box.until(lambda: len(box.taken) == 20)
    assert max(Counter(messages(box)).values()) == 1


async def test_a_batch_is_the_same_after_a_reload_and_a_restart(
    setup: WebhookSetup, box: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.webhooks.endpoint_queue.PROBE_FOR", 0.0)
    box.status = 500

    def bodies(since: int) -> dict[str, bytes]:
        return {headers["webhook-id"]: body for headers, body in box.posts[since:]}

    async with setup.worker(endpoint("shop", box.url, KEYS[:1], 50)) as follower:
        await setup.refuse(30)
        await box.until(lambda: len(bodies(0)) == PARTITIONS)
        first, seen = bodies(0), len(box.posts)
        follower.configure(dict([endpoint("shop", box.url, KEYS, 3)]))  # a reload: smaller batches, a second secret
        await follower.reload()
        await box.until(lambda: len(box.posts) >= seen + 2 * PARTITIONS)
        headers, body = box.posts[-1]
        assert len(headers["webhook-signature"].split()) == 2
        for key in KEYS:
            assert signature.verify([key], headers, body, time.time())
    async with setup.worker(endpoint("shop", box.url, KEYS[1:], 3)):
        await box.until(lambda: len(box.posts) >= seen + 4 * PARTITIONS)
        assert bodies(0) == first
        headers, body = box.posts[-1]
        assert signature.verify(KEYS[1:], headers, body, time.time())
        with pytest.raises(signature.BadSignature):
            signature.verify(KEYS[:1], headers, body, time.time())
        box.status = 200
        await box.until(lambda: len(box.taken) == 30)
        await setup.refuse(10)
        await box.until(lambda: len(box.taken) == 40)
        assert max(len(msgspec.json.decode(body)) for _, body in box.posts[-2:]) <= 3


async def test_one_post_at_a_time_and_a_backlog_goes_in_full_batches(setup: WebhookSetup, box: Inbox) -> None:
    box.delay = 0.15
    async with setup.worker(endpoint("shop", box.url, KEYS, 500)):
        for _ in range(10):
            await setup.refuse(10)
            await asyncio.sleep(0.02)
        await box.until(lambda: len(box.taken) == 100)
    assert len(box.posts) <= 4 * PARTITIONS


async def test_a_dead_endpoint_does_not_delay_others(setup: WebhookSetup, box: Inbox) -> None:
    async with (
        inbox() as dead,
        setup.worker(endpoint("shop", box.url), endpoint("bank", dead.url)) as follower,
    ):
        dead.delay = 60.0
        await setup.refuse(50, account="bank")
        await dead.until(lambda: dead.probes > 0)
        begun = time.monotonic()
        await setup.refuse(50)
        await box.until(lambda: len(box.taken) == 50)
        assert time.monotonic() - begun < 1.0
        assert dead.taken == []
        assert "webhook-signature" not in box.posts[0][0]  # no secret, no signature
        await box.until(lambda: follower.scheduler.counts["posted"] == 50)


async def test_events_that_are_too_old_become_dead_letters_and_can_be_replayed(setup: WebhookSetup, box: Inbox) -> None:
    box.status = 500
    settings = endpoint("shop", box.url, KEYS)
    async with setup.worker(settings) as follower:
        setup.endpoints.give_up_after = 0
        webhook_admin = setup.admin(follower)
        ids = await setup.refuse(20)
        await eventually(lambda: is_dead(setup, 20))
        (status,) = await webhook_admin.endpoints()
        assert (status.account, status.url, status.own, status.dead) == ("shop", box.url, True, 20)
        dead = [msgspec.json.decode(raw) for raw in await webhook_admin.dead("shop", most=15)]
        assert len(dead) == 15
        assert {event["data"]["message_id"] for event in dead} <= set(ids)
        assert await webhook_admin.dead("bank") == []
        assert await webhook_admin.replay("bank") == 0
        setup.endpoints.give_up_after = 86400
        box.status = 200
        assert await webhook_admin.replay("shop", box.url) == 20
        await box.until(lambda: len(box.taken) == 20)
        assert sorted(messages(box)) == sorted(ids)
        await asyncio.sleep(0.1)
        assert await empty(setup)


async def test_dead_letters_can_be_dropped(setup: WebhookSetup, box: Inbox) -> None:
    box.status = 500
    async with setup.worker(endpoint("shop", box.url)) as follower:
        setup.endpoints.give_up_after = 0
        webhook_admin = setup.admin(follower)
        await setup.refuse(20)
        await eventually(lambda: is_dead(setup, 20))
        assert await webhook_admin.drop("shop") == 20
        assert await empty(setup)


async def test_dead_letters_are_bounded(setup: WebhookSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.webhook_queues.MAX_DEAD", 3)
    async with setup.worker(endpoint("shop", "http://127.0.0.1:9/", batch=1)):
        setup.endpoints.give_up_after = 0
        await setup.refuse(30)

        async def all_given_up() -> bool:
            _, queues = await setup.webhook_queues.queues()
            return sum(queue.dead + queue.dropped for queue in queues) == 30

        await eventually(all_given_up)
        _, queues = await setup.webhook_queues.queues()
        assert [queue.dead for queue in queues] == [3] * PARTITIONS
        assert sum(queue.dead + queue.dropped for queue in queues) == 30


async def test_a_failing_endpoint_keeps_a_bounded_backlog(
    setup: WebhookSetup, box: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.webhooks.scheduler.MAX_WAITING", 40)
    monkeypatch.setattr("gateway.webhooks.endpoint_queue.retry_delay", lambda *_: 60.0)
    box.status = 500
    async with setup.worker(endpoint("shop", box.url)):
        for _ in range(20):
            await setup.refuse(20)
            await asyncio.sleep(0.03)
        _, queues = await setup.webhook_queues.queues()
        assert sum(queue.waiting + queue.dead for queue in queues) == 400
        assert sum(queue.dead for queue in queues) > 0


async def test_messages_name_their_own_endpoints(setup: WebhookSetup, box: Inbox) -> None:
    async with (
        inbox() as other,
        setup.worker(endpoint("shop", "", KEYS), endpoint("bank", box.url, KEYS)) as follower,
    ):
        await follower.follow_accounts({"shop"})
        await setup.refuse(4, url=other.url)
        await setup.refuse(4)  # no endpoint
        await setup.refuse(4, account="bank")
        await setup.refuse(4, account="bank", url=f"{other.url}?secret=1")
        await other.until(lambda: len(other.taken) == 8)
        await box.until(lambda: len(box.taken) == 4)
        assert {event["account"] for event in other.taken} == {"shop", "bank"}


async def test_events_are_not_followed_until_a_message_names_a_url(setup: WebhookSetup, box: Inbox) -> None:
    async with setup.worker(endpoint("shop", "", KEYS)) as follower:
        await setup.refuse(4)
        await asyncio.sleep(0.1)
        assert await setup.link.command(0, "EXISTS", setup.link.tags[0] + b"g") == 0
        await follower.follow_accounts({"shop"})
        await setup.refuse(4, url=box.url)
        await box.until(lambda: len(box.taken) == 4)
    async with setup.worker(endpoint("shop", "", KEYS)):  # a restart remembers who was named
        await setup.refuse(4, url=box.url)
        await box.until(lambda: len(box.taken) == 8)
    assert await empty(setup) or await setup.webhook_queues.queues() == ({"shop"}, [])
    assert await setup.webhook_queues.unfollow(86400)
    assert not await setup.webhook_queues.unfollow(0)
    assert await setup.link.command(0, "EXISTS", setup.link.tags[0] + b"g") == 0


async def test_posts_to_a_url_that_a_message_names_are_never_unsigned(setup: WebhookSetup, box: Inbox) -> None:
    """Also when the account's secret was taken away after the message was accepted."""
    async with setup.worker(endpoint("shop", "")) as follower:
        await follower.follow_accounts({"shop"})
        await setup.refuse(4, url=box.url)
        async with asyncio.timeout(5):
            while not follower.scheduler.failing():  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.01)
        assert {"webhook_secret" in queue.last_error for queue in follower.scheduler.failing()} == {True}
        assert not box.posts
        assert not box.probes


async def test_a_reload_changes_where_events_go(setup: WebhookSetup, box: Inbox) -> None:
    async with inbox() as new, setup.worker() as follower:
        follower.configure(dict([endpoint("shop", box.url)]))
        await follower.reload()
        await setup.refuse(4)
        await box.until(lambda: len(box.taken) == 4)
        box.status = 500
        await setup.refuse(4)
        await box.until(lambda: len(box.posts) > 4 or box.probes > 4)
        follower.configure(dict([endpoint("shop", new.url, KEYS)]))
        await follower.reload()  # what waits goes where the account is now
        await new.until(lambda: len(new.taken) == 4)


async def test_an_account_that_loses_its_endpoint_keeps_its_events(setup: WebhookSetup, box: Inbox) -> None:
    box.status = 500
    async with setup.worker(endpoint("shop", box.url)) as follower:
        await setup.refuse(4)
        await box.until(lambda: box.probes > 2)
        follower.configure(dict([endpoint("shop", "")]))
        await box.until(
            lambda: any("no callback_url" in failing.last_error for failing in follower.scheduler.failing())
        )
        box.status = 200
        follower.configure(dict([endpoint("shop", box.url)]))
        await box.until(lambda: len(box.taken) == 4)


async def test_a_killed_worker_loses_nothing(setup: WebhookSetup, box: Inbox) -> None:
    """What was posted and not acknowledged comes again, with the same event ids; nothing else does."""
    box.delay = 0.2
    follower = setup.build(endpoint("shop", box.url, KEYS))
    await follower.start()
    task = asyncio.create_task(follower.run())
    ids = await setup.refuse(40)
    await box.until(lambda: len(box.posts) >= 1)
    task.cancel()
    for active in follower.scheduler._active.values():
        active.task.cancel()
    await setup.endpoints.close()
    ids += await setup.refuse(40)
    box.delay = 0.0
    async with setup.worker(endpoint("shop", box.url, KEYS)):  # the same node, started again: at once
        await box.until(lambda: {*messages(box)} == {*ids}, 3.0)
        await asyncio.sleep(0.2)
    repeated = {event["id"] for event in box.taken}
    assert len(repeated) == 80
    names = Counter(box.names)
    assert max(names.values()) <= 2
    assert await empty(setup)


async def test_two_workers_share_the_partitions(
    setup: WebhookSetup, box: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.webhooks.follower.SHARE_EVERY", 0.05)
    owners = [LeaseOwner.fresh("one"), LeaseOwner.fresh("two")]
    followers = [setup.build(endpoint("shop", box.url), owner=owner) for owner in owners]
    for owner in owners:
        await setup.store.beat(owner)
    tasks = [asyncio.create_task(follower.run()) for follower in followers]
    for follower in followers:
        await follower.start()
    try:
        await asyncio.sleep(0.3)
        assert sorted(partition for follower in followers for partition in follower._versions) == list(
            range(PARTITIONS)
        )
        assert all(len(follower._versions) == 1 for follower in followers)
        await setup.refuse(100)
        await box.until(lambda: len(box.taken) >= 100)
    finally:
        for task in tasks:
            task.cancel()
        for follower in followers:
            await follower.stop(0)
    assert max(Counter(messages(box)).values()) == 1


async def test_a_store_outage_loses_and_repeats_nothing(
    setup: WebhookSetup, box: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.webhooks.endpoint_queue.STORE_RETRY", 0.02)
    real_next = setup.webhook_queues.next_batches
    failures = iter(range(3))

    async def shaky(asks: Iterable[NextBatchRequest]) -> list[FrozenBatch | None]:
        done = await real_next(list(asks))  # it was done, but its reply is lost
        if next(failures, None) is not None:
            raise StoreUnavailable("away")
        return done

    monkeypatch.setattr(setup.webhook_queues, "next_batches", shaky)
    async with setup.worker(endpoint("shop", box.url, batch=5)):
        await setup.refuse(40)
        await box.until(lambda: len(box.taken) >= 40)
        await asyncio.sleep(0.2)
        assert await empty(setup)
    assert max(Counter(messages(box)).values()) == 1


async def test_a_test_post(setup: WebhookSetup, box: Inbox) -> None:
    async with setup.worker(endpoint("shop", box.url, KEYS), endpoint("bank", "")) as follower:
        webhook_admin = setup.admin(follower)
        tested = await webhook_admin.test("shop")
        assert tested is not None
        assert tested.as_json() | {"ms": 0} == {"ok": True, "status": 200, "fault": None, "ms": 0, "signed": True}
        (event,) = box.taken
        assert event["type"] == "webhook.test"
        assert await webhook_admin.test("bank") is None
        assert await webhook_admin.test("nobody", box.url) is None
        elsewhere = await webhook_admin.test("bank", "https://127.0.0.2:1/")
        assert elsewhere is not None
        assert not elsewhere.outcome.ok


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("https://a.example/x?token=secret", "https://a.example/x?…"),
        ("https://a.example/x", "https://a.example/x"),
        ("", ""),
        ("https://[", ""),
    ],
)
def test_urls_are_shown_without_their_query(url: str, seen: str) -> None:
    assert without_query(url) == seen


async def test_a_partition_whose_events_cannot_be_read_holds_up_only_itself_for_three_rounds(
    setup: WebhookSetup, box: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = 0

    def failing(entries: Iterable[Any], *rest: Any) -> Any:
        if any(one[:16].hex() in poison for one, *_ in entries):
            nonlocal bad
            bad += 1
            raise OverflowError("cannot be read")
        return write_summarized(entries, *rest)

    poison: set[str] = set()
    monkeypatch.setattr("gateway.webhooks.follower.write_summarized", failing)
    monkeypatch.setattr("gateway.webhooks.follower.ROUND", 0.01)
    follower = setup.build(endpoint("shop", box.url, KEYS))
    await follower.start()
    ids = await setup.refuse(40)
    place_of = {one: uuid.UUID(one).bytes for one in ids}
    first = next(iter(place_of.values()))
    poison.add(first.hex())
    elsewhere = [one for one, raw in place_of.items() if partition_of(raw) != partition_of(first)]
    task = asyncio.create_task(follower.run())
    try:
        await box.until(lambda: set(elsewhere) <= set(messages(box)))
        async with asyncio.timeout(10):
            while follower._supervision.set_aside_counts["events"] != 1:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.01)
        assert bad == 3
        again = await setup.refuse(40)
        await box.until(lambda: set(again) <= set(messages(box)))
    finally:
        task.cancel()
        await follower.stop(0.1)


async def test_a_partition_whose_events_cannot_be_moved_holds_up_only_itself(
    setup: WebhookSetup, box: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = setup.webhook_queues.move
    stuck = {0}

    async def picky(owner: LeaseOwner, moves: Any) -> Any:
        if any(tail.partition in stuck for tail, _ in moves):
            raise StoreError("malformed: argument 7")
        return await move(owner, moves)

    monkeypatch.setattr(setup.webhook_queues, "move", picky)
    async with setup.worker(endpoint("shop", box.url, KEYS)):
        ids = await setup.refuse(40)
        other = {one for one in ids if partition_of(uuid.UUID(one).bytes) != 0}
        await box.until(lambda: set(messages(box)) == other)
        stuck.clear()
        await box.until(lambda: set(messages(box)) == set(ids))
