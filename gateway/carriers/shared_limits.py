"""The limits of a carrier that all gateways share (``cluster.limits.SharedLimit``): its binds, its rate, its senders'
rates.

The pace learned from a carrier's throttling is not shared: the carrier throttles each gateway separately.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gateway.store.limits import ShareGrant, ShareRequest

if TYPE_CHECKING:
    from gateway.carriers.service import CarrierService
    from gateway.policy.senders import Pattern


class BindShare:
    """The binds; a pair of transmitter and receiver counts as one. A gateway without any leaves it to others."""

    def __init__(self, service: CarrierService) -> None:
        self.name = f"binds/{service.carrier.name}"
        self._service = service

    def __repr__(self) -> str:
        return f"<BindShare {self.name} {self._service.pool!r}>"

    @property
    def share_known(self) -> bool:
        return self._service.pool.share_known

    @property
    def limit(self) -> float:
        return self._service.carrier.binds

    @property
    def held(self) -> float:
        return self._service.pool.held

    def ask(self, now: float) -> ShareRequest:
        pool = self._service.pool
        wanted = 0.0 if pool.unreachable(now) else self.limit
        return ShareRequest(self.name, self.limit, self.held, wanted, len(pool.binds), whole=True)

    def grant(self, granted: ShareGrant, request: ShareRequest, now: float) -> None:
        service = self._service
        service.pool.share_known = True
        service.pool.first_host, service.pool.members = granted.before, max(1, granted.members)
        service.controls.set_share(int(granted.share))
        service.dispatcher.set_up_elsewhere(granted.up > 0)

    def close(self, now: float) -> None:
        """Hold no binds. Connections that are up stay: nothing is written over them until the next heartbeat."""
        if not self.share_known:
            self._service.pool.share_known = True
            self._service.controls.set_share(0)


class CarrierRate:
    """The rate. A gateway without a bind wants none of it."""

    def __init__(self, service: CarrierService) -> None:
        self.name = f"carrier/{service.carrier.name}"
        self._service = service
        self._pace = service.dispatcher.pace

    def __repr__(self) -> str:
        return f"<CarrierRate {self.name} {self._pace!r}>"

    @property
    def share_known(self) -> bool:
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

    def grant(self, granted: ShareGrant, request: ShareRequest, now: float) -> None:
        self._pace.grant(granted.share, granted.members, request.limit, now)
        self._service.dispatcher.wake()

    def close(self, now: float) -> None:
        self._pace.share.close()


class SenderRate:
    """The rate of each sender matched by one entry of ``sender_rates``."""

    def __init__(self, service: CarrierService, pattern: Pattern) -> None:
        self.name = f"sender/{service.carrier.name}/{pattern.name}"
        self._service = service
        self._pattern = pattern

    def __repr__(self) -> str:
        return f"<SenderRate {self.name} {self._pattern.share!r}>"

    @property
    def share_known(self) -> bool:
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

    def grant(self, granted: ShareGrant, request: ShareRequest, now: float) -> None:
        senders = self._service.dispatcher.senders
        senders.grant(self._pattern, granted.share, granted.members, request.limit, now)

    def close(self, now: float) -> None:
        self._pattern.share.close()


def shared(service: CarrierService) -> Iterator[BindShare | CarrierRate | SenderRate]:
    """Yield all shared limits of this carrier; what has no limit is not shared."""
    yield BindShare(service)
    if service.dispatcher.pace.share.limit:
        yield CarrierRate(service)
    for pattern in service.dispatcher.senders.patterns:
        yield SenderRate(service, pattern)
