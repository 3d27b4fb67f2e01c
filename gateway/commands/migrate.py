"""``smpp-gateway migrate``: rename the recipients in a store of an earlier version by the rules of this one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.commands.common import Exit, fail

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.store.legacy_numbers import MigrationResult


async def run_migration(config: Config, numbers: list[str] | None) -> MigrationResult:
    """Migrate the store of a configuration and return the result. Raises StoreError."""
    from gateway.open_store import open_store
    from gateway.store.keys import Hasher
    from gateway.store.legacy_numbers import LegacyNumberStore, migrate

    async with open_store(config, migrating=True) as (link, secrets, _):
        hasher = Hasher(secrets.hashing, config.store.partitions)
        store = LegacyNumberStore(link, hasher, secrets.vault, partitions=config.store.partitions)
        return await migrate(link, store, numbers)


def read_numbers(file: Path) -> list[str]:
    """Return the digits of the number on each line. Exits with code 2 for an unreadable file or an invalid number."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        fail(Exit.USAGE, f"cannot read {file}: {error}")
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


def summary(done: MigrationResult) -> str:
    """Return the result of a migration in words."""
    if not done.done:
        return (
            f"Nothing was changed. This store holds consents and opt-outs of {done.rules} recipients under a name per "
            "spelling of a number, and names cannot be turned back into numbers. Until it is migrated, every message "
            "looks up the other spellings as well. List every number that has a consent or opt-out, one per line, and "
            "run: smpp-gateway migrate --config FILE --numbers NUMBERS"
        )
    if done.former:
        return f"Nothing to do: the store is up to date (version {done.former} of recipient names)."
    return (
        f"Done: recipients have one name for all spellings of a number ({done.copied} consents and opt-outs copied). "
        "Start the gateways again."
    )
