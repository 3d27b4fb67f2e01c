"""Processes of a run: started, listened to, measured and stopped; only ever our own."""

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
    """A process of the run ended before its time; the text has its last words."""


class Child:
    """A Python module running beside us. What it prints as JSON lines is kept: ``said`` is the newest, by name."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log
        self.said: dict[str, Any] = {}
        self._heard = asyncio.Event()
        self._reader = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, name: str, arguments: list[str], log: Path) -> Child:
        """Run ``python ARGUMENTS``; its standard error goes to ``log``. It leads a group of its own, so that Ctrl-C
        reaches the benchmark alone, which then stops its children in order."""
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

    async def _listen(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            with contextlib.suppress(msgspec.DecodeError):
                self.said.update(msgspec.json.decode(line))
            self._heard.set()

    async def until(self, name: str, seconds: float = 30.0) -> Any:
        """Wait until the child has said ``name``; its value. Raises ChildDied or TimeoutError."""
        async with asyncio.timeout(seconds):
            while name not in self.said:
                self._heard.clear()
                if self._reader.done():
                    raise ChildDied(f"{self.name} ended: {self.last_warning()}")
                await asyncio.wait(
                    {self._reader, waiting := asyncio.create_task(self._heard.wait())}, return_when="FIRST_COMPLETED"
                )
                waiting.cancel()
        return self.said[name]

    async def until_at_least(self, name: str, least: int, seconds: float = 30.0) -> None:
        """Wait until a counter has come so far. Raises ChildDied or TimeoutError."""
        async with asyncio.timeout(seconds):
            while int(self.said.get(name, 0)) < least:
                self.check()
                await asyncio.sleep(0.01)

    def check(self) -> None:
        """Raises ChildDied when it has ended."""
        if self.process.returncode is not None:
            raise ChildDied(f"{self.name} ended with {self.process.returncode}: {self.last_warning()}")

    def last_warning(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-3:]) or "without a word"

    async def stop(self, seconds: float = 20.0) -> int:
        """SIGTERM, then SIGKILL when it takes too long; the exit code."""
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
    """CPU time a process has used so far, all its threads and its ended children; 0.0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICK


def children_of(pid: int) -> list[int]:
    """The processes it has started that still run."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def resident(pid: int) -> int:
    """Octets of memory a process holds; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that the kernel says nobody uses just now, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def say(**facts: object) -> None:
    """In a child: tell the benchmark something."""
    sys.stdout.buffer.write(msgspec.json.encode(facts) + b"\n")
    sys.stdout.buffer.flush()
