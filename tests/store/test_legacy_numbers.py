"""Stores from before one name stood for all spellings of a number: nothing said there is forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.model import Facts, Recipient, RuleGroup, RuleStatus
from gateway.policy.identity import VERSION
from gateway.store import keys
from gateway.store.crypto import Vault
from gateway.store.errors import StoreRefused
from gateway.store.legacy_numbers import LegacyNumberStore, migrate
from gateway.store.library import build_library
from gateway.store.messages import MessageStore
from gateway.store.redis.connection import StoreConnection, connect
from gateway.store.requests import OptChange
from tests.servers import Server

PARTITIONS = 8
LONDON, TRUNK = "447911123456", "4407911123456"
HASHER = keys.Hasher(b"s" * 32, PARTITIONS)
OWN = HASHER.recipient(LONDON)
FORMER = HASHER.spelled(LONDON)[0]  # what +44 07911… was called
SCOPE = b"account-"
SAID = 1_700_000_000_000


async def link_to(url: str, **more: bool) -> StoreConnection:
    return await connect(url, tags=keys.tags(PARTITIONS), library=build_library(), durability="everysec", **more)


@dataclass
class Stores:
    plain: MessageStore
    spelled: LegacyNumberStore


@pytest.fixture
async def stores(store_url: str) -> AsyncIterator[Stores]:
    link = await link_to(store_url)
    vault = Vault({1: bytes(32)}, 1)
    yield Stores(*[kind(link, HASHER, vault, partitions=PARTITIONS) for kind in (MessageStore, LegacyNumberStore)])
    await link.close()


def stop(who: Recipient, at: int = SAID) -> OptChange:
    return OptChange(who, RuleGroup.ALL, RuleStatus.STOPS, SCOPE, at, 0, b"STOP")


def lift(who: Recipient, at: int) -> OptChange:
    return OptChange(who, RuleGroup.ALL, RuleStatus.ALLOWS, SCOPE, at, 0, b"START")


async def test_an_opt_out_under_a_former_spelling_is_found_with_its_instant(stores: Stores) -> None:
    await stores.plain.opt([stop(FORMER)])
    assert await stores.plain.facts([OWN]) == [Facts()]
    (found,) = await stores.spelled.facts([OWN])
    assert [(rule.group, rule.status, rule.at) for rule in found.rules] == [(RuleGroup.ALL, RuleStatus.STOPS, SAID)]
    assert [record.detail for record in await stores.plain.opts(OWN)] == [b"STOP"]  # copied, with what came with it


async def test_the_later_rule_counts_under_whichever_name_it_was_written(stores: Stores) -> None:
    await stores.plain.opt([stop(FORMER), lift(OWN, SAID + 1)])
    (found,) = await stores.spelled.facts([OWN])
    assert [rule.status for rule in found.rules] == [RuleStatus.ALLOWS]
    assert await stores.spelled.carry([OWN]) == 0  # nothing is copied twice


async def test_what_waits_under_a_former_name_obeys_a_new_opt_out(stores: Stores) -> None:
    assert await stores.spelled.opt([stop(OWN)]) == [True]
    for name in HASHER.spelled(LONDON):
        (found,) = await stores.plain.facts([name])
        assert found.rules


async def test_a_message_of_before_is_decided_by_what_was_said_under_the_number_itself(stores: Stores) -> None:
    await stores.plain.opt([stop(OWN)])
    waiting = Recipient(TRUNK, FORMER.key, FORMER.partition)
    (found,) = await stores.spelled.facts([waiting])
    assert found.rules


async def test_an_operator_sees_rules_under_former_names(stores: Stores) -> None:
    await stores.plain.opt([stop(FORMER)])
    assert [record.at for record in await stores.spelled.opts(OWN)] == [SAID]


async def test_a_new_store_is_named_by_our_version_and_one_without_is_from_before(
    store_url: str, single_server: Server
) -> None:
    link = await link_to(store_url)
    assert link.numbers == VERSION
    await link.close()
    single_server.run("HDEL", "gateway:meta", "numbers")
    for _ in range(2):  # and it stays so
        link = await link_to(store_url)
        assert link.numbers == 0
        await link.close()


async def test_names_by_other_rules_are_refused_with_what_to_do(
    store_url: str, single_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await link_to(store_url)).close()
    single_server.run("HSET", "gateway:meta", "numbers", VERSION + 1)
    with pytest.raises(StoreRefused, match="upgrade this gateway"):
        await link_to(store_url)
    single_server.run("HSET", "gateway:meta", "numbers", VERSION)
    monkeypatch.setattr("gateway.store.redis.connection.VERSION", VERSION + 1)
    with pytest.raises(StoreRefused, match="smpp-gateway migrate"):
        await link_to(store_url)
    await (await link_to(store_url, migrating=True)).close()


async def test_a_store_with_rules_is_migrated_by_the_numbers_of_its_recipients(
    store_url: str, single_server: Server
) -> None:
    await (await link_to(store_url)).close()
    single_server.run("HDEL", "gateway:meta", "numbers")
    link = await link_to(store_url)
    store = LegacyNumberStore(link, HASHER, Vault({1: bytes(32)}, 1), partitions=PARTITIONS)
    await MessageStore.opt(store, [stop(FORMER)])
    assert (await migrate(link, store, None)).done is False
    assert single_server.run("HGET", "gateway:meta", "numbers") is None
    done = await migrate(link, store, [LONDON, "46701740605"])
    assert (done.former, done.done) == (0, True)
    assert done.copied >= 1
    await link.close()
    link = await link_to(store_url)
    assert link.numbers == VERSION
    assert (await MessageStore(link, HASHER, Vault({1: bytes(32)}, 1), partitions=PARTITIONS).facts([OWN]))[0].rules
    assert (await migrate(link, store, None)).former == VERSION  # again: nothing to do
    await link.close()


async def test_a_store_without_rules_is_migrated_without_numbers(store_url: str, single_server: Server) -> None:
    await (await link_to(store_url)).close()
    single_server.run("HDEL", "gateway:meta", "numbers")
    link = await link_to(store_url)
    store = LegacyNumberStore(link, HASHER, Vault({1: bytes(32)}, 1), partitions=PARTITIONS)
    assert (await migrate(link, store, None)).done
    await link.close()


def test_migrate_by_command(tmp_path: Path, store_url: str, single_server: Server) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f'[store]\nurl = "{store_url}"\ndata_dir = "{tmp_path}/data"\ndurability = "everysec"\n')
    run = CliRunner().invoke
    first = run(app, ["migrate", "-c", str(file)])
    assert (first.exit_code, "nothing to do" in first.output) == (0, True), first.output
    single_server.run("HDEL", "gateway:meta", "numbers")
    tag = keys.tags(PARTITIONS)[0].decode()
    single_server.run("HSET", f"{tag}r", "x" * 16, "")
    asked = run(app, ["migrate", "-c", str(file)])
    assert (asked.exit_code, "--numbers" in asked.output) == (1, True)
    numbers = tmp_path / "numbers"
    numbers.write_text("+447911123456\n12\n")
    wrong = run(app, ["migrate", "-c", str(file), "--numbers", str(numbers)])
    assert (wrong.exit_code, "line 2" in wrong.output) == (2, True)
    numbers.write_text("+447911123456\n\n46701740605\n")
    done = run(app, ["migrate", "-c", str(file), "--numbers", str(numbers), "--json"])
    assert (done.exit_code, '"done": true' in done.output) == (0, True), done.output
