"""Submits at the simulated carrier: which status, which response, which receipts and replies."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from gateway.simulator.app_link import AppLink
from gateway.simulator.delivery import (
    STATES,
    ReceiptTimes,
    pick_state,
    receipt_body,
    receipt_id,
    reply_bodies,
    write_id,
)
from gateway.simulator.delivery_queue import Delivery, DeliveryQueue
from gateway.simulator.faults import Faults
from gateway.simulator.stats import LedgerEntry, SimulatorStats
from gateway.simulator.status_rules import StatusRules, has_passed
from gateway.simulator.timer_wheel import TimerWheel
from gateway.smpp import receipt
from gateway.smpp.codec import HEADER
from gateway.smpp.pdu import DELIVER_SM, RESP
from gateway.smpp.short_message import ShortMessage
from gateway.smpp.status import CommandStatus
from gateway.smpp.text import SplitMethod

MAX_ADDRESS = 20
"""Octets of an address (SMPP 3.4, 4.4.1)."""


class DelayedAnswer(NamedTuple):
    """A response that is held back for the configured latency."""

    link: AppLink
    command_id: int
    sequence: int
    status: int
    body: bytes


class SubmitResponder:
    """Answers submits and plans deliveries. ``ledger`` and ``tap`` get every accepted submit.

    Delayed responses wait in ``answers``. ``wall`` plus the loop's time is seconds since the epoch.
    """

    def __init__(
        self,
        faults: Callable[[], Faults],
        stats: SimulatorStats,
        deliveries: DeliveryQueue,
        *,
        random: Random,
        ledger: list[LedgerEntry] | None,
        tap: Callable[[ShortMessage], None] | None = None,
    ) -> None:
        self.answers: TimerWheel[DelayedAnswer] = TimerWheel()
        self.wall = 0.0
        self._faults = faults
        self._stats = stats
        self._deliveries = deliveries
        self._random = random
        self._rules = StatusRules(random)
        self._ledger = ledger
        self._tap = tap
        self._seen: set[tuple[bytes, int, bytes]] = set()
        # Ids continue where a former run stopped, provided that it accepted fewer than 65,536 messages a second.
        self._last_id = int(time.time()) << 16
        self._reference = random.randrange(256)

    def reply(
        self,
        system_id: bytes,
        source: bytes,
        dest: bytes,
        text: str,
        *,
        ton: int = 1,
        long: SplitMethod = SplitMethod.UDH8,
    ) -> list[Delivery]:
        """Return a text from ``source`` to the app's number ``dest`` as deliveries."""
        self._stats.replies += 1
        self._reference += 1
        bodies = reply_bodies(source, dest, text, self._reference, dest_ton=ton, long=long)
        return [Delivery(system_id, DELIVER_SM, body, None) for body in bodies]

    def handle(self, link: AppLink, message: ShortMessage, now: float) -> None:
        """Answer a submit_sm or data_sm: now, later, or as the faults say."""
        faults, stats = self._faults(), self._stats
        stats.submits += 1
        status = self._status_of(message, now)
        if status:
            self._answer(link, message, status, b"", now)
            return
        cut = faults.drop_every and not stats.submits % faults.drop_every
        if cut and faults.drop_phase == "before_accept":
            stats.cut += 1
            link.cut(faults.drop_mode)
            return
        body = self._accept(link, message, now) + b"\0"
        if cut:
            self._cut_answer(link, message, body)
        elif faults.noresp_every and not stats.submits % faults.noresp_every:
            stats.unanswered += 1
        else:
            if faults.empty_id_every and not stats.submits % faults.empty_id_every:
                body = b"\0"
            self._answer(link, message, 0, body, now)
            if faults.duplicate_answer_every and not stats.submits % faults.duplicate_answer_every:
                self._answer(link, message, 0, body, now)
            if faults.unbind_every and not stats.submits % faults.unbind_every:
                link.session.unbind(now)

    def _status_of(self, message: ShortMessage, now: float) -> int:
        faults = self._faults()
        if faults.rate and self._rules.throttled(faults, now):
            self._stats.throttled += 1
            return faults.rate_status
        dest = message.dest
        if len(dest) > MAX_ADDRESS or not (dest.isdigit() or dest.removeprefix(b"+").isdigit()):
            self._stats.refused += 1
            return CommandStatus.ESME_RINVDSTADR
        clock = faults.validity_clock
        if clock is not None and has_passed(message.validity, clock, now + self.wall):
            self._stats.refused += 1
            return CommandStatus.ESME_RINVEXPIRY
        if not faults.status_rules:
            return 0
        status = self._rules.status(faults.status_rules, self._stats.submits, dest, message.payload, message.validity)
        if status:
            self._stats.refused += 1
        return status

    def _accept(self, link: AppLink, message: ShortMessage, now: float) -> bytes:
        """Record an accepted submit, plan its receipt and reply, and return its message id."""
        faults, stats = self._faults(), self._stats
        stats.accepted += 1
        self._last_id += 1
        message_id = write_id(self._last_id, faults.id_form)
        if self._ledger is not None:
            self._record(self._ledger, link, message, message_id, now)
        if self._tap is not None:
            self._tap(message)
        if faults.receipts == "always" or (faults.receipts == "on_request" and message.registered_delivery & 3):
            self._plan_receipt(link, message, message_id, now)
        if faults.reply_every and not stats.accepted % faults.reply_every:
            self._plan_reply(link, message, now)
        return message_id

    def _record(
        self, ledger: list[LedgerEntry], link: AppLink, message: ShortMessage, message_id: bytes, now: float
    ) -> None:
        payload = message.payload
        key = (message.dest, message.data_coding, payload)
        if key in self._seen:
            self._stats.duplicates += 1
        self._seen.add(key)
        ledger.append(
            LedgerEntry(
                dest=message.dest,
                source=message.source,
                data_coding=message.data_coding,
                esm_class=message.esm_class,
                payload=payload,
                id=message_id,
                at=now,
                system_id=link.system_id,
                sequence=message.sequence,
                registered_delivery=message.registered_delivery,
                tlvs=message.tlvs,
                validity=message.validity,
                service_type=message.service_type,
            )
        )

    def _answer(self, link: AppLink, message: ShortMessage, status: int, body: bytes, now: float) -> None:
        faults = self._faults()
        if faults.latency_ms or faults.jitter_ms:
            delay = faults.latency_ms + (faults.jitter_ms * self._random.random() if faults.jitter_ms else 0.0)
            self.answers.add(
                now + delay / 1000, DelayedAnswer(link, message.command_id, message.sequence, status, body)
            )
        else:
            link.session.respond(message.command_id, message.sequence, status, body)

    def _cut_answer(self, link: AppLink, message: ShortMessage, body: bytes) -> None:
        """Cut the connection after acceptance: before, in the middle of, or right after the response."""
        pdu = HEADER.pack(HEADER.size + len(body), message.command_id | RESP, 0, message.sequence) + body
        size = {"mid_answer": len(pdu) // 2, "after_answer": len(pdu)}.get(self._faults().drop_phase, 0)
        self._stats.cut += 1
        link.cut(self._faults().drop_mode, pdu[:size])

    # ---- receipts and replies

    def _plan_receipt(self, link: AppLink, message: ShortMessage, message_id: bytes, now: float) -> None:
        faults = self._faults()
        state = pick_state(faults, self._random)
        if message.registered_delivery & 3 == 2 and state == receipt.DELIVERED and faults.receipts == "on_request":
            return  # a receipt was requested on failure only
        first = faults.receipt_intermediate
        states = (state,) if first is None else (STATES[first], state)
        delay = faults.receipt_delay_ms + (
            faults.receipt_jitter_ms and faults.receipt_jitter_ms * self._random.random()
        )
        submitted = int((now + self.wall) * 1000)
        times = ReceiptTimes(submitted, submitted + int(delay))
        shown_id = message_id
        if faults.receipt_id_form != "same":
            shown_id = receipt_id(self._last_id, message_id, faults.receipt_id_form)
        origin = link if link.receives and faults.receipt_bind == "same" else None
        for receipt_state in states:
            command_id, body = receipt_body(faults, message, shown_id, receipt_state, times)
            delivery = Delivery(link.system_id, command_id, body, origin)
            for _ in range(faults.receipt_copies):
                self._stats.receipts_made += 1
                if faults.receipt_before_answer:
                    self._deliveries.send(delivery, now)
                else:
                    self._deliveries.wheel.add(now + delay / 1000, delivery)

    def _plan_reply(self, link: AppLink, message: ShortMessage, now: float) -> None:
        faults = self._faults()
        due = now + faults.reply_delay_ms / 1000
        ton = message.source_ton
        for delivery in self.reply(link.system_id, message.dest, message.source, faults.reply_text, ton=ton):
            self._deliveries.wheel.add(due, delivery)
