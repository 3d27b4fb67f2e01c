"""Prints a result as tables."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from bench.measure import Latency, Result


def print_result(result: Result, console: Console) -> None:
    """Print four short tables."""
    counts = result.counts
    ended = "" if result.finished else "  [red](ended by --seconds)[/]"
    _grid(
        console,
        [
            ("whole life", f"[bold]{result.rate:,.0f}[/] messages/s over {result.seconds:.2f} s{ended}"),
            ("accepted", f"{counts.accepted:,} at {result.accept_rate:,.0f}/s, {counts.refused:,} refused"),
            ("reached a carrier", f"{counts.reached:,} in {counts.parts:,} parts"),
            ("lost", _zero(counts.lost)),
            ("duplicated", _zero(counts.doubled)),
            ("final", ", ".join(f"{state} {count:,}" for state, count in sorted(counts.final.items())) or "-"),
        ],
    )
    costs = Table("CPU time", "µs per message", "seconds", box=None, padding=(0, 3, 0, 0), title_justify="left")
    for name, cost in (
        ("gateway", result.gateway),
        ("store", result.store),
        ("load", result.load),
        ("carriers", result.carriers),
    ):
        costs.add_row(name, f"{cost.per_message:.1f}", f"{cost.seconds:.2f}")
    console.print(costs, "")
    times = Table("milliseconds", "p50", "p90", "p99", "p99.9", "max", box=None, padding=(0, 3, 0, 0))
    for name, latency in (
        ("request → 202", result.request),
        ("request → submit_sm", result.to_wire),
        ("accepted → final event", result.to_receipt),
    ):
        times.add_row(name, *_row(latency))
    console.print(times, "")
    _grid(
        console,
        [
            ("store, per live message", f"{result.live_bytes:,} B" if result.live_bytes else "-"),
            ("store, per finished message", f"{result.finished_bytes:,} B" if result.finished_bytes else "-"),
            ("gateway, resident", f"{result.gateway_memory / 2**20:,.0f} MiB"),
        ],
    )
    for problem in result.problems:
        console.print(f"[red]{problem}[/]")


def _grid(console: Console, rows: list[tuple[str, str]]) -> None:
    grid = Table.grid(padding=(0, 3))
    for row in rows:
        grid.add_row(*row)
    console.print(grid, "")


def _zero(count: int) -> str:
    return "[green]0[/]" if count == 0 else f"[red]{count:,}[/]"


def _row(latency: Latency) -> list[str]:
    if not latency.count:
        return ["-"] * 5
    return [f"{value:,.1f}" for value in (latency.p50, latency.p90, latency.p99, latency.p999, latency.max)]
