"""``smpp-gateway doctor``: examine the machine, the store and the carriers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands.common import ConfigFile, Exit, Json, echo, load, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.diagnosis import Diagnosis


def doctor(
    file: ConfigFile,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 1 for warnings too.")] = False,
    as_json: Json = False,
) -> None:
    """Examine this machine, the store and the carriers of a configuration, and say how to fix what is wrong.

    Checks versions, open files, clock, time zone data, disk and fsync; the store's version, durability, eviction
    policy, memory, allocator and clock; whether each carrier accepts connections and how long its certificate is
    valid. Changes nothing and makes no bind, so it can run beside the gateway.

    Exit codes: 0 no fault · 1 a fault (with --strict also a warning) · 2 the configuration cannot be used

    Example: [cyan]smpp-gateway doctor --config /etc/smpp-gateway/gateway.toml[/]
    """
    from gateway.diagnosis import Level, examine
    from gateway.runner import run

    loaded = load(file, as_json)
    found = run(lambda _stop: examine(loaded.config))
    if as_json:
        print_json([finding._asdict() for finding in found])
    else:
        for line in lines(found):
            echo(line)
    bad = {Level.FAULT, Level.WARNING} if strict else {Level.FAULT}
    raise typer.Exit(Exit.REFUSED if any(finding.level in bad for finding in found) else Exit.OK)


def lines(found: Sequence[Diagnosis]) -> list[str]:
    """Return a line for each finding, its remedy below it, and a summary."""
    marks = {"ok": "ok     ", "warning": "WARNING", "fault": "FAULT  "}
    out = []
    for check, level, detail, remedy in found:
        out.append(f"{marks[level]}  {check}: {detail}")
        if remedy:
            out.append(f"         -> {remedy}")
    faults, warnings = (sum(finding.level == level for finding in found) for level in ("fault", "warning"))
    summary = f"{faults} fault{'s' * (faults != 1)}, {warnings} warning{'s' * (warnings != 1)}"
    return [*out, f"{len(found)} checks: {summary}"]
