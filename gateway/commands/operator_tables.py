"""Tables for operators: pure functions from the gateway's responses to rich renderables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

_GOOD, _BAD, _WAIT = "green", "red", "yellow"
Body = Mapping[str, Any]


class EarlierSample(NamedTuple):
    """An earlier status, from which rates per second are computed."""

    status: Body
    seconds: float


def status(body: Body, before: EarlierSample | None = None) -> RenderableType:
    """Return the whole gateway on one screen."""
    policy = body.get("policy", {})
    head = Text.from_markup(
        f"[bold]smpp-gateway {escape(str(body['version']))}[/] on {escape(str(body['node']))}, "
        f"up {span(body['uptime_s'])}, rules {escape(str(policy.get('version')))} epoch {policy.get('epoch')}\n"
        f"[dim]{escape(str(body['store']))}[/]"
    )
    parts: list[RenderableType] = [head, carriers(body["carriers"], before), lanes(body["lanes"])]
    if body.get("workers"):
        parts.insert(1, workers(body["workers"]))
    notes = [
        (body["held"], f"{body['held']} held", _WAIT),
        (body["breakers_open"], f"{body['breakers_open']} breakers open", _BAD),
        (body.get("restored"), restored_note(body.get("restored")), _BAD),
        (body["parked_receipts"], f"{body['parked_receipts']} receipts without a message yet", _WAIT),
    ]
    shown = [f"[{color}]{note}[/]" for count, note, color in notes if count]
    parts.append(Text.from_markup(" · ".join([*shown, _intake(body.get("intake", {}), before)])))
    return Group(*parts)


def workers(rows: Sequence[Body]) -> RenderableType:
    """Return the worker processes."""
    table = _table("worker", "state", ">pid", ">up", ">restarts", "last failure")
    for row in rows:
        state = row["state"]
        color = _GOOD if state == "up" else _WAIT if state in ("starting", "stopping") else _BAD
        table.add_row(
            escape(row["name"]),
            f"[{color}]{escape(state)}[/]",
            str(row["pid"]),
            span(row["up_s"]) if state == "up" else "",
            str(row["restarts"] or ""),
            escape(row["last_fault"]),
        )
    return table


def _intake(counts: Body, before: EarlierSample | None) -> str:
    if not counts:
        return "[dim]nothing submitted since the start[/]"
    rate = ""
    if before is not None and before.seconds > 0:
        earlier = sum(before.status.get("intake", {}).values())
        rate = f" ({max(0, sum(counts.values()) - earlier) / before.seconds:.0f}/s)"
    return f"submitted{rate}: " + ", ".join(f"{escape(name)} {count}" for name, count in sorted(counts.items()))


def carriers(rows: Sequence[Body], before: EarlierSample | None = None) -> RenderableType:
    """Return one row per carrier, with the last error of a bind that is down."""
    if not rows:
        return Text("no carriers are configured", style="dim")
    table = _table("carrier", "mode", ">binds", ">window", ">pace", ">submitted", ">refused", ">no response", "problem")
    earlier = {row["name"]: row for row in before.status["carriers"]} if before is not None else {}
    for row in rows:
        up, total, of = row["up"], len(row["binds"]), row["binds_of"]
        color = _GOOD if up == total else _WAIT if up else _BAD
        rate = ""
        if before is not None and before.seconds > 0 and row["name"] in earlier:
            sent = max(0, row["submitted"] - earlier[row["name"]]["submitted"])
            rate = f" ({sent / before.seconds:.0f}/s)"
        table.add_row(
            escape(row["name"]),
            mode(row["mode"]),
            f"[{color}]{up}/{total}[/]" + (f" of {of}" if of > total else ""),
            f"{row['outstanding']}/{row['window']}",
            _pace(row),
            f"{row['submitted']}{rate}",
            str(sum(row["refused"].values()) or ""),
            str(row["unanswered"] or ""),
            escape(_problem(row)),
        )
    return table


def _pace(row: Body) -> str:
    """Return the current rate; beside it this gateway's share when slowed down, or the limit of all gateways."""
    rate, ceiling, limit = row["rate"], row["ceiling"], row["limit"]
    if limit and not ceiling:
        return f"[{_WAIT}]none[/] of {limit:g}"
    pace = f"{rate:g}/s" if rate else "no limit"
    if row["slowed"] and ceiling:
        pace = f"[{_WAIT}]{pace}[/] of {ceiling:g}"
    return f"{pace} of {limit:g}" if limit and ceiling < limit else pace


def _problem(row: Body) -> str:
    down = next((bind["last_error"] for bind in row["binds"] if not bind["up"] and bind["last_error"]), "")
    refused = next((f"{name} x {count}" for name, count in row["refused"].items()), "")
    away = f"store unreachable for {row['store_away_s']:.0f} s" if row["store_away_s"] else ""
    return "; ".join(filter(None, (away, down, refused)))


def binds(row: Body) -> RenderableType:
    """Return the binds of one carrier."""
    several = ["worker"] if any(bind.get("worker") for bind in row["binds"]) else []
    columns = ("kind", "mode", "state", "peer", ">up", ">window", ">failures", ">next attempt", "last error")
    table = _table("bind", *several, *columns)
    for bind in row["binds"]:
        color = _GOOD if bind["up"] else _BAD
        table.add_row(
            escape(bind["name"]),
            *(escape(bind[name]) for name in several),
            bind["kind"],
            mode(bind["mode"]),
            f"[{color}]{bind['state']}[/]",
            escape(bind["peer"]),
            span(bind["up_s"]) if bind["up"] else "",
            f"{bind['outstanding']}/{bind['window']}" if bind["up"] else "",
            str(bind["failures"] or ""),
            span(bind["next_try_s"]) if bind["next_try_s"] else "",
            escape(bind["last_error"]),
        )
    return table


def lanes(rows: Sequence[Body], *, accounts: bool = False) -> RenderableType:
    """Return the lanes that hold messages, the oldest first."""
    if not rows:
        return Text("no messages wait", style="dim")
    table = _table("lane", *(["account"] if accounts else []), ">ready", ">oldest", ">delayed", "next due")
    for row in rows:
        old = row["oldest_s"]
        color = _BAD if old > 60 else _WAIT if old > 5 else _GOOD
        age = f"[{color}]{span(old)}[/]" if row["ready"] else ""
        names = [""] if accounts else []
        table.add_row(
            escape(row["lane"]), *names, str(row["ready"]), age, str(row["delayed"] or ""), row["next_due"] or ""
        )
        for one in row["accounts"] if accounts else ():
            table.add_row("", escape(one["account"]), str(one["ready"]), span(one["oldest_s"]), "", "")
    return table


def waiting(rows: Sequence[Body]) -> RenderableType:
    """Return how many messages of each account wait, and its limit."""
    states = ("queued", "held", "deferred", "scheduled")
    table = _table("account", ">waiting", *(f">{state}" for state in states), ">max_queued")
    for row in rows:
        most = row["max_queued"]
        full = most is not None and row["waiting"] >= most
        color = _BAD if full else _GOOD
        table.add_row(
            escape(row["account"]),
            f"[{color}]{row['waiting']}[/]",
            *(str(row[state] or "") for state in states),
            "not configured" if most is None else str(most),
        )
    return table


def restored_note(instant: str | None) -> str:
    """Return what the operator of a restored store needs to know."""
    return f"restored: what was accepted before {instant} is held until smpp-gateway held release --restored"


def held(body: Body) -> RenderableType:
    """Return whose messages are held, and by which breakers."""
    restored = body.get("restored")
    if restored:
        note = Text.from_markup(f"[{_BAD}]{escape(restored_note(restored))}[/]")
        return Group(_held(body), note) if body["groups"] else note
    return _held(body)


def _held(body: Body) -> RenderableType:
    if not body["groups"]:
        return Text("no messages are held", style="dim")
    table = _table("account", "brand", ">held", ">oldest", "held by")
    for row in body["groups"]:
        by = ", ".join(scope(one) for one in row["breakers"]) or (
            "the restored backup" if body.get("restored") else "no open breaker; release them"
        )
        table.add_row(
            escape(row["account"]), escape(row["brand"]), str(row["count"]), span(row["oldest_s"]), escape(by)
        )
    return table


def breakers(rows: Sequence[Body]) -> RenderableType:
    """Return the open breakers."""
    if not rows:
        return Text("no open breakers", style="dim")
    table = _table("breaker", "open since")
    for row in rows:
        table.add_row(escape(scope(row)), row["since"])
    return table


def audit(rows: Sequence[Body]) -> RenderableType:
    """Return the audit log, newest first."""
    if not rows:
        return Text("the audit log is empty", style="dim")
    known = {"id", "time", "who", "user", "from", "action", "target", "outcome", "ended"}
    table = _table("time", "who", "action", "target", "outcome", "details")
    for row in rows:
        who = row.get("who", "") + (f" ({row['user']})" if row.get("user") else "")
        details = ", ".join(f"{name} {_plain(value)}" for name, value in row.items() if name not in known)
        outcome = row.get("outcome", "unknown")
        color = {"done": _GOOD, "failed": _BAD}.get(outcome, _WAIT)
        table.add_row(
            row.get("time", ""),
            escape(who),
            escape(row["action"]),
            escape(row.get("target", "")),
            f"[{color}]{outcome}[/]",
            escape(details),
        )
    return table


def scope(row: Body) -> str:
    """Return the scope of a breaker in words."""
    if row.get("everybody"):
        return "all accounts"
    brand = f", brand {row['brand']}" if row.get("brand") else ""
    return f"{row.get('account') or row.get('scope')}{brand}"


def mode(name: str) -> str:
    """Return a mode with its colour, as rich markup."""
    return name if name == "running" else f"[{_WAIT}]{name}[/]"


def span(seconds: float) -> str:
    """Return seconds as a short duration: ``0.3 s``, ``42 s``, ``3 min``, ``7 h``, ``12 d``."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return scope(value)
    return "; ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _table(*columns: str) -> Table:
    """Return an empty table; a column named ``>name`` is aligned right."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left")
    return table
