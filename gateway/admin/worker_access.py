"""Access to the admin routes of a worker: a Unix socket that only its supervisor can reach."""

from __future__ import annotations

import msgspec

from gateway.admin.auth import Operator
from gateway.api.listener import App, Receive, Scope, Send

OPERATOR = b"x-operator-is"
"""Header with the ``Operator`` that the supervisor has authenticated, as JSON."""

_SUPERVISOR = Operator("supervisor", may_act=True, recorded=True)
_decode = msgspec.json.Decoder(Operator).decode
_encode = msgspec.json.Encoder().encode


def operator_header(operator: Operator) -> dict[str, str]:
    """Return the header that names the operator to ``SupervisorOnly``."""
    return {OPERATOR.decode(): _encode(operator).decode()}


class SupervisorOnly:
    """Passes every request on to ``app`` with ``scope["operator"]``: the socket's folder admits only the supervisor."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            operator = dict(scope["headers"]).get(OPERATOR)
            scope["operator"] = _decode(operator) if operator else _SUPERVISOR
        await self._app(scope, receive, send)
