from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gateway import demo
from gateway.client import Answer

HOURS = [datetime(2026, month, 1, tzinfo=UTC) + timedelta(minutes=30 * half) for month in (1, 7) for half in range(48)]


@pytest.mark.parametrize("now", HOURS, ids=str)
def test_one_offer_is_always_by_day_and_one_in_quiet_hours(now: datetime) -> None:
    """The offer at night must fall in quiet hours (23 to 8) and the one by day well outside, whenever the demo runs."""
    steps = demo.demo_steps(now)
    there = {step.expected: now.astimezone(ZoneInfo(step.to.zone)).hour for step in steps if step.consent}
    assert there["deferred"] in {23, *range(8)}
    assert there["delivered"] in range(9, 20)


def test_a_step_is_shown_in_the_recipients_local_time() -> None:
    now = datetime(2026, 1, 1, 20, 0, tzinfo=UTC)
    step = next(step for step in demo.demo_steps(now) if step.expected == "deferred")
    assert step.to.city == "Tokyo"
    body = {"id": "1", "status": "deferred", "decision": {"code": "quiet_hours", "next_at": "2026-01-01T23:00:00.000Z"}}
    done = demo.DemoOutcome(step, "deferred", 0.01, Answer(202, body))
    assert "Tokyo, 05:00 local time" in demo.describe(done, now)
    assert "until 08:00 local time (quiet_hours)" in demo.describe(done, now)
    assert "expected deferred" in demo.describe(done._replace(outcome="queued"), now)


def test_every_step_has_the_expected_outcome() -> None:
    """With real store, carriers and gateway; --once exits by itself."""
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


@contextmanager
def demo_running(folder: Path) -> Iterator[tuple[list[str], int]]:
    """The hints at the end of a demo that runs, and its process id."""
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    command = [str(Path(sys.executable).parent / "smpp-gateway"), "demo"]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        hints, said = [], ""
        while "In a browser" not in said:
            said = process.stdout.readline()
            assert said, "the demo ended before its hints"
            if said.startswith(("  curl", "  ", "       -H")) and "→" not in said:
                hints.append(said.rstrip("\n"))
        yield [*"\n".join(hints).replace("\\\n", " ").split("\n"), said], process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("curl")), reason="needs bash and curl")
def test_the_printed_commands_work_and_the_demo_is_named_as_owner_of_its_ports(tmp_path: Path) -> None:
    path = os.pathsep.join(word for word in os.environ["PATH"].split(os.pathsep) if Path(word).name != "bin")
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "PATH": f"{path}:/usr/bin:/bin", "NO_COLOR": "1"}

    def typed(line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, line + done.stdout + done.stderr
        return done.stdout

    with demo_running(tmp_path) as (hints, pid):
        *lines, browser = hints
        said = [typed(line) for line in lines]
        assert len(said) == 6
        assert json.loads(said[0])["status"] == "queued"
        assert json.loads(said[1])["status"] == "delivered"
        assert "delivered" in said[3]
        assert "delivered" in said[4]
        page = re.findall(r"http://\S+", browser)[0]
        assert "<html" in typed(f"curl -sL {page.removesuffix('docs')}")  # the bare address leads to the page

        port = page.split(":")[2].split("/")[0]
        file = tmp_path / "own.toml"
        file.write_text(
            f'[http]\nlisten = "127.0.0.1:{port}"\n[admin]\nlisten = "127.0.0.1:0"\n'
            f'[store]\ndata_dir = "{tmp_path / "own"}"\n[smpp]\nlisten = ""\n'
        )
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(file)]
        refused = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert refused.returncode == 4
        assert f"the demo (pid {pid}) listens there: stop it with Ctrl-C" in refused.stderr
        checked = subprocess.run(
            [sys.executable, "-m", "gateway", "config", "check", str(file)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert f"127.0.0.1:{port} is in use; the demo (pid {pid}) listens there" in checked.stderr
        with tempfile.TemporaryDirectory(prefix="gw-test-") as elsewhere:
            stranger = environment | {"XDG_RUNTIME_DIR": elsewhere}  # as another user, who cannot see the announcements
            refused = subprocess.run(command, env=stranger, capture_output=True, text=True, timeout=60, check=False)
        assert "another SMPP gateway listens there" in refused.stderr
