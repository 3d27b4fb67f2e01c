"""What operators see, as tables: pure functions from the gateway's answers to things that rich prints."""

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
    """An earlier look, for what happens a second."""

    status: Body
    seconds: float


def status(body: Body, before: EarlierSample | None = None) -> RenderableType:
    """The whole gateway on one screen."""
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
        (body["parked_receipts"], f"{body['parked_receipts']} receipts wait for their message", _WAIT),
    ]
    said = [f"[{color}]{words}[/]" for count, words, color in notes if count]
    parts.append(Text.from_markup(" · ".join([*said, _intake(body.get("intake", {}), before)])))
    return Group(*parts)


def workers(rows: Sequence[Body]) -> RenderableType:
    """The processes that share the work."""
    table = _table("worker", "state", ">pid", ">up", ">restarts", "last died of")
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
        return "[dim]nothing was handed in since the start[/]"
    rate = ""
    if before is not None and before.seconds > 0:
        earlier = sum(before.status.get("intake", {}).values())
        rate = f" ({max(0, sum(counts.values()) - earlier) / before.seconds:.0f}/s)"
    return f"handed in{rate}: " + ", ".join(f"{escape(name)} {count}" for name, count in sorted(counts.items()))


def carriers(rows: Sequence[Body], before: EarlierSample | None = None) -> RenderableType:
    """One line a carrier, with the last error of a bind that is not up."""
    if not rows:
        return Text("no carriers are configured", style="dim")
    table = _table("carrier", "mode", ">binds", ">window", ">pace", ">submitted", ">refused", ">no answer", "trouble")
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
            escape(_trouble(row)),
        )
    return table


def _pace(row: Body) -> str:
    """What leaves a second at most; of what we may send, and of what all gateways may, where that is more."""
    rate, ceiling, limit = row["rate"], row["ceiling"], row["limit"]
    if limit and not ceiling:
        return f"[{_WAIT}]none[/] of {limit:g}"
    words = f"{rate:g}/s" if rate else "no limit"
    if row["slowed"] and ceiling:
        words = f"[{_WAIT}]{words}[/] of {ceiling:g}"
    return f"{words} of {limit:g}" if limit and ceiling < limit else words


def _trouble(row: Body) -> str:
    down = next((bind["last_error"] for bind in row["binds"] if not bind["up"] and bind["last_error"]), "")
    refused = next((f"{name} x {count}" for name, count in row["refused"].items()), "")
    away = f"store away for {row['store_away_s']:.0f} s" if row["store_away_s"] else ""
    return "; ".join(filter(None, (away, down, refused)))


def binds(row: Body) -> RenderableType:
    """The binds of one carrier."""
    several = ["worker"] if any(bind.get("worker") for bind in row["binds"]) else []
    columns = ("kind", "mode", "state", "peer", ">up", ">window", ">failures", ">next try", "last error")
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
    """Where something waits, the oldest first."""
    if not rows:
        return Text("nothing waits", style="dim")
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
    """How much of every account waits, beside its bound."""
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


def held(body: Body) -> RenderableType:
    """Whose messages are held, and by what."""
    if not body["groups"]:
        return Text("nothing is held", style="dim")
    table = _table("account", "brand", ">held", ">oldest", "by")
    for row in body["groups"]:
        by = ", ".join(scope(one) for one in row["breakers"]) or "no open breaker: release them"
        table.add_row(
            escape(row["account"]), escape(row["brand"]), str(row["count"]), span(row["oldest_s"]), escape(by)
        )
    return table


def breakers(rows: Sequence[Body]) -> RenderableType:
    """Those that are open."""
    if not rows:
        return Text("no breaker is open", style="dim")
    table = _table("breaker", "open since")
    for row in rows:
        table.add_row(escape(scope(row)), row["since"])
    return table


def audit(rows: Sequence[Body]) -> RenderableType:
    """What operators did, the newest first."""
    if not rows:
        return Text("no operator has done anything yet", style="dim")
    known = {"id", "time", "who", "user", "from", "action", "target", "outcome", "ended"}
    table = _table("time", "who", "action", "on", "outcome", "more")
    for row in rows:
        who = row.get("who", "") + (f" ({row['user']})" if row.get("user") else "")
        more = ", ".join(f"{name} {_plain(value)}" for name, value in row.items() if name not in known)
        outcome = row.get("outcome", "unknown")
        color = {"done": _GOOD, "failed": _BAD}.get(outcome, _WAIT)
        table.add_row(
            row.get("time", ""),
            escape(who),
            escape(row["action"]),
            escape(row.get("target", "")),
            f"[{color}]{outcome}[/]",
            escape(more),
        )
    return table


def scope(row: Body) -> str:
    """Whose breaker, in words."""
    if row.get("everybody"):
        return "everybody"
    brand = f", brand {row['brand']}" if row.get("brand") else ""
    return f"{row.get('account') or row.get('scope')}{brand}"


def mode(name: str) -> str:
    """A mode in its colour, as rich markup."""
    return name if name == "running" else f"[{_WAIT}]{name}[/]"


def span(seconds: float) -> str:
    """Seconds as people say them: ``0.3 s``, ``42 s``, ``3 min``, ``7 h``, ``12 d``."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return scope(value)
    return "; ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _table(*columns: str) -> Table:
    """``>name`` is set to the right."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left")
    return table
