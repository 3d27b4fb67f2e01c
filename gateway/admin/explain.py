"""Explain the state of a message in sentences, from its record and the present state of the gateway. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from gateway.api.schemas import rfc3339
from gateway.carriers.views import CarrierView
from gateway.model import FINAL, Category, PartState, Reason, State
from gateway.smpp.status import name as status_name
from gateway.store.overview import LaneView
from gateway.store.records import MessageRecord

REJECTIONS = {
    Reason.CONSENT_MISSING: "the recipient's consent for this account and brand is not on record",
    Reason.CONSENT_REVOKED: "the recipient has revoked consent",
    Reason.OPTED_OUT: "the recipient has opted out",
    Reason.SUPPRESSED: "the recipient is on the suppression list",
    Reason.QUIET_HOURS: "it fell into the recipient's quiet hours and may not be delayed until they end",
    Reason.FREQUENCY_CAP: "the recipient has received as many messages as the frequency caps allow",
    Reason.BREAKER_OPEN: "a breaker is open",
    Reason.CONTENT_REFUSED: "its content is not allowed, or it has too many segments",
    Reason.DUPLICATE: "the same content was sent before",
    Reason.EXPIRED: "it would expire before it may be sent",
    Reason.NO_ROUTE: "no route matches the destination",
    Reason.ZONE_UNKNOWN: "the recipient's time zone is unknown",
    Reason.GATEWAY_FAULT: "the gateway failed to process it; see its log",
    Reason.CARRIER_REFUSED: "the carrier refused it permanently",
}
REQUEUED = {
    Reason.THROTTLED: "the carrier throttled; this does not count as an attempt",
    Reason.CARRIER_RETRY: "the carrier refused it temporarily",
    Reason.NEXT_CARRIER: "a carrier could not send it, and the next one of the route is to try",
    Reason.BIND_LOST: "the connection was lost before it was sent",
    Reason.RESEND: "its first submit got no response, so it is sent once more",
    Reason.UNTAKEN: "it was taken from its lane but not submitted in time",
    Reason.PACED: "its sender has reached its rate at this carrier (sender_rates) and waits for the next slot",
    Reason.TURN: "its sender has reached its rate at this carrier (sender_rates) and has a slot later",
}
"""Why a message is in its lane again."""

COPY_STATES = {
    PartState.PENDING: "not submitted",
    PartState.ACCEPTED: "accepted",
    PartState.UNKNOWN: "no response",
    PartState.DELIVERED: "delivered",
    PartState.EXPIRED: "expired",
    PartState.UNDELIVERED: "not delivered",
}
RECEIPT_REMARKS = {
    Reason.RECEIPT_UNKNOWN: "Its receipt says UNKNOWN: the carrier does not know its state. A later receipt counts.",
    Reason.RECEIPT_UNREADABLE: "A receipt arrived whose state cannot be read. A later receipt counts.",
    Reason.AMBIGUOUS_RECEIPT: "A receipt arrived that may belong to another message to that recipient: it is ignored.",
}


class ExplainContext(NamedTuple):
    """The gateway's present state, as far as it concerns the message."""

    now: int  # ms UTC
    lanes: Mapping[str, LaneView]
    carriers: Sequence[CarrierView]  # of its route, in order of preference
    breakers: Sequence[str]  # scopes of the open breakers that apply to it, in words
    receipt_timeout: float = 0.0  # seconds
    restored: int = 0  # ms UTC; what was accepted earlier is held, as the store was restored from a backup


def explain(record: MessageRecord, context: ExplainContext) -> list[str]:
    """Return the sentences, the most important first."""
    sentences = _EXPLANATIONS[record.state](record, context)
    if record.cancel_requested and not record.final:
        sentences.append("A cancel was requested: it is not sent again, whatever its carrier responds.")
    if record.resent:
        sentences.append(_copies(record))
    if record.expires and not record.final and not _has_left(record):
        sentences.append(f"It expires {_when(record.expires, context.now)}.")
    return sentences


def _has_left(record: MessageRecord) -> bool:
    """Return whether the gateway will not send it (again), so that its expiry has no effect."""
    left = record.state is State.SENT or (record.state is State.UNKNOWN and record.content is None)
    return left or record.state in FINAL


def _scheduled(record: MessageRecord, context: ExplainContext) -> list[str]:
    return [f"Its send_at is in the future: it is decided again {_when(record.due, context.now)}."]


def _deferred(record: MessageRecord, context: ExplainContext) -> list[str]:
    zones = ", ".join(record.envelope.zones)
    why = {
        Reason.QUIET_HOURS: f"The recipient is in quiet hours{f' ({zones})' if zones else ''}",
        Reason.FREQUENCY_CAP: "The recipient has received as many messages as the frequency caps allow",
    }.get(record.reason, f"Policy deferred it ({_code(record.reason)})")
    return [f"{why}: it is decided again {_when(record.due, context.now)}."]


def _held(record: MessageRecord, context: ExplainContext) -> list[str]:
    if record.reason is Reason.RESTORED and not record.due:
        made = f" made {_when(context.restored, context.now)}" if context.restored else ""
        return [
            f"It is held because the store was restored from a backup{made}: it was accepted before that, and may have "
            "been sent since.",
            "smpp-gateway held release --restored has all such messages decided again.",
        ]
    if context.breakers:
        return [
            f"It is held by an open breaker ({'; '.join(context.breakers)}).",
            "Closing the breaker releases it for a new decision (smpp-gateway breakers close).",
        ]
    if record.due:
        return ["It was held and has been released: it is decided again when it is next taken from its lane."]
    return ["It is held, but no breaker that applies to it is open: release it with smpp-gateway held release."]


def _is_restored(record: MessageRecord, context: ExplainContext) -> bool:
    """Return whether it is held, or will be, as it was accepted before the backup that its store was restored from."""
    return record.accepted_at < context.restored


def _queued(record: MessageRecord, context: ExplainContext) -> list[str]:
    sentences = []
    why = REQUEUED.get(record.reason)
    if why:
        last = next((step for step in reversed(record.timeline) if step.carrier), None)
        status = f" ({last.carrier}: {status_name(last.status)})" if last and last.status else ""
        sentences.append(f"It was queued again: {why}{status}.")
    if record.due > context.now:
        sentences.append(f"Its next attempt, number {record.attempts + 1}, is due {_when(record.due, context.now)}.")
    else:
        sentences.append(_in_lane(record, context))
    states = "; ".join(map(_carrier_state, context.carriers))
    if not context.carriers:
        sentences.append(f'No carrier serves the route "{record.route}": check [[route]].')
    elif not any(carrier.taking for carrier in context.carriers):
        sentences.append(f"No carrier of its route takes messages: {states}.")
    else:
        sentences.append(f"Carriers of its route: {states}.")
    if _is_restored(record, context):
        sentences.append(
            f"The store was restored from a backup made {_when(context.restored, context.now)}, after it was accepted: "
            "it will be held when it is to be sent."
        )
    if context.breakers:
        sentences.append(f"A breaker is open ({'; '.join(context.breakers)}): it will be held when it is to be sent.")
    return sentences


def _in_lane(record: MessageRecord, context: ExplainContext) -> str:
    name = f"{record.route}#{record.place}:{int(record.priority)}"
    if record.pinned:
        name = f"{record.route}@{record.carrier}:{int(record.priority)}"
    lane = context.lanes.get(name)
    ready = lane.ready if lane else 0
    mine = sum(one.ready for one in lane.accounts if one.account == record.account) if lane else 0
    return f'It is ready in the lane "{name}", with {ready} ready messages, {mine} of them of account {record.account}.'


def _sending(record: MessageRecord, context: ExplainContext) -> list[str]:
    taken = _when(record.moved_at, context.now)
    sentences = [f"It was taken for the carrier {record.carrier} {taken}; no response is stored yet."]
    if context.now - record.moved_at > 60_000:
        sentences.append(
            "That is unusually long: its worker may be dead; another one takes over 10 s after its last heartbeat."
        )
    return sentences


def _sent(record: MessageRecord, context: ExplainContext) -> list[str]:
    ids = ", ".join(part.carrier_id.decode("latin-1") or "(none)" for part in record.parts)
    accepted = _when(record.moved_at, context.now)
    sentences = [f"The carrier {record.carrier} accepted it {accepted}; its message id there: {ids}."]
    done = sum(part.state >= PartState.DELIVERED for part in record.parts)
    if record.reason in RECEIPT_REMARKS:
        sentences.append(RECEIPT_REMARKS[record.reason])
        if record.final:
            sentences.append("None came in time; this state is final.")
    elif record.final:
        sentences.append("No delivery receipt came in time; this state is final. Ask the carrier if it sends receipts.")
    elif done:
        sentences.append(f"Receipts have arrived for {done} of {len(record.parts)} parts.")
    else:
        sentences.append("No delivery receipt has arrived yet.")
        if context.receipt_timeout:
            until = _when(record.moved_at + int(context.receipt_timeout * 1000), context.now).removeprefix("at ")
            sentences.append(f"The gateway waits for it until {until}.")
    return sentences


def _unknown(record: MessageRecord, context: ExplainContext) -> list[str]:
    sentences = [f"It was submitted to {record.carrier} without a response: it may or may not have been sent."]
    if record.final:
        sentences.append("No response and no receipt came in time; this state is final.")
    elif record.content is None:
        marketing = record.category is Category.MARKETING
        why = (
            "marketing messages never are"
            if marketing
            else "on_unknown of its carrier forbids it, or the limit of resends is reached"
        )
        sentences.append(f"It is not sent again: {why}.")
        sentences.append(
            f"A late response or a receipt may still decide it; the gateway gives up {_when(record.due, context.now)}."
        )
    else:
        sentences.append(
            f"A receipt may still decide it; without one it is sent again {_when(record.due, context.now)}."
        )
    return sentences


def _copies(record: MessageRecord) -> str:
    """Return what became of the copies of a message that was submitted more than once."""
    times = "once more" if record.resent == 1 else f"{record.resent} more times"
    copies = "; ".join(f"{copy.carrier}: {COPY_STATES[copy.state]}" for copy in record.copies)
    sentence = f"It was submitted {times} because no response came; the recipient may receive it more than once"
    return f"{sentence} (copies: {copies})." if copies else f"{sentence}."


def _delivered(record: MessageRecord, context: ExplainContext) -> list[str]:
    return [
        f"{record.carrier or 'The carrier'} reported its delivery {_when(record.moved_at, context.now)}.",
        *_receipt_date(record),
    ]


def _undelivered(record: MessageRecord, context: ExplainContext) -> list[str]:
    error = next((step.error for step in reversed(record.timeline) if step.error), "")
    detail = f' with the error "{error}"' if error else ""
    return [
        f"{record.carrier} accepted it and later reported that it could not be delivered{detail}.",
        *_receipt_date(record),
    ]


def _receipt_date(record: MessageRecord) -> list[str]:
    """Return the done date of the receipt and whether it is plausible; dates may have a precision of minutes."""
    done = max((part.done_at for part in record.parts), default=0)
    if not done:
        return []
    sentence = f"The done date in its receipt is {rfc3339(done)}"
    if record.accepted_at - _DATE_TOLERANCE <= done <= record.moved_at + _DATE_TOLERANCE:
        return [f"{sentence}."]
    return [f"{sentence}, which is impossible: set utc_offset of this carrier, or its clock is wrong."]


def _expired(record: MessageRecord, context: ExplainContext) -> list[str]:
    if record.reason is Reason.RECEIPT:
        sentence = (
            f"{record.carrier} accepted it and reported that it expired: the recipient could not be reached in time."
        )
        return [sentence, *_receipt_date(record)]
    waited = next((step for step in reversed(record.timeline[:-1])), None)
    where = f" while it was {waited.state.name.lower()} ({_code(waited.reason)})" if waited else ""
    return [f"It expired in the gateway{where}, before a carrier accepted it."]


def _failed(record: MessageRecord, context: ExplainContext) -> list[str]:
    accepted = sum(part.state in (PartState.ACCEPTED, *_DECIDED) for part in record.parts)
    why = {
        Reason.RETRIES_EXHAUSTED: "all attempts were refused",
        Reason.ROUTES_EXHAUSTED: "every carrier of its route has been tried",
        Reason.PARTIAL: f"{accepted} of {len(record.parts)} parts were accepted and the rest could not be sent",
    }.get(record.reason, _code(record.reason))
    return [f"It failed: {why}.", *_last_status(record)]


def _rejected(record: MessageRecord, context: ExplainContext) -> list[str]:
    why = REJECTIONS.get(record.reason, _code(record.reason))
    when = "after it was accepted" if len(record.timeline) > 1 else "when it was submitted"
    if record.reason is Reason.CARRIER_REFUSED:
        return [f"It was rejected: {why}.", *_last_status(record)]
    rules = ", ".join(record.envelope.rules)
    return [f"Policy rejected it {when}: {why}{f' (rules: {rules})' if rules else ''}."]


def _canceled(record: MessageRecord, context: ExplainContext) -> list[str]:
    return [f"It was canceled {_when(record.moved_at, context.now)}."]


def _last_status(record: MessageRecord) -> list[str]:
    last = next((step for step in reversed(record.timeline) if step.status), None)
    return [f"The last response, from {last.carrier}, was {status_name(last.status)}."] if last else []


def _carrier_state(carrier: CarrierView) -> str:
    """Return the state of a carrier as part of a sentence."""
    if carrier.mode != "running":
        return f"{carrier.name} is {carrier.mode} by an operator"
    if not carrier.binds:
        return f"{carrier.name} is served by other gateways, which hold its {carrier.binds_of} binds"
    if not carrier.up:
        error = next((bind.last_error for bind in carrier.binds if bind.last_error), "")
        return f"{carrier.name} is down{f' ({error})' if error else ''}"
    if not carrier.taking:
        return f"{carrier.name} is up, but all its binds are paused or drained"
    if carrier.sick:
        return f"{carrier.name} is up but does not respond to submits: it is probed one submit at a time"
    rate = f" at {carrier.rate:g}/s" if carrier.rate else ""
    slowed = f", slowed from {carrier.ceiling:g}/s by throttling" if carrier.slowed and carrier.ceiling else ""
    return f"{carrier.name} is up{rate}{slowed}, {carrier.outstanding} of {carrier.window} in its window"


def _code(reason: Reason) -> str:
    return "no reason recorded" if reason is Reason.NONE else reason.name.lower()


def _when(instant: int, now: int) -> str:
    """Return ``at 2026-… (in 3 h)`` or ``at 2026-… (4 min ago)``."""
    apart = abs(instant - now) / 1000
    unit, size = next((unit, size) for unit, size in _UNITS if apart >= size or unit == "s")
    span = f"{apart / size:.0f} {unit}"
    return f"at {rfc3339(instant)} ({f'in {span}' if instant > now else f'{span} ago'})"


_DATE_TOLERANCE = 120_000  # ms
_UNITS = (("d", 172_800 / 2), ("h", 3600.0), ("min", 60.0), ("s", 1.0))
_DECIDED = (PartState.DELIVERED, PartState.EXPIRED, PartState.UNDELIVERED)
_EXPLANATIONS: dict[State, Callable[[MessageRecord, ExplainContext], list[str]]] = {
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
