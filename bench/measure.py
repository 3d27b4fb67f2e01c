"""Arithmetic of the results: percentiles, losses and duplicates, costs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

QUANTILES = (0.5, 0.9, 0.99, 0.999, 1.0)


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds by quantile; all 0 if nothing was measured."""

    count: int
    p50: float
    p90: float
    p99: float
    p999: float
    max: float

    @classmethod
    def of(cls, milliseconds: Iterable[float]) -> Latency:
        ordered = sorted(milliseconds)
        if not ordered:
            return cls(0, 0.0, 0.0, 0.0, 0.0, 0.0)
        return cls(len(ordered), *(round(quantile(ordered, share), 3) for share in QUANTILES))


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of the ordered values do not exceed (nearest rank)."""
    rank = max(1, -(-len(ordered) * share // 1))
    return ordered[int(rank) - 1]


class Counts(msgspec.Struct, frozen=True):
    """What became of the accepted messages."""

    accepted: int
    refused: int
    reached: int  # distinct messages that a carrier accepted
    lost: int  # accepted by the gateway, never seen by a carrier
    doubled: int  # seen more than once
    parts: int  # submit_sm in all
    receipts: int  # receipts that the gateway acknowledged
    final: dict[str, int]  # events of a final state, by state

    @property
    def clean(self) -> bool:
        return self.lost == 0 and self.doubled == 0


def compare(accepted: int, copies: Mapping[int, int]) -> tuple[int, int, int]:
    """(reached, lost, doubled) from how often each message's first part was seen."""
    reached = len(copies)
    return reached, max(0, accepted - reached), sum(1 for count in copies.values() if count > 1)


class Cost(msgspec.Struct, frozen=True):
    """CPU time of one process."""

    seconds: float
    per_message: float  # µs

    @classmethod
    def of(cls, seconds: float, messages: int) -> Cost:
        return cls(round(seconds, 3), round(seconds / messages * 1e6, 2) if messages else 0.0)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One run, as it is printed and written."""

    options: dict[str, object]
    machine: dict[str, object]
    finished: bool  # False: time was up
    seconds: float  # first request to last receipt acknowledged
    rate: float  # messages a second over that
    accept_rate: float  # messages a second until the last 202
    counts: Counts
    gateway: Cost
    store: Cost
    load: Cost
    carriers: Cost
    request: Latency  # request → 202
    to_wire: Latency  # request → first submit_sm at the carrier
    to_receipt: Latency  # accepted → event of the final state, by the store's clock
    gateway_memory: int  # octets resident at the end
    live_bytes: int  # of the store, per message waiting; 0 = not measured
    finished_bytes: int  # of the store, per message finished
    problems: list[str]
