"""The operators' door of a worker: a socket that only its supervisor reaches, which says on whose behalf it asks."""

from __future__ import annotations

import msgspec

from gateway.admin.auth import Operator
from gateway.api.listener import App, Receive, Scope, Send

OPERATOR = b"x-operator-is"
"""Header: the ``Operator`` that the supervisor has let in, as JSON."""

_SUPERVISOR = Operator("supervisor", acts=True, recorded=True)
_decode = msgspec.json.Decoder(Operator).decode
_encode = msgspec.json.Encoder().encode


def header(operator: Operator) -> dict[str, str]:
    """What names the operator to ``SupervisorOnly``."""
    return {OPERATOR.decode(): _encode(operator).decode()}


class SupervisorOnly:
    """Lets every request through to ``behind``: the folder of the socket admits nobody else."""

    def __init__(self, behind: App) -> None:
        self._behind = behind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            said = dict(scope["headers"]).get(OPERATOR)
            scope["operator"] = _decode(said) if said else _SUPERVISOR
        await self._behind(scope, receive, send)
