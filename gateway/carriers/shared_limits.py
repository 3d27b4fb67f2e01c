"""What of a carrier all gateways share, each as ``cluster.limits.SharedLimit`` has it: its binds, its rate, its
senders' rates.

What a carrier's throttling has taught is each gateway's own: the carrier answers each of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gateway.store.limits import ShareGrant, ShareRequest

if TYPE_CHECKING:
    from gateway.carriers.service import CarrierService
    from gateway.policy.senders import SenderLimit


class BindShare:
    """The binds; a pair of transmitter and receiver counts as one. Who holds none leaves the carrier to the others."""

    def __init__(self, service: CarrierService) -> None:
        self.name = f"binds/{service.carrier.name}"
        self._service = service

    def __repr__(self) -> str:
        return f"<BindShare {self.name} {self._service.pool!r}>"

    @property
    def asked(self) -> bool:
        return self._service.pool.asked

    @property
    def limit(self) -> float:
        return self._service.carrier.binds

    @property
    def held(self) -> float:
        return self._service.pool.held

    def ask(self, now: float) -> ShareRequest:
        pool = self._service.pool
        wanted = 0.0 if pool.hopeless(now) else self.limit
        return ShareRequest(self.name, self.limit, self.held, wanted, len(pool.binds), whole=True)

    def grant(self, granted: ShareGrant, asked: ShareRequest, now: float) -> None:
        service = self._service
        service.pool.asked = True
        service.pool.first, service.pool.members = granted.before, max(1, granted.members)
        service.controls.set_share(int(granted.share))
        service.dispatcher.set_elsewhere(granted.up > 0)

    def close(self, now: float) -> None:
        """Connections that are up stay: nothing is written over them until the heart beats again."""
        if not self.asked:
            self._service.pool.asked = True
            self._service.controls.set_share(0)


class CarrierRate:
    """The rate. A gateway without a bind has no use for it."""

    def __init__(self, service: CarrierService) -> None:
        self.name = f"carrier/{service.carrier.name}"
        self._service = service
        self._pace = service.dispatcher.pace

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

    def ask(self, now: float) -> ShareRequest:
        wanted = self._pace.wanted(now) if self._service.pool.binds else 0.0
        return ShareRequest(self.name, self.limit, self.held, wanted)

    def grant(self, granted: ShareGrant, asked: ShareRequest, now: float) -> None:
        self._pace.grant(granted.share, granted.members, asked.limit, now)
        self._service.dispatcher.wake()

    def close(self, now: float) -> None:
        self._pace.share.close()


class SenderRate:
    """The rate of each sender that one entry of ``sender_rates`` names."""

    def __init__(self, service: CarrierService, pattern: SenderLimit) -> None:
        self.name = f"sender/{service.carrier.name}/{pattern.name}"
        self._service = service
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

    def ask(self, now: float) -> ShareRequest:
        wanted = self._pattern.wanted(now) if self._service.pool.binds else 0.0
        return ShareRequest(self.name, self.limit, self.held, wanted)

    def grant(self, granted: ShareGrant, asked: ShareRequest, now: float) -> None:
        senders = self._service.dispatcher.senders
        senders.grant(self._pattern, granted.share, granted.members, asked.limit, now)

    def close(self, now: float) -> None:
        self._pattern.share.close()


def shared(service: CarrierService) -> Iterator[BindShare | CarrierRate | SenderRate]:
    """All that gateways share of this carrier; what has no limit is not shared."""
    yield BindShare(service)
    if service.dispatcher.pace.share.limit:
        yield CarrierRate(service)
    for pattern in service.dispatcher.senders.patterns:
        yield SenderRate(service, pattern)
