"""Reload of the configuration while the gateway runs: read, compare, check, then apply; or refuse it as a whole.

A file that cannot be used changes nothing: it is read and checked completely, a key that needs a restart refuses the
whole reload, and the store is checked before anything changes. One reload runs at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from gateway.config import Changes, Config, ConfigError, ConfigProblem, Source, compare, rulebook
from gateway.policy.rulebook import Rulebook
from gateway.store.errors import StoreError
from gateway.systemd import NO_MANAGER

NO_SOURCE = ConfigProblem("", "", "this gateway was not started from a file", "Restart it with serve --config FILE")

log = structlog.get_logger(__name__)


class ReloadTarget(Protocol):
    """What is reloaded: one gateway (``App``), or a supervisor with its workers (``WorkerSupervisor``)."""

    config: Config

    @property
    def rules_version(self) -> str:
        """The version of the policy rules in force."""
        ...

    async def check_store(self) -> None:
        """Return if every process can reach the store. Raise StoreError."""
        ...

    async def count_waiting(self, accounts: Sequence[str]) -> Mapping[str, int]:
        """Return the number of waiting messages of each of these accounts. Raise StoreError."""
        ...

    async def apply(self, config: Config, rules: Rulebook) -> None:
        """Put a checked configuration into force. Raise StoreError, OSError."""
        ...


class Reloader:
    """Reloads ``target`` from ``source`` (None: there is no file to read again).

    ``supervised``: workers run under a supervisor, which changes what needs a restart (see ``compare``).
    """

    def __init__(self, target: ReloadTarget, source: Source | None, *, supervised: bool = False) -> None:
        self._target = target
        self._source = source
        self._supervised = supervised
        self._lock = asyncio.Lock()
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._settling: asyncio.Task[None] | None = None
        self.notifier = NO_MANAGER

    def __repr__(self) -> str:
        return f"<Reloader {'closed' if self._closed else 'busy' if self._lock.locked() else 'idle'}>"

    @property
    def file(self) -> str:
        """The absolute path of the configuration file, "" when there is none."""
        return str(self._source.file.resolve()) if self._source else ""

    def signal(self) -> None:
        """Reload in the background and log the result (SIGHUP)."""
        task = asyncio.get_running_loop().create_task(self._logged(), name="reload")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def reload(self, *, apply: bool = True, wait: float | None = None) -> Changes:
        """Read the file again and apply it; with ``apply=False`` only return what it would change.

        Everything takes effect at once, except that carriers which end or restart first empty their windows: that is
        awaited for at most ``wait`` seconds (None: to the end), and ``settling`` says that it still goes on.

        Raise ConfigError (nothing changed), StoreError (nothing changed if the store was unavailable from the start).
        Nothing changed either if the returned ``refused`` is not empty.
        """
        if self._source is None:
            raise ConfigError([NO_SOURCE])
        loaded = self._source.read()
        for warning in loaded.warnings if apply else ():
            log.warning("configuration", key=warning.path, fault=warning.fault, remedy=warning.remedy)
        return await self.apply(loaded.config, apply=apply, wait=wait)

    async def apply(self, config: Config, *, apply: bool = True, wait: float | None = None) -> Changes:
        """Do as ``reload`` does, with a configuration that has been read already."""
        async with self._lock:
            await self._settled()
            rules = rulebook(config)
            rules_changed = rules.version != self._target.rules_version
            changes = compare(self._target.config, config, supervised=self._supervised, rules_changed=rules_changed)
            if changes.removed_accounts:
                changes = changes.with_waiting(await self._target.count_waiting(changes.removed_accounts))
            if changes.refused or not apply or self._closed:
                return changes
            await self._target.check_store()  # before anything is changed
            return await self._apply(config, rules, changes, wait)

    async def _apply(self, config: Config, rules: Rulebook, changes: Changes, wait: float | None) -> Changes:
        """Apply a checked configuration. Raise StoreError, OSError."""
        self.notifier.reloading()
        try:
            task = asyncio.get_running_loop().create_task(self._target.apply(config, rules), name="apply configuration")
            self._settling = task
            done, _ = await asyncio.wait({task}, timeout=wait)
            if not done:
                return changes._replace(settling=True)
            self._settling = None
            await task
            return changes
        finally:
            self.notifier.ready("configuration reloaded")

    async def close(self) -> None:
        """Let a running reload end, and begin no other."""
        self._closed = True
        async with self._lock:
            await self._settled()

    async def _settled(self) -> None:
        """Wait for what the last reload left running."""
        task, self._settling = self._settling, None
        if task is None:
            return
        try:
            await task
        except (StoreError, OSError) as error:  # OSError: a certificate or token that vanished after the check
            log.error("reload failed", error=str(error))

    async def _logged(self) -> None:
        try:
            changes = await self.reload()
        except ConfigError as error:
            log.error("reload refused, nothing has changed", problems=[str(problem) for problem in error.problems])
        except (StoreError, OSError) as error:  # OSError: a certificate or token that vanished after the check
            log.error("reload failed", error=str(error))
        else:
            if changes.refused:
                log.error("reload refused, nothing has changed", needs_restart=[str(c) for c in changes.refused])
            else:
                log.info("configuration reloaded", changes=[str(change) for change in changes.changed])
