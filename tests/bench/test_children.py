from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.children import Child, ChildDied, cpu_seconds, free_ports, resident

TALKS = "import json, time; print(json.dumps({'ports': [1]}), flush=True); time.sleep(60)"


async def test_reports_of_a_child_are_read_and_it_is_stopped(tmp_path: Path) -> None:
    child = await Child.start("talker", ["-c", TALKS], tmp_path / "log")
    assert await child.until("ports") == [1]
    assert await child.stop() != 0
    with pytest.raises(ChildDied):
        child.check()


async def test_a_child_that_dies_reports_the_reason(tmp_path: Path) -> None:
    child = await Child.start("dier", ["-c", "raise SystemExit('no such luck')"], tmp_path / "log")
    with pytest.raises(ChildDied, match="no such luck"):
        await child.until("ports")
    assert await child.stop() == 1


def test_measures_processes() -> None:
    assert cpu_seconds(os.getpid()) > 0
    assert resident(os.getpid()) > 2**20
    assert cpu_seconds(2**30) == 0.0


def test_ports_are_all_different() -> None:
    assert len(set(free_ports(20))) == 20
