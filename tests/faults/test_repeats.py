"""Repeats of every kind, over kills of the gateway."""

from __future__ import annotations

from pathlib import Path

from tests.faults.repeated_posts import WINDOWS, post_repeatedly


async def test_messages_posted_three_times_over_two_kills_are_sent_once(tmp_path: Path) -> None:
    """Two posts at once and a third later: one id each, one copy each but for what a kill left unknown."""
    report = await post_repeatedly(tmp_path, 5_000, 60)
    assert report.ids_of_one == {1: 5_000}
    assert (report.ids, report.missing) == (5_000, 0)
    assert report.doubled <= 2 * WINDOWS
    assert report.finals == {"delivered": 5_000}
    assert report.answers["202 replayed"] > 0
