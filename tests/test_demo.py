from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from gateway import demo
from gateway.client import Answer

HOURS = [datetime(2026, month, 1, tzinfo=UTC) + timedelta(minutes=30 * half) for month in (1, 7) for half in range(48)]


@pytest.mark.parametrize("now", HOURS, ids=str)
def test_somebody_is_always_awake_and_somebody_asleep(now: datetime) -> None:
    """The offer at night must fall in quiet hours (23 to 8) and the one by day well outside, whenever the demo runs."""
    steps = demo.story(now)
    there = {step.expected: now.astimezone(ZoneInfo(step.to.zone)).hour for step in steps if step.consent}
    assert there["deferred"] in {23, *range(8)}
    assert there["delivered"] in range(9, 20)


def test_a_step_is_told_in_the_recipients_time() -> None:
    now = datetime(2026, 1, 1, 20, 0, tzinfo=UTC)
    step = next(step for step in demo.story(now) if step.expected == "deferred")
    assert step.to.place == "Tokyo"
    body = {"id": "1", "status": "deferred", "decision": {"code": "quiet_hours", "next_at": "2026-01-01T23:00:00.000Z"}}
    told = demo.Told(step, "deferred", 0.01, Answer(202, body))
    assert "Tokyo, 05:00 there" in demo.line(told, now)
    assert "until 08:00 there (quiet_hours)" in demo.line(told, now)
    assert "expected deferred" in demo.line(told._replace(outcome="queued"), now)


def test_the_whole_story_goes_as_told() -> None:
    """Everything for real: store, carriers, gateway. Leaves by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "demo", "--once", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcomes = [step["outcome"] for step in json.loads(done.stdout)["steps"]]
    assert outcomes == ["delivered", "delivered", "delivered", "consent_missing", "delivered", "deferred"]
