"""Open the store of a configuration: start the embedded server if there is one, connect, and load the secrets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.config import Config
from gateway.store import crypto
from gateway.store.embedded.server import EmbeddedServer
from gateway.store.errors import StoreUnavailable
from gateway.store.keys import tags
from gateway.store.library import build_library
from gateway.store.redis.connection import StoreConnection, connect


@asynccontextmanager
async def open_store(
    config: Config, *, migrating: bool = False
) -> AsyncIterator[tuple[StoreConnection, crypto.Secrets, EmbeddedServer | None]]:
    """Connect to the configured store; an embedded server runs as long as the context. Raise StoreError."""
    embedded: EmbeddedServer | None = None
    settings = config.store
    url = settings.url
    if settings.embedded:
        embedded = EmbeddedServer(Path(settings.data_dir), settings.durability)
        await embedded.start()
        url = embedded.url
    try:
        async with connect_store(config, url, migrating=migrating) as (link, secrets):
            yield link, secrets, embedded
    except StoreUnavailable as error:
        why = embedded.fault_text() if embedded is not None else ""
        if why:
            raise StoreUnavailable(f"the embedded store has died: {why}") from error
        raise
    finally:
        if embedded is not None:
            await embedded.stop()


@asynccontextmanager
async def connect_store(
    config: Config, url: str, *, migrating: bool = False
) -> AsyncIterator[tuple[StoreConnection, crypto.Secrets]]:
    """Connect to the running store at ``url`` and load the secrets that decrypt what it holds. Raise StoreError."""
    settings, secrets = config.store, _secrets(config)
    link = await connect(
        url,
        tags=tags(settings.partitions),
        library=build_library(),
        durability=settings.durability,
        fingerprint=secrets.fingerprint,
        migrating=migrating,
    )
    try:
        yield link, secrets
    finally:
        await link.close()


def _secrets(config: Config) -> crypto.Secrets:
    """Return the configured secrets, else those of the data folder. Raise StoreRefused."""
    given = config.privacy
    if given.hashing_secret:
        return crypto.from_text(given.hashing_secret, given.encryption_keys, given.current_key)
    return crypto.load_or_create(Path(config.store.data_dir))
