"""Child processes of a run: start, read their reports, measure and stop them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class ChildDied(Exception):
    """A child process ended too early; the message contains the end of its log."""


class Child:
    """A Python module running as a child process. It reports values as JSON lines; ``reported`` has the latest."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log
        self.reported: dict[str, Any] = {}
        self._updated = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, name: str, arguments: list[str], log: Path) -> Child:
        """Run ``python ARGUMENTS``, standard error to ``log``. It leads its own process group, so that Ctrl-C reaches
        only the benchmark, which then stops its children in order."""
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                limit=2**20,
            )
        return cls(name, process, log)

    def __repr__(self) -> str:
        return f"<Child {self.name} pid={self.process.pid} code={self.process.returncode}>"

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            with contextlib.suppress(msgspec.DecodeError):
                self.reported.update(msgspec.json.decode(line))
            self._updated.set()

    async def until(self, name: str, seconds: float = 30.0) -> Any:
        """Wait until the child has reported ``name``; return its value. Raises ChildDied or TimeoutError."""
        async with asyncio.timeout(seconds):
            while name not in self.reported:
                self._updated.clear()
                if self._reader.done():
                    raise ChildDied(f"{self.name} ended: {self.log_tail()}")
                await asyncio.wait(
                    {self._reader, waiting := asyncio.create_task(self._updated.wait())}, return_when="FIRST_COMPLETED"
                )
                waiting.cancel()
        return self.reported[name]

    async def until_at_least(self, name: str, least: int, seconds: float = 30.0) -> None:
        """Wait until a reported counter has reached ``least``. Raises ChildDied or TimeoutError."""
        async with asyncio.timeout(seconds):
            while int(self.reported.get(name, 0)) < least:
                self.check()
                await asyncio.sleep(0.01)

    def check(self) -> None:
        """Raise ChildDied if it has ended."""
        if self.process.returncode is not None:
            raise ChildDied(f"{self.name} ended with {self.process.returncode}: {self.log_tail()}")

    def log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-3:]) or "its log is empty"

    async def stop(self, seconds: float = 20.0) -> int:
        """Send SIGTERM, after ``seconds`` SIGKILL; return the exit code."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                # Not Process.send_signal: it polls first, and so takes the exit code away from asyncio's watcher.
                os.kill(self.process.pid, signal.SIGTERM)
            try:
                async with asyncio.timeout(seconds):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()
        code = await self.process.wait()
        await self._reader
        return code


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far, including threads and ended children; 0.0 if it does not exist."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICK


def children_of(pid: int) -> list[int]:
    """Return the running child processes of a process."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def resident(pid: int) -> int:
    """Return the resident memory of a process in octets; 0 if it does not exist."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0


def free_ports(count: int) -> list[int]:
    """Return distinct ports of 127.0.0.1 that are free now, chosen by the kernel."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def report(**facts: object) -> None:
    """In a child: report values to the benchmark."""
    sys.stdout.buffer.write(msgspec.json.encode(facts) + b"\n")
    sys.stdout.buffer.flush()
