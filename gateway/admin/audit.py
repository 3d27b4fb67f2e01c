"""The record of what operators did: one file that is only ever appended to, on disk before anything happens.

Every action has two lines in ``audit.jsonl``: what is about to be done by whom, and how it ended. An action whose first
line cannot be written is not done.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog
from starlette.requests import Request
from uuid_utils import uuid7

from gateway.admin.auth import Operator
from gateway.api.problems import HttpProblem, refuse

AUDIT_FILE = "audit.jsonl"
TAIL = 4 * 1024 * 1024
"""Octets of the file's end that reading looks at: some ten thousand actions."""

log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_NOBODY = Operator("", acts=False)


class Audit:
    """The audit of one node, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / AUDIT_FILE
        self.counts: dict[tuple[str, str], int] = {}
        """(action, outcome) -> how often, since the start."""
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Audit {self.path}>"

    @asynccontextmanager
    async def action(
        self, request: Request, action: str, target: str = "", **detail: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """Around what an operator does; what is put into the dictionary becomes part of the last line.

        Raises HttpProblem (503) when it cannot be recorded; then the body does not run. What the supervisor of several
        workers asks of each of them is not recorded again.
        """
        operator: Operator = request.scope.get("operator", _NOBODY)
        if operator.recorded:
            yield {}
            return
        begun = {
            "id": str(uuid7()),
            "time": _now(),
            "who": operator.name,
            "user": operator.user,
            "from": operator.address,
            "action": action,
            "target": target,
            **detail,
        }
        try:
            await self._write({name: value for name, value in begun.items() if value not in ("", None)})
        except OSError as error:
            log.error("the audit cannot be written", file=str(self.path), error=str(error))
            raise refuse("audit_unavailable", f"{self.path.name}: {error.strerror}") from error
        result: dict[str, Any] = {}
        try:
            yield result
        except BaseException as error:
            await self._end(begun, "failed", {"error": _reason(error)})
            raise
        await self._end(begun, "done", result)

    async def tail(self, limit: int, action: str = "") -> list[dict[str, Any]]:
        """The newest actions (whose name begins with ``action``), newest first, with their outcome. Raises OSError."""
        found: dict[str, dict[str, Any]] = {}
        for line in await asyncio.to_thread(self._lines):
            known = found.setdefault(str(line.get("id")), {})
            if "action" in line or known:
                known.update(line if "action" in line else {**line, "time": known["time"], "ended": line["time"]})
        wanted = (entry for entry in found.values() if str(entry.get("action", "")).startswith(action) and entry)
        return list(reversed(deque(wanted, maxlen=limit)))

    async def _end(self, begun: dict[str, Any], outcome: str, result: dict[str, Any]) -> None:
        name = begun["action"], outcome
        self.counts[name] = self.counts.get(name, 0) + 1
        log.info("operator", action=begun["action"], target=begun["target"], who=begun["who"], outcome=outcome)
        try:
            await self._write({"id": begun["id"], "time": _now(), "outcome": outcome, **result})
        except OSError as error:  # it is done, and its first line says that it was about to be
            log.error("the audit cannot be written", file=str(self.path), error=str(error))

    async def _write(self, entry: dict[str, Any]) -> None:
        async with self._lock:
            await asyncio.to_thread(self._append, _encode(entry) + b"\n")

    def _append(self, line: bytes) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _lines(self) -> list[dict[str, Any]]:
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - TAIL))
                data = file.read()
        except FileNotFoundError:
            return []
        lines = data.split(b"\n")
        out = []
        for line in lines[size > TAIL :]:
            try:
                out.append(_decode(line))
            except msgspec.DecodeError:  # the empty end, or half a line of a full disk
                continue
        return out


def _reason(error: BaseException) -> str:
    """Why something was not done, with what is wrong in which place."""
    if not isinstance(error, HttpProblem):
        return str(error) or type(error).__name__
    body = error.body
    faults = [fault.detail for fault in body.errors if fault.detail not in body.detail]
    return ": ".join(filter(None, (body.detail, "; ".join(faults))))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
