"""What of a carrier all gateways share, each as ``pipeline.sharing.Shared`` has it: its binds, its rate, its senders'
rates.

What a carrier's throttling has taught is each gateway's own: the carrier answers each of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gateway.store.sharing import Ask, Granted

if TYPE_CHECKING:
    from gateway.carriers.carriage import Carriage
    from gateway.policy.senders import Pattern


class BindShare:
    """The binds; a pair of transmitter and receiver counts as one. Who holds none leaves the carrier to the others."""

    def __init__(self, carriage: Carriage) -> None:
        self.name = f"binds/{carriage.carrier.name}"
        self._carriage = carriage

    def __repr__(self) -> str:
        return f"<BindShare {self.name} {self._carriage.pool!r}>"

    @property
    def asked(self) -> bool:
        return self._carriage.pool.asked

    @property
    def limit(self) -> float:
        return self._carriage.carrier.binds

    @property
    def held(self) -> float:
        return self._carriage.pool.held

    def ask(self, now: float) -> Ask:
        pool = self._carriage.pool
        wanted = 0.0 if pool.hopeless(now) else self.limit
        return Ask(self.name, self.limit, self.held, wanted, len(pool.binds), whole=True)

    def grant(self, granted: Granted, asked: Ask, now: float) -> None:
        carriage = self._carriage
        carriage.pool.asked = True
        carriage.pool.first, carriage.pool.members = granted.before, max(1, granted.members)
        carriage.controls.set_share(int(granted.share))
        carriage.dispatcher.set_elsewhere(granted.up > 0)

    def close(self, now: float) -> None:
        """Connections that are up stay: nothing is written over them until the heart beats again."""
        if not self.asked:
            self._carriage.pool.asked = True
            self._carriage.controls.set_share(0)


class CarrierRate:
    """The rate. A gateway without a bind has no use for it."""

    def __init__(self, carriage: Carriage) -> None:
        self.name = f"carrier/{carriage.carrier.name}"
        self._carriage = carriage
        self._pace = carriage.dispatcher.pace

    def __repr__(self) -> str:
        return f"<CarrierRate {self.name} {self._pace!r}>"

    @property
    def asked(self) -> bool:
        return self._pace.share.asked

    @property
    def limit(self) -> float:
        return self._pace.share.limit

    @property
    def held(self) -> float:
        return self._pace.share.held

    def ask(self, now: float) -> Ask:
        wanted = self._pace.wanted(now) if self._carriage.pool.binds else 0.0
        return Ask(self.name, self.limit, self.held, wanted)

    def grant(self, granted: Granted, asked: Ask, now: float) -> None:
        self._pace.grant(granted.share, granted.members, asked.limit, now)
        self._carriage.dispatcher.wake()

    def close(self, now: float) -> None:
        self._pace.share.close()


class SenderRate:
    """The rate of each sender that one entry of ``sender_rates`` names."""

    def __init__(self, carriage: Carriage, pattern: Pattern) -> None:
        self.name = f"sender/{carriage.carrier.name}/{pattern.name}"
        self._carriage = carriage
        self._pattern = pattern

    def __repr__(self) -> str:
        return f"<SenderRate {self.name} {self._pattern.share!r}>"

    @property
    def asked(self) -> bool:
        return self._pattern.share.asked

    @property
    def limit(self) -> float:
        return self._pattern.share.limit

    @property
    def held(self) -> float:
        return self._pattern.share.held

    def ask(self, now: float) -> Ask:
        wanted = self._pattern.wanted(now) if self._carriage.pool.binds else 0.0
        return Ask(self.name, self.limit, self.held, wanted)

    def grant(self, granted: Granted, asked: Ask, now: float) -> None:
        senders = self._carriage.dispatcher.senders
        senders.grant(self._pattern, granted.share, granted.members, asked.limit, now)

    def close(self, now: float) -> None:
        self._pattern.share.close()


def shared(carriage: Carriage) -> Iterator[BindShare | CarrierRate | SenderRate]:
    """All that gateways share of this carrier; what has no limit is not shared."""
    yield BindShare(carriage)
    if carriage.dispatcher.pace.share.limit:
        yield CarrierRate(carriage)
    for pattern in carriage.dispatcher.senders.patterns:
        yield SenderRate(carriage, pattern)
