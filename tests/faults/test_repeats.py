"""Repeats of every kind, over kills of the gateway."""

from __future__ import annotations

from pathlib import Path

from tests.faults.thrice import WINDOWS, thrice


async def test_what_is_posted_three_times_over_two_kills_is_sent_once(tmp_path: Path) -> None:
    """Two posts at once and a third later: one id each, one copy each but for what a kill left unknown."""
    report = await thrice(tmp_path, 5_000, 60)
    assert report.ids_of_one == {1: 5_000}
    assert (report.ids, report.missing) == (5_000, 0)
    assert report.doubled <= 2 * WINDOWS
    assert report.finals == {"delivered": 5_000}
    assert report.answers["202 replayed"] > 0
