"""Rules, answers, receipts and events as functions take and reply them. Their layout is in ``layout``."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.model import PartState, Reason, ReceiptFact, Rule, RuleGroup, RuleStatus, State, StreamEvent, SubmitResult
from gateway.store.layout import ANSWER, ANSWER_PART, DATED, DETAIL, DETAILED, EARLY, EVENT, RECEIPT, RULE, WHOLE

_FIRST_END, _LAST_END = PartState.DELIVERED, PartState.UNDELIVERED
LATEST = 0xFFFFFFFF
"""The latest done date that can be stored, in seconds since 1970: early in 2106."""


def read_rules(packed: bytes) -> tuple[Rule, ...]:
    """Return the rules of one recipient."""
    if not packed:
        return ()
    return tuple(
        Rule(RuleGroup(group), RuleStatus(status), scope, at, until)
        for group, status, scope, at, until in RULE.iter_unpack(packed)
    )


def pack_answer(answer: SubmitResult, carriers: Mapping[str, int]) -> bytes:
    """Return a packed answer; ``carriers`` numbers the carriers of the call."""
    parts = answer.parts
    out = [
        ANSWER.pack(
            answer.id,
            answer.lease,
            answer.resolution,
            answer.reason,
            answer.status,
            answer.due,
            answer.on_unknown,
            answer.last_place,
            answer.total,
            len(parts),
            carriers[answer.carrier],
        )
    ]
    for index, state, carrier_id, status in parts:
        out.append(ANSWER_PART.pack(index, state, status, len(carrier_id)))
        out.append(carrier_id)
    out.append(answer.mark)
    return b"".join(out)


def pack_receipt(receipt: ReceiptFact, carriers: Mapping[str, int]) -> bytes:
    """Return a packed receipt; ``carriers`` numbers the carriers of the call. Its ids become fields of the id map."""
    recipient, ids, detail = receipt.recipient.key[:8], receipt.ids or (b"",), receipt.detail
    state, rest = pack_outcome(receipt)
    if len(ids) == 1 and detail is None:
        head = RECEIPT.pack(carriers[receipt.carrier], state, 1)
        return b"%b%c%b%b%b" % (head, 8 + len(ids[0]), recipient, ids[0], rest)
    head = RECEIPT.pack(carriers[receipt.carrier], state, len(ids) + (DETAILED if detail else 0))
    details = b""
    if detail is not None:
        host, guesses = detail.host.encode(), detail.guesses
        details = (
            DETAIL.pack(EARLY if detail.early else detail.sure, len(host), len(detail.mark), len(guesses))
            + host
            + detail.mark
        )
        details += b"".join([b"%c%c%b" % (kind, len(one), one) for kind, one in guesses])
    return b"".join((head, *[b"%c%b%b" % (8 + len(one), recipient, one) for one in ids], details, rest))


def pack_outcome(receipt: ReceiptFact) -> tuple[int, bytes]:
    """Return the state (plus ``WHOLE``, plus ``DATED``), and what follows it: done date if ``DATED``, then error text.

    The date of a receipt that is not final is not kept.
    """
    error, second = receipt.error.encode()[:64], receipt.at // 1000
    state = receipt.state + WHOLE if receipt.whole else receipt.state
    if 0 < second <= LATEST and _FIRST_END <= receipt.state <= _LAST_END:
        return state + DATED, second.to_bytes(4, "big") + error
    return state, error


def read_outcome(state: int, rest: bytes) -> tuple[PartState, int, str, bool]:
    """Return what ``pack_outcome`` packed: state, date in ms (0 = none), error text, whether for the whole message."""
    at = 0
    if state >= DATED:
        state, at, rest = state - DATED, int.from_bytes(rest[:4], "big") * 1000, rest[4:]
    whole = state >= WHOLE
    return PartState(state - WHOLE if whole else state), at, rest.decode("utf-8", "replace"), whole


def read_events(packed: bytes, instant: int) -> list[StreamEvent]:
    """Return the events of one stream entry, in order; ``instant`` is the entry's."""
    events, at, size, unpack = [], 0, EVENT.size, EVENT.unpack_from
    while at < len(packed):
        (
            message_id,
            sequence,
            state,
            previous,
            reason,
            final,
            status,
            accepted,
            account_len,
            carrier_len,
            id_len,
            error_len,
        ) = unpack(packed, at)
        carrier_at = at + size + account_len
        id_at = carrier_at + carrier_len
        error_at = id_at + id_len
        end = error_at + error_len
        events.append(
            StreamEvent(
                message_id,
                sequence,
                State(state),
                State(previous) if previous else None,
                Reason(reason),
                final == 1,
                instant,
                packed[carrier_at:id_at].decode(),
                packed[id_at:error_at],
                status,
                packed[error_at:end].decode("utf-8", "replace"),
                accepted,
                packed[at + size : carrier_at].decode(),
            )
        )
        at = end
    return events
