from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from gateway.admin.audit import Audit
from gateway.admin.auth import Operator
from gateway.admin.reloader import NO_SOURCE
from gateway.api.problems import FieldProblem, HttpProblem, refuse
from gateway.config import ConfigProblem


def request(name: str = "alice", user: str = "al") -> Request:
    return Request({"type": "http", "operator": Operator(name, may_act=True, address="10.0.0.1", user=user)})


async def act(audit: Audit, action: str, target: str = "", **result: Any) -> None:
    async with audit.action(request(), action, target, count=None) as said:
        said.update(result)


async def test_an_action_is_recorded_with_operator_time_and_outcome(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    assert await audit.tail(10) == []
    await act(audit, "carrier.pause", "north")
    await act(audit, "held.release", released=3)
    newest, oldest = await audit.tail(10)
    assert (oldest["who"], oldest["user"], oldest["from"]) == ("alice", "al", "10.0.0.1")
    assert (oldest["action"], oldest["target"], oldest["outcome"]) == ("carrier.pause", "north", "done")
    assert oldest["time"] <= oldest["ended"]
    assert (newest["released"], "count" in newest, "target" in newest) == (3, False, False)
    assert [entry["action"] for entry in await audit.tail(1)] == ["held.release"]
    assert [entry["action"] for entry in await audit.tail(9, "carrier")] == ["carrier.pause"]
    assert audit.counts == {("carrier.pause", "done"): 1, ("held.release", "done"): 1}


async def test_the_first_line_is_on_disk_before_the_action_and_failures_are_recorded(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    with pytest.raises(ValueError, match="broken"):
        async with audit.action(request(), "breaker.open"):
            assert len(audit.path.read_bytes().splitlines()) == 1
            (entry,) = await audit.tail(1)
            assert "outcome" not in entry
            raise ValueError("broken")
    (entry,) = await audit.tail(1)
    assert (entry["outcome"], entry["error"]) == ("failed", "broken")


async def test_a_refused_action_is_recorded_with_every_reason(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    problem = ConfigProblem("gateway.toml", "carrier[0].rate", '"50" does not fit', "Write a number")
    faults = [FieldProblem("rate", "invalid", str(problem)), FieldProblem("", "invalid", str(NO_SOURCE))]
    with pytest.raises(HttpProblem):
        async with audit.action(request(), "reload"):
            raise refuse("invalid_configuration", "nothing has changed", errors=faults)
    (entry,) = await audit.tail(1)
    assert entry["error"] == (
        'nothing has changed: gateway.toml: carrier[0].rate: "50" does not fit. Write a number; '
        "this gateway was not started from a file. Restart it with serve --config FILE"
    )


async def test_an_action_that_cannot_be_recorded_is_not_performed(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "gone")
    done = False
    with pytest.raises(HttpProblem) as caught:
        async with audit.action(request(), "carrier.drain"):
            done = True
    assert (caught.value.body.code, done) == ("audit_unavailable", False)


async def test_a_truncated_line_and_concurrent_actions_leave_the_audit_readable(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    audit.path.write_bytes(
        b'{"id": "1", "action": "x", "time": "t"}\n{"id": "2", "act\n{"id": "9", "outcome": "done"}\n'
    )
    await asyncio.gather(*(act(audit, f"many.{number}") for number in range(20)))
    entries = await audit.tail(100)
    assert len(entries) == 21
    assert entries[-1] == {"id": "1", "action": "x", "time": "t"}
    assert {entry["outcome"] for entry in entries[:-1]} == {"done"}
