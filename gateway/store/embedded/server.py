"""The store that comes with the gateway: a Valkey server on a unix socket, kept running as long as the gateway runs.

    start   lock the folder ─ a server runs there? ── yes ─> adopt it ─┐
                                                    └ no ──> launch ───┴> answers PING ─> ready
    dies    not ready ─ back off ─ launch ─ answers ─> ready
    stop    SIGTERM (it writes out its file) ─ wait ─> gone

There are two locks on the data folder. ``gateway.lock`` is the gateway's. ``server.lock`` is inherited by the server,
so it is held exactly as long as a server runs on the folder, whichever gateway started it. So two servers never share
an append-only file, and a process id that now belongs to another program is never taken for the server's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import time
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote

import hiredis
import structlog

from gateway.store.embedded import acl
from gateway.store.embedded.acl import LAUNCHER, USUAL
from gateway.store.embedded.binary import environment, find_binary
from gateway.store.embedded.file_lock import open_lock, try_lock
from gateway.store.embedded.leftovers import LOG, bound_log, last_warning, remove_half_written
from gateway.store.embedded.runtime import clear, clear_stale, runtime_dir, runtime_path
from gateway.store.errors import StoreError, StoreRefused, StoreUnavailable

_log = structlog.get_logger(__name__)

_WATCH = 0.1  # seconds between checks that the server runs
_LOG_CHECK = 60.0  # seconds between checks of the length of its log
_ANSWER = 10.0  # seconds; a running server that has not opened its socket by then is replaced
_STOP = 20.0  # seconds a stopping server gets to write its file
_BACKOFF = (0.1, 10.0)  # seconds; first and longest pause before a dead server is started again
_HEALTHY = 30.0  # seconds of running after which the back-off starts from the beginning


class ServerStatus(StrEnum):
    """State of the server."""

    STOPPED = "stopped"
    STARTING = "starting"  # launched, or reading its file
    READY = "ready"
    DEAD = "dead"  # waiting to be started again


class EmbeddedServer:
    """The server of one data folder. ``url`` is for ``connect``; ``ready`` is set while it answers."""

    def __init__(
        self,
        data_dir: Path,
        durability: str = "always",
        *,
        binary: Path | None = None,
        settings: tuple[str, ...] = (),
    ) -> None:
        """``durability``: "always" or "everysec"; ``settings``: more arguments of the server, for tests.

        Raises StoreRefused when there is no server binary, or for "replicated", which one server cannot do.
        """
        if durability not in ("always", "everysec"):
            raise StoreRefused(
                f'durability = "{durability}" needs a server with replicas: give its url in [store] url, '
                'or choose "always" with the embedded store'
            )
        self.data_dir = data_dir.resolve()
        self.durability = durability
        self.binary = binary or find_binary()
        self.socket = runtime_path(self.data_dir) / "s"
        self.ready = asyncio.Event()
        self.status = ServerStatus.STOPPED
        self.pid = 0
        self.restarts = 0
        self.problem = ""  # why it last died
        self._settings = settings
        self._gateway_lock = -1
        self._server_lock = -1
        self._key = ""
        self._exit_code = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self.socket))}"

    @property
    def launcher_url(self) -> str:
        """Return the URL for ``StoreConnection`` as the user who may run every command. The server has been started."""
        return launcher_url(self.data_dir, self._key)

    def __repr__(self) -> str:
        return f"<EmbeddedServer {self.data_dir} {self.status} pid={self.pid} restarts={self.restarts}>"

    def describe(self) -> str:
        """Return what operators want to know of it, in words."""
        restarts = f", {self.restarts} restart{'s' * (self.restarts != 1)}" if self.restarts else ""
        return f"embedded store in {self.data_dir}: {self.status}, pid {self.pid}{restarts}"

    async def start(self) -> None:
        """Lock the folder, adopt or launch a server, wait until it answers, and keep it running from then on.

        Raises StoreRefused (folder in use, or unusable) or StoreUnavailable (the server does not start).
        """
        self._prepare()
        try:
            if try_lock(self._server_lock):
                await self._launch()
            else:
                await self._adopt()
        except BaseException:
            clear(self.socket.parent)
            self._release()
            raise
        self._supervisor = asyncio.create_task(self._supervise(), name="embedded store")

    async def stop(self) -> None:
        """Stop the server cleanly and unlock the folder. Safe to repeat."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
            self._supervisor = None
        if self._gateway_lock < 0:
            return
        try:
            await self._end_server()
            clear(self.socket.parent)
        finally:
            self._release()

    def fault_text(self) -> str:
        """Return why no server runs now, "" while one does."""
        return last_warning(self.data_dir) if self._died() else ""

    # -- folder and locks ----------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._gateway_lock = open_lock(self.data_dir / "gateway.lock")
            if not try_lock(self._gateway_lock):
                holder = os.pread(self._gateway_lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
                os.close(self._gateway_lock)
                self._gateway_lock = -1
                raise StoreRefused(
                    f"the data folder {self.data_dir} is in use by a running gateway (pid {holder}): "
                    "stop it, or set another [store] data_dir for this one"
                )
            os.ftruncate(self._gateway_lock, 0)
            os.pwrite(self._gateway_lock, f"{os.getpid()}\n".encode(), 0)
            self._server_lock = open_lock(self.data_dir / "server.lock")
            self._key = acl.load_or_create_key(self.data_dir)
            clear_stale(time.time())
        except OSError as error:
            self._release()
            raise StoreRefused(
                f"the data folder {self.data_dir} cannot be used: {error.strerror} ({error.filename or 'its lock'}); "
                "fix that, or set another [store] data_dir"
            ) from error

    def _release(self) -> None:
        for descriptor in (self._server_lock, self._gateway_lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._server_lock = self._gateway_lock = -1
        self._set(ServerStatus.STOPPED)

    def _set(self, status: ServerStatus) -> None:
        self.status = status
        if status is ServerStatus.READY:
            self.ready.set()
        else:
            self.ready.clear()

    # -- start and end of the server -----------------------------------------------------------------------------------

    async def _launch(self) -> None:
        """Start a server, which inherits its lock, and wait until it has read its file and answers."""
        self._set(ServerStatus.STARTING)
        try:
            self._spawn()
        except OSError as error:
            raise StoreUnavailable(f"{self.binary} could not be started: {error.strerror}") from error
        await self._until_ready()
        _log.info("embedded store started", pid=self.pid, binary=str(self.binary), data_dir=str(self.data_dir))

    def _spawn(self) -> None:
        runtime_dir(self.data_dir)
        self.socket.unlink(missing_ok=True)
        remove_half_written(self.data_dir)
        bound_log(self.data_dir)
        self._process = subprocess.Popen(  # noqa: S603 - our own binary, our own arguments
            [str(self.binary), *self._arguments()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(self.binary),
            pass_fds=(self._server_lock,),
            start_new_session=True,  # Ctrl-C is for the gateway, which stops its server last
            umask=0o077,
        )
        self.pid = self._process.pid
        self._exit_code = 0
        # our copy must go, else the lock would outlive the server; a fresh one serves to look
        os.close(self._server_lock)
        self._server_lock = open_lock(self.data_dir / "server.lock")

    def _arguments(self) -> list[str]:
        values = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.data_dir),
            "pidfile": str(self.data_dir / "server.pid"),
            "logfile": str(self.data_dir / LOG),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes",
            "appendfsync": self.durability,
            "no-appendfsync-on-rewrite": "no",
            "auto-aof-rewrite-min-size": "2gb",
            "auto-aof-rewrite-percentage": "100",
            "hash-max-listpack-entries": "16",  # longer ones are scanned from the front at every look-up
            "maxmemory-policy": "noeviction",
            "lazyfree-lazy-expire": "yes",
            "lazyfree-lazy-server-del": "yes",
        }
        words = [word for name, value in values.items() for word in (f"--{name}", value)]
        for user, rules in self._users():
            words += ["--user", user, *rules]
        return [*words, *self._settings]

    def _users(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(LAUNCHER, acl.launcher(self._key)), (USUAL, acl.GATEWAY)]

    async def _adopt(self) -> None:
        """Take over the server that runs on the folder; one that does not answer is ended and replaced."""
        self._set(ServerStatus.STARTING)
        self.pid = self._kept_pid()
        with contextlib.suppress(StoreError):
            await self._until_ready()
            self.pid = int(_field(await self._ask("INFO", "server"), "process_id"))
            await self.order("CONFIG", "SET", "appendfsync", self.durability)
            for user, rules in self._users():  # it may have been started with other rules, or none
                await self.order("ACL", "SETUSER", user, "reset", *rules)
            _log.info("embedded store adopted", pid=self.pid, data_dir=str(self.data_dir))
            return
        await self._end_server()
        await self._launch()

    def _kept_pid(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return int((self.data_dir / "server.pid").read_text())
        return 0

    async def _until_ready(self) -> None:
        """Wait until it answers. Raises StoreUnavailable when it dies, or does not open its socket."""
        deadline = time.monotonic() + _ANSWER
        while True:
            if self._died():
                self.problem = self._why_it_died()
                raise StoreUnavailable(f"the embedded store did not start: {self.problem}")
            try:
                if await self._ask("PING") == b"PONG":
                    break
                deadline = time.monotonic() + _ANSWER  # it answers LOADING: a long file takes time
            except StoreUnavailable:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.01)
        self._set(ServerStatus.READY)

    def _died(self) -> bool:
        """Tell whether no server runs on the folder. Then its lock is ours, ready for the next one."""
        gone = self._process is not None and self._process.poll() is not None
        if not try_lock(self._server_lock):
            if gone:  # a child of it that rewrites the file still holds the lock
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
            return False
        if self._process is not None:
            self._exit_code = self._process.wait()
            self._process = None
        return True

    async def _supervise(self) -> None:
        """Start the server again whenever it has died, after a longer pause each time it dies soon."""
        shortest, longest = _BACKOFF
        pause = shortest
        while True:
            since = time.monotonic()
            await self._until_died()
            self._set(ServerStatus.DEAD)
            self.problem = self._why_it_died()
            _log.error("embedded store died", pid=self.pid, problem=self.problem)
            if time.monotonic() - since > _HEALTHY:
                pause = shortest
            while self.status is not ServerStatus.READY:
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)
                await self._launch_again(pause)

    async def _until_died(self) -> None:
        """Return when the server has died; until then keep its log short."""
        next_check = 0.0
        while not self._died():  # only its lock shows the end of an adopted server
            if time.monotonic() > next_check:
                bound_log(self.data_dir)
                next_check = time.monotonic() + _LOG_CHECK
            await asyncio.sleep(_WATCH)

    async def _launch_again(self, pause: float) -> None:
        try:
            if not self._died():  # launched a moment ago, and not answering
                await self._end_server()
            await self._launch()
            self.restarts += 1
        except StoreError as error:
            self._set(ServerStatus.DEAD)
            _log.error("embedded store does not start", problem=str(error), retry_in=pause)

    async def _end_server(self) -> None:
        """End it by SIGTERM, then by SIGKILL when that takes too long. Returns with the server's lock ours."""
        self._set(ServerStatus.STOPPED)
        pid = self.pid or self._kept_pid()
        for number, patience in ((signal.SIGTERM, _STOP), (signal.SIGKILL, 5.0)):
            if self._died():
                return
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline:
                if self._died():
                    return
                await asyncio.sleep(0.01)
            _log.error("embedded store does not stop", pid=pid, signal=number.name)
        raise StoreRefused(f"the server on {self.data_dir} (pid {pid or 'unknown'}) does not stop: kill it by hand")

    # -- commands -----------------------------------------------------------------------------------------------------

    async def _ask(self, *command: str) -> Any:
        """Return the reply to one command, which may be an error reply. Raises StoreUnavailable."""
        return (await self._exchange(command))[-1]

    async def order(self, *command: str) -> None:
        """Run a command as the launcher, who may run every command. Raises StoreUnavailable when it fails."""
        # A server started without users refuses the first command and allows the second.
        reply = (await self._exchange(("AUTH", LAUNCHER, self._key), command))[-1]
        if isinstance(reply, hiredis.ReplyError):
            raise StoreUnavailable(f"the embedded store refuses {command[0]}: {reply}")

    async def _exchange(self, *commands: tuple[str, ...]) -> list[Any]:
        """Return the replies to some commands, on a connection of their own. Raises StoreUnavailable."""
        try:
            async with asyncio.timeout(2.0):
                reader, writer = await asyncio.open_unix_connection(str(self.socket))
                try:
                    writer.write(b"".join(map(hiredis.pack_command, commands)))  # type: ignore[arg-type]
                    parser, replies = hiredis.Reader(), list[Any]()
                    while len(replies) < len(commands):
                        if (reply := parser.gets()) is not False:
                            replies.append(reply)
                        elif data := await reader.read(65536):
                            parser.feed(data)
                        else:
                            raise ConnectionResetError("closed")
                    return replies
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            raise StoreUnavailable(f"the embedded store does not answer on {self.socket} ({error!r})") from error

    def _why_it_died(self) -> str:
        """Return why the server died: the signal that ended it, or the end of its log."""
        if self._exit_code < 0:
            return f"killed by {signal.Signals(-self._exit_code).name}"
        return last_warning(self.data_dir)


def launcher_url(data_dir: Path, key: str) -> str:
    """Return the URL of the server of a data folder for the user who may run every command."""
    return f"unix://{LAUNCHER}:{quote(key, safe='')}@{quote(str(runtime_path(data_dir.resolve()) / 's'))}"


def _field(info: bytes, name: str) -> str:
    found = re.search(rf"^{name}:(.*?)\r?$", info.decode(), re.MULTILINE)
    return found.group(1) if found else ""
