"""``GET /status``: this process, its carriers and accounts, and what the store holds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gateway.admin.carrier_routes import carrier_views
from gateway.admin.queue_routes import lanes_json
from gateway.api.schemas import rfc3339

if TYPE_CHECKING:
    from gateway.admin.parts import GatewayParts
    from gateway.store.overview import StoreOverview


class GatewayStatus:
    """Collects the status of a gateway. Uptime counts from the creation of this object."""

    def __init__(self, parts: GatewayParts, overview: StoreOverview) -> None:
        self._parts = parts
        self._overview = overview
        self._started = time.monotonic()

    def __repr__(self) -> str:
        return f"<GatewayStatus of {self._parts.owner.name}>"

    async def body(self) -> dict[str, Any]:
        """Return the whole status as JSON fields. Raise StoreError."""
        parts = self._parts
        return {"version": parts.version, "store": parts.describe_store(), **self._process(), **await self._store()}

    def _process(self) -> dict[str, Any]:
        """Return what this process is and has counted."""
        parts = self._parts
        rules = parts.policy_context.rules
        return {
            "node": parts.owner.name,
            "uptime_s": round(time.monotonic() - self._started),
            "policy": {"version": rules.version, "epoch": rules.epoch},
            "carriers": carrier_views(parts.carrier_manager),
            "gateways": parts.limits.members,
            "accounts": {
                name: {"rate": one.rate, "share": round(one.share.held, 1), "gateways": one.share.members}
                for name, one in parts.accounts().rate_limits().items()
            },
            "intake": _by_result(parts.intake.counters.counts),
            "swept": dict(parts.sweeper.counts),
            "faults": parts.supervision.as_json(),
        }

    async def _store(self) -> dict[str, Any]:
        """Return what the store holds. Raise StoreError."""
        view, depths = await self._overview.lanes(), await self._parts.store.depths()
        return {
            "lanes": lanes_json(view),
            "held": depths.held,
            "breakers_open": len(self._parts.flags.open),
            "restored": rfc3339(self._parts.flags.restored),
            "leases": depths.leases,
            "parked_receipts": depths.parked,
        }


def _by_result(counts: Mapping[tuple[str, str, str], int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for (_, result, code), count in counts.items():
        name = f"{result}: {code}" if code else result
        found[name] = found.get(name, 0) + count
    return found
