"""Counters of a simulated carrier, and its record of accepted submits."""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class SimulatorStats(msgspec.Struct):
    """Counters since the start. Replies by recipients count among the receipts sent and acknowledged."""

    connections: int = 0
    binds: int = 0
    binds_refused: int = 0
    bound: int = 0  # now
    submits: int = 0
    accepted: int = 0
    throttled: int = 0
    refused: int = 0  # by a status rule, or for an invalid destination
    duplicates: int = 0  # same destination and text accepted before; counted with the ledger only
    cut: int = 0  # connections, by a fault
    unanswered: int = 0  # submits, by a fault
    receipts_made: int = 0
    receipts_sent: int = 0
    receipts_acknowledged: int = 0
    receipts_refused: int = 0
    receipts_redelivered: int = 0
    receipts_lost: int = 0
    replies: int = 0

    def line(self, before: SimulatorStats, seconds: float) -> str:
        """Return one line of totals, with the rate since ``before``."""
        rate = (self.submits - before.submits) / seconds if seconds > 0 else 0.0
        return (
            f"binds {self.bound}  submits {self.submits} ({rate:.0f}/s)  accepted {self.accepted}"
            f"  throttled {self.throttled}  refused {self.refused}  receipts {self.receipts_sent} sent"
            f", {self.receipts_acknowledged} acknowledged, {self.receipts_redelivered} sent again"
        )


class LedgerEntry(NamedTuple):
    """One submit that the carrier accepted."""

    dest: bytes
    source: bytes
    data_coding: int
    esm_class: int
    payload: bytes
    id: bytes  # as in the response
    at: float  # the loop's time
    system_id: bytes
    sequence: int
    registered_delivery: int
    tlvs: dict[int, bytes] | None = None
    validity: bytes = b""
    service_type: bytes = b""
