"""The audit: an append-only file of operators' actions, written to disk before an action is performed.

Every action has two lines in ``audit.jsonl``: what is to be done by whom, and its outcome. An action whose first line
cannot be written is not performed.
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
"""Octets that are read from the end of the file: some ten thousand actions."""

log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_UNKNOWN = Operator("", may_act=False)


class Audit:
    """The audit of one process, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / AUDIT_FILE
        self.counts: dict[tuple[str, str], int] = {}
        """(action, outcome) -> number of actions since the start."""
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Audit {self.path}>"

    @asynccontextmanager
    async def action(
        self, request: Request, action: str, target: str = "", **detail: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """Record the action that the body of the context performs, and its outcome.

        What the body puts into the yielded dictionary becomes part of the second line. Raise HttpProblem (503) when the
        first line cannot be written; the body does not run then. An action that the supervisor has recorded is not
        recorded again by its workers.
        """
        operator: Operator = request.scope.get("operator", _UNKNOWN)
        if operator.recorded:
            yield {}
            return
        entry = {
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
            await self._write({name: value for name, value in entry.items() if value not in ("", None)})
        except OSError as error:
            log.error("cannot write the audit", file=str(self.path), error=str(error))
            raise refuse("audit_unavailable", f"{self.path.name}: {error.strerror}") from error
        result: dict[str, Any] = {}
        try:
            yield result
        except BaseException as error:
            await self._end(entry, "failed", {"error": _reason(error)})
            raise
        await self._end(entry, "done", result)

    async def tail(self, limit: int, action: str = "") -> list[dict[str, Any]]:
        """Return the latest actions whose name starts with ``action``, the newest first. Raise OSError."""
        found: dict[str, dict[str, Any]] = {}
        for line in await asyncio.to_thread(self._lines):
            known = found.setdefault(str(line.get("id")), {})
            if "action" in line or known:
                known.update(line if "action" in line else {**line, "time": known["time"], "ended": line["time"]})
        wanted = (entry for entry in found.values() if str(entry.get("action", "")).startswith(action) and entry)
        return list(reversed(deque(wanted, maxlen=limit)))

    async def _end(self, entry: dict[str, Any], outcome: str, result: dict[str, Any]) -> None:
        name = entry["action"], outcome
        self.counts[name] = self.counts.get(name, 0) + 1
        log.info("operator action", action=entry["action"], target=entry["target"], who=entry["who"], outcome=outcome)
        try:
            await self._write({"id": entry["id"], "time": _now(), "outcome": outcome, **result})
        except OSError as error:  # the action is performed, and its first line is in the file
            log.error("cannot write the audit", file=str(self.path), error=str(error))

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
            except msgspec.DecodeError:  # the empty last line, or a line cut off by a full disk
                continue
        return out


def _reason(error: BaseException) -> str:
    """Return why the action failed, with the faults of single fields."""
    if not isinstance(error, HttpProblem):
        return str(error) or type(error).__name__
    body = error.body
    faults = [fault.detail for fault in body.errors if fault.detail not in body.detail]
    return ": ".join(filter(None, (body.detail, "; ".join(faults))))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
