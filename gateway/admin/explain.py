"""Why a message is where it is, in words: from its record, its timeline and what the gateway does just now. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from gateway.api.schemas import rfc3339
from gateway.carriers.views import CarrierView
from gateway.model import FINAL, Category, PartState, Reason, State
from gateway.smpp.status import name as status_name
from gateway.store.overview import LaneView
from gateway.store.records import MessageRecord

REFUSALS = {
    Reason.CONSENT_MISSING: "no consent of this recipient for this account and brand is on record",
    Reason.CONSENT_REVOKED: "the recipient has revoked consent",
    Reason.OPTED_OUT: "the recipient has opted out",
    Reason.SUPPRESSED: "the recipient is suppressed",
    Reason.QUIET_HOURS: "it would have gone out in the recipient's quiet hours and may not wait for their end",
    Reason.FREQUENCY_CAP: "the recipient has had as many messages as the caps allow",
    Reason.BREAKER_OPEN: "a breaker is open",
    Reason.CONTENT_REFUSED: "its content is refused, or it has more segments than allowed",
    Reason.DUPLICATE: "the same content was sent already",
    Reason.EXPIRED: "it would expire before it may be sent",
    Reason.NO_ROUTE: "no route leads to this destination",
    Reason.ZONE_UNKNOWN: "the recipient's time zone is not known",
    Reason.GATEWAY_FAULT: "the gateway itself could not deal with it: its log says why",
    Reason.CARRIER_REFUSED: "the carrier refused it for good",
}
RETURNS = {
    Reason.THROTTLED: "the carrier asked for a slower pace; no attempt was counted",
    Reason.CARRIER_RETRY: "the carrier refused it for now",
    Reason.NEXT_CARRIER: "a carrier could not send it, the next one of the route is to try",
    Reason.BIND_LOST: "the connection was lost before it left",
    Reason.RESEND: "no answer came to its first submit, so it is sent once more",
    Reason.UNTAKEN: "it was taken but not written in time",
    Reason.PACED: "its sender may send only so much at this carrier (sender_rates): it waits for a turn",
    Reason.TURN: "its sender may send only so much at this carrier (sender_rates): its turn comes later",
}

COPIES = {
    PartState.PENDING: "not written",
    PartState.ACCEPTED: "accepted",
    PartState.UNKNOWN: "never answered",
    PartState.DELIVERED: "delivered",
    PartState.EXPIRED: "expired",
    PartState.UNDELIVERED: "not delivered",
}
REMARKS = {
    Reason.RECEIPT_UNKNOWN: "Its receipt says UNKNOWN: not even the carrier knows where it is. A later one counts.",
    Reason.RECEIPT_UNREADABLE: "A receipt came whose state cannot be read. A later one counts.",
    Reason.AMBIGUOUS_RECEIPT: "A receipt came that may be another message's to that recipient: it decides nothing.",
}


class Surroundings(NamedTuple):
    """What is going on around the message."""

    now: int  # ms UTC
    lanes: Mapping[str, LaneView]
    carriers: Sequence[CarrierView]  # of its route, in order of preference
    breakers: Sequence[str]  # open ones that concern it, in words
    receipt_timeout: float = 0.0  # seconds


def explain(record: MessageRecord, around: Surroundings) -> list[str]:
    """Sentences, the most important first."""
    said = _WORDS[record.state](record, around)
    if record.cancel_requested and not record.final:
        said.append("A cancel was asked for: it is not sent again whatever its carrier answers.")
    if record.resent:
        said.append(_copies(record))
    if record.expires and not record.final and not _is_out(record):
        said.append(f"It expires {_when(record.expires, around.now)}.")
    return said


def _is_out(record: MessageRecord) -> bool:
    """Whether it will not be sent from here any more, so that its expiry here is nothing to wait for."""
    left = record.state is State.SENT or (record.state is State.UNKNOWN and record.content is None)
    return left or record.state in FINAL


def _scheduled(record: MessageRecord, around: Surroundings) -> list[str]:
    return [f"Its send_at lies ahead: it is decided again {_when(record.due, around.now)}."]


def _deferred(record: MessageRecord, around: Surroundings) -> list[str]:
    zones = ", ".join(record.envelope.zones)
    why = {
        Reason.QUIET_HOURS: f"It is quiet hours at the recipient{f' ({zones})' if zones else ''}",
        Reason.FREQUENCY_CAP: "The recipient has had as many messages as the caps allow",
    }.get(record.reason, f"Policy said later ({_code(record.reason)})")
    return [f"{why}: it is decided again {_when(record.due, around.now)}."]


def _held(record: MessageRecord, around: Surroundings) -> list[str]:
    if around.breakers:
        return [
            f"It is held by an open breaker: {'; '.join(around.breakers)}.",
            "Closing the breaker releases it for a fresh decision (smpp-gateway breakers close).",
        ]
    if record.due:
        return ["It was held by a breaker and has been released: it is decided again at the next take of its lane."]
    return ["It is held, and no breaker that concerns it is open: release it with smpp-gateway held release."]


def _queued(record: MessageRecord, around: Surroundings) -> list[str]:
    said = []
    back = RETURNS.get(record.reason)
    if back:
        last = next((step for step in reversed(record.timeline) if step.carrier), None)
        status = f" ({last.carrier}: {status_name(last.status)})" if last and last.status else ""
        said.append(f"It came back: {back}{status}.")
    if record.due > around.now:
        said.append(f"It is tried again {_when(record.due, around.now)}, attempt {record.attempts + 1}.")
    else:
        said.append(_in_line(record, around))
    taking = [carrier for carrier in around.carriers if carrier.taking]
    if not around.carriers:
        said.append(f'No carrier serves the route "{record.route}" (any more): check [[route]].')
    elif not taking:
        said.append("No carrier of its route takes messages: " + "; ".join(map(_stands, around.carriers)) + ".")
    else:
        said.append("Carriers of its route: " + "; ".join(map(_stands, around.carriers)) + ".")
    if around.breakers:
        said.append(f"A breaker is open ({'; '.join(around.breakers)}): it will be held when its turn comes.")
    return said


def _in_line(record: MessageRecord, around: Surroundings) -> str:
    name = f"{record.route}#{record.place}:{int(record.priority)}"
    if record.pinned:
        name = f"{record.route}@{record.carrier}:{int(record.priority)}"
    lane = around.lanes.get(name)
    ready = lane.ready if lane else 0
    mine = sum(one.ready for one in lane.accounts if one.account == record.account) if lane else 0
    return f'It is ready in the lane "{name}", in which {ready} wait, {mine} of them of account {record.account}.'


def _sending(record: MessageRecord, around: Surroundings) -> list[str]:
    said = [f"It is at the carrier {record.carrier}: taken {_when(record.moved_at, around.now)}, not answered yet."]
    if around.now - record.moved_at > 60_000:
        said.append("That is long: its worker may be dead; another takes over 10 s after its last heartbeat.")
    return said


def _sent(record: MessageRecord, around: Surroundings) -> list[str]:
    ids = ", ".join(part.carrier_id.decode("latin-1") or "(none)" for part in record.parts)
    said = [f"The carrier {record.carrier} accepted it {_when(record.moved_at, around.now)}; its id there: {ids}."]
    done = sum(part.state >= PartState.DELIVERED for part in record.parts)
    if record.reason in REMARKS:
        said.append(REMARKS[record.reason] + (" That was its end." if record.final else ""))
    elif record.final:
        said.append("No delivery receipt came in time: that was its end. Ask the carrier whether receipts are sent.")
    elif done:
        said.append(f"Receipts have come for {done} of {len(record.parts)} parts.")
    else:
        said.append("No delivery receipt has come yet.")
        if around.receipt_timeout:
            until = _when(record.moved_at + int(around.receipt_timeout * 1000), around.now).removeprefix("at ")
            said.append(f"It is waited for until {until}.")
    return said


def _unknown(record: MessageRecord, around: Surroundings) -> list[str]:
    said = [f"It was written to {record.carrier} and never answered: nobody knows whether it was sent."]
    if record.final:
        said.append("It stays so: no answer and no receipt came in time.")
    elif record.content is None:
        marketing = record.category is Category.MARKETING
        why = "advertising never is" if marketing else "on_unknown of its carrier forbids that, or it was often enough"
        said.append(f"It is not sent again: {why}.")
        said.append(f"A late answer or a receipt may still tell; it is given up {_when(record.due, around.now)}.")
    else:
        said.append(f"A receipt may still tell; without one it is sent again {_when(record.due, around.now)}.")
    return said


def _copies(record: MessageRecord) -> str:
    """What became of the copies of a message that was sent more than once."""
    times = "once more" if record.resent == 1 else f"{record.resent} times more"
    told = "; ".join(f"{copy.carrier}: {COPIES[copy.state]}" for copy in record.copies)
    said = f"It was submitted {times}, since no answer came; the recipient may have it more than once"
    return f"{said} (copies: {told})." if told else f"{said}."


def _delivered(record: MessageRecord, around: Surroundings) -> list[str]:
    return [
        f"{record.carrier or 'The carrier'} reported it delivered {_when(record.moved_at, around.now)}.",
        *_by_its_date(record),
    ]


def _undelivered(record: MessageRecord, around: Surroundings) -> list[str]:
    error = next((step.error for step in reversed(record.timeline) if step.error), "")
    detail = f' with the error "{error}"' if error else ""
    return [
        f"{record.carrier} accepted it and later reported that it could not be delivered{detail}.",
        *_by_its_date(record),
    ]


def _by_its_date(record: MessageRecord) -> list[str]:
    """What the carrier's own clock says, and whether it can be right: dates may name minutes only."""
    done = max((part.done_at for part in record.parts), default=0)
    if not done:
        return []
    said = f"By the date in its receipt it was done with it at {rfc3339(done)}"
    if record.accepted_at - _INEXACT <= done <= record.moved_at + _INEXACT:
        return [f"{said}."]
    return [f"{said}, which cannot be: set utc_offset of this carrier, or its clock is wrong."]


def _expired(record: MessageRecord, around: Surroundings) -> list[str]:
    if record.reason is Reason.RECEIPT:
        said = f"{record.carrier} accepted it and let it expire: the recipient could not be reached in time."
        return [said, *_by_its_date(record)]
    waited = next((step for step in reversed(record.timeline[:-1])), None)
    where = f" while it was {waited.state.name.lower()} ({_code(waited.reason)})" if waited else ""
    return [f"It expired here{where}, before a carrier took it."]


def _failed(record: MessageRecord, around: Surroundings) -> list[str]:
    accepted = sum(part.state in (PartState.ACCEPTED, *_DECIDED) for part in record.parts)
    why = {
        Reason.RETRIES_EXHAUSTED: "every retry was refused",
        Reason.ROUTES_EXHAUSTED: "no further carrier of its route is left",
        Reason.PARTIAL: f"{accepted} of {len(record.parts)} parts were accepted and the rest could not be sent",
    }.get(record.reason, _code(record.reason))
    return [f"It failed: {why}.", *_last_status(record)]


def _rejected(record: MessageRecord, around: Surroundings) -> list[str]:
    why = REFUSALS.get(record.reason, _code(record.reason))
    where = "after it was accepted" if len(record.timeline) > 1 else "at the door"
    if record.reason is Reason.CARRIER_REFUSED:
        return [f"It was rejected: {why}.", *_last_status(record)]
    rules = ", ".join(record.envelope.rules)
    return [f"Policy rejected it {where}: {why}{f' (rules: {rules})' if rules else ''}."]


def _canceled(record: MessageRecord, around: Surroundings) -> list[str]:
    return [f"It was canceled {_when(record.moved_at, around.now)}."]


def _last_status(record: MessageRecord) -> list[str]:
    last = next((step for step in reversed(record.timeline) if step.status), None)
    return [f"The last answer, of {last.carrier}, was {status_name(last.status)}."] if last else []


def _stands(carrier: CarrierView) -> str:
    """One carrier in half a sentence."""
    if carrier.mode != "running":
        return f"{carrier.name} is {carrier.mode} by an operator"
    if not carrier.binds:
        return f"{carrier.name} is served by another gateway, which has its {carrier.binds_of} binds"
    if not carrier.up:
        error = next((bind.last_error for bind in carrier.binds if bind.last_error), "")
        return f"{carrier.name} is down{f' ({error})' if error else ''}"
    if not carrier.taking:
        return f"{carrier.name} is up, but its binds are told to take nothing"
    if carrier.sick:
        return f"{carrier.name} is up but answers no submits: one at a time is tried"
    rate = f" at {carrier.rate:g}/s" if carrier.rate else ""
    slowed = f", slowed from {carrier.ceiling:g}/s by throttling" if carrier.slowed and carrier.ceiling else ""
    return f"{carrier.name} is up{rate}{slowed}, {carrier.outstanding} of {carrier.window} in its windows"


def _code(reason: Reason) -> str:
    return "no reason on record" if reason is Reason.NONE else reason.name.lower()


def _when(instant: int, now: int) -> str:
    """``at 2026-… (in 3 h)``, ``at 2026-… (4 min ago)``."""
    apart = abs(instant - now) / 1000
    unit, size = next((unit, size) for unit, size in _UNITS if apart >= size or unit == "s")
    span = f"{apart / size:.0f} {unit}"
    return f"at {rfc3339(instant)} ({f'in {span}' if instant > now else f'{span} ago'})"


_INEXACT = 120_000  # ms
_UNITS = (("d", 172_800 / 2), ("h", 3600.0), ("min", 60.0), ("s", 1.0))
_DECIDED = (PartState.DELIVERED, PartState.EXPIRED, PartState.UNDELIVERED)
_WORDS: dict[State, Callable[[MessageRecord, Surroundings], list[str]]] = {
    State.SCHEDULED: _scheduled,
    State.DEFERRED: _deferred,
    State.HELD: _held,
    State.QUEUED: _queued,
    State.SENDING: _sending,
    State.SENT: _sent,
    State.UNKNOWN: _unknown,
    State.DELIVERED: _delivered,
    State.UNDELIVERED: _undelivered,
    State.EXPIRED: _expired,
    State.FAILED: _failed,
    State.REJECTED: _rejected,
    State.CANCELED: _canceled,
}
