"""``smpp-gateway migrate``: names of recipients in a store from before, by the rules of this version."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.commands.common import Exit, fail

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.store.legacy_numbers import MigrationResult


async def migrated(config: Config, numbers: list[str] | None) -> MigrationResult:
    """Migrate the store of this configuration. Raises StoreError."""
    from gateway.open_store import open_store
    from gateway.store.keys import Hasher
    from gateway.store.legacy_numbers import LegacyNumberStore, migrate

    async with open_store(config, migrating=True) as (link, secrets, _):
        hasher = Hasher(secrets.hashing, config.store.partitions)
        store = LegacyNumberStore(link, hasher, secrets.vault, partitions=config.store.partitions)
        return await migrate(link, store, numbers)


def read_numbers(file: Path) -> list[str]:
    """The digits on each line of a file; exit code 2 when it cannot be read, or has a line that is no number."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        fail(Exit.USAGE, f"{file} cannot be read: {error}")
    return list(_digits(file, lines))


def _digits(file: Path, lines: Iterable[str]) -> Iterable[str]:
    from gateway.policy.dialling import InvalidNumber, parse_e164

    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        try:
            yield parse_e164(text if text.startswith("+") else f"+{text}")
        except InvalidNumber as error:
            fail(Exit.USAGE, f"{file}, line {number}: {error}; nothing was changed")


def told(done: MigrationResult) -> str:
    """What a migration did, in words."""
    if not done.done:
        return (
            f"This store keeps the words of {done.rules} recipients under names made of each spelling of a number, and "
            "nobody can read numbers from names. Nothing was changed: the gateway goes on looking up the other "
            "spellings with every message. To end that, give every number whose consent or opt-out you keep, one a "
            "line: smpp-gateway migrate --config FILE --numbers NUMBERS"
        )
    if done.former:
        return f"Recipients are named by version {done.former}, which is this gateway's: nothing to do."
    return (
        f"Done: one name stands for all spellings of a number ({done.copied} words of recipients copied). Start the "
        "gateways again."
    )
