"""Taking over a new configuration while the gateway runs: read, compare, check, then apply; or refuse it whole.

Nothing is half done by a file that cannot be used: it is read and checked to the end, keys that need a restart refuse
the whole reload, and the store is asked first whether it can hear of new rules. One reload at a time.
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


class Reloadable(Protocol):
    """What is reloaded: one gateway, or a supervisor with its workers."""

    config: Config

    @property
    def rules_version(self) -> str:
        """Of the policy that is in force."""
        ...

    async def hears(self) -> None:
        """Return when everybody can be told now. Raises StoreError."""
        ...

    async def waiting(self, accounts: Sequence[str]) -> Mapping[str, int]:
        """How many messages of these wait. Raises StoreError."""
        ...

    async def take_over(self, config: Config, rules: Rulebook) -> None:
        """Let every part work by a new configuration, which has been checked. Raises StoreError, OSError."""
        ...


class Reloader:
    """Reloads ``house`` from ``source`` (None: there is no file to read again). ``supervised``: see ``compare``."""

    def __init__(self, house: Reloadable, source: Source | None, *, supervised: bool = False) -> None:
        self._house = house
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
        """The file that is read again, by its absolute path; "" when there is none."""
        return str(self._source.file.resolve()) if self._source else ""

    def signal(self) -> None:
        """Reload in the background and log what became of it (SIGHUP)."""
        task = asyncio.get_running_loop().create_task(self._logged(), name="reload")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def reload(self, *, apply: bool = True, wait: float | None = None) -> Changes:
        """Read the file again and take it over; with ``apply=False`` only say what it would change.

        Everything holds at once but what carriers that end or start anew need to empty their windows: that is waited
        for ``wait`` seconds at most (None: to the end); ``settling`` says that it goes on.

        Raises ConfigError (nothing was changed), StoreError (the store is away; nothing was changed when it was away
        from the beginning). With ``refused`` in the answer nothing was changed either.
        """
        if self._source is None:
            raise ConfigError([NO_SOURCE])
        loaded = self._source.read()
        for warning in loaded.warnings if apply else ():
            log.warning("configuration", key=warning.path, fault=warning.fault, remedy=warning.remedy)
        return await self.take(loaded.config, apply=apply, wait=wait)

    async def take(self, config: Config, *, apply: bool = True, wait: float | None = None) -> Changes:
        """As ``reload``, with a configuration at hand."""
        async with self._lock:
            await self._settled()
            rules = rulebook(config)
            laws = rules.version != self._house.rules_version
            changes = compare(self._house.config, config, supervised=self._supervised, laws=laws)
            if changes.departed:
                changes = changes.waiting(await self._house.waiting(changes.departed))
            if changes.refused or not apply or self._closed:
                return changes
            await self._house.hears()  # before anything is changed
            return await self._apply(config, rules, changes, wait)

    async def _apply(self, config: Config, rules: Rulebook, changes: Changes, wait: float | None) -> Changes:
        """Take over what has been checked. Raises StoreError, OSError."""
        self.notifier.reloading()
        try:
            work = asyncio.get_running_loop().create_task(self._house.take_over(config, rules), name="take over")
            self._settling = work
            done, _ = await asyncio.wait({work}, timeout=wait)
            if not done:
                return changes._replace(settling=True)
            self._settling = None
            await work
            return changes
        finally:
            self.notifier.ready("configuration taken over")

    async def close(self) -> None:
        """Let a reload that is under way end; none begins any more."""
        self._closed = True
        async with self._lock:
            await self._settled()

    async def _settled(self) -> None:
        """Wait for what the last reload left to be done."""
        work, self._settling = self._settling, None
        if work is None:
            return
        try:
            await work
        except (StoreError, OSError) as error:  # OSError: a certificate or token that went after it was checked
            log.error("reload failed", error=str(error))

    async def _logged(self) -> None:
        try:
            changes = await self.reload()
        except ConfigError as error:
            log.error("reload refused, nothing has changed", problems=[str(problem) for problem in error.problems])
        except (StoreError, OSError) as error:  # OSError: a certificate or token that went after it was checked
            log.error("reload failed", error=str(error))
        else:
            if changes.refused:
                log.error("reload refused, nothing has changed", needs_restart=[str(c) for c in changes.refused])
            else:
                log.info("configuration taken over", changes=[str(change) for change in changes.changed])
