"""Carriers and their binds on the admin listener: state, pause, drain, resume, reconnect."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from gateway.api.problems import refuse
from gateway.api.responses import JsonResponse
from gateway.carriers.mode import CarrierMode
from gateway.carriers.views import CarrierView, carrier_view

if TYPE_CHECKING:
    from starlette.requests import Request

    from gateway.admin.audit import Audit
    from gateway.carriers.manager import CarrierManager
    from gateway.carriers.service import CarrierService
    from gateway.cluster.flags import SharedFlags

MODES = {"pause": CarrierMode.PAUSED, "drain": CarrierMode.DRAINED, "resume": CarrierMode.RUNNING}


def carrier_views(carrier_manager: CarrierManager) -> list[CarrierView]:
    """Return the state of every carrier."""
    now = asyncio.get_running_loop().time()
    return [carrier_view(service, now) for service in carrier_manager.services]


class CarrierRoutes:
    """Shows and controls carriers on the admin listener (``routes``)."""

    def __init__(self, carrier_manager: CarrierManager, flags: SharedFlags, audit: Audit) -> None:
        self._carrier_manager = carrier_manager
        self._flags = flags
        self._audit = audit

    def __repr__(self) -> str:
        return f"<CarrierRoutes {self._carrier_manager!r}>"

    def routes(self) -> list[Route]:
        """Return all routes."""
        post = ["POST"]
        return [
            Route("/carriers", self.carriers),
            Route("/carriers/{name}", self.carrier),
            Route("/carriers/{name}/{verb}", self.control, methods=post),
            Route("/carriers/{name}/binds/{bind}/{verb}", self.control_bind, methods=post),
        ]

    async def carriers(self, _request: Request) -> Response:
        """``GET /carriers``: every carrier with its state, binds and last errors."""
        return JsonResponse({"carriers": carrier_views(self._carrier_manager)})

    async def carrier(self, request: Request) -> Response:
        """``GET /carriers/{name}``."""
        return _state(self._service(request))

    async def control(self, request: Request) -> Response:
        """``POST /carriers/{name}/pause|drain|resume|reconnect``: return the state right afterwards."""
        service, verb = self._service(request), _verb(request)
        name, controls = service.carrier.name, service.controls
        async with self._audit.action(request, f"carrier.{verb}", name):
            if verb == "reconnect":
                controls.reconnect()
            else:
                await self._flags.set_carrier(name, MODES[verb])
                for slot in service.pool.slots if verb == "resume" else ():
                    if slot.mode is not CarrierMode.RUNNING:
                        controls.set_bind(slot, CarrierMode.RUNNING)
        await asyncio.sleep(0)  # let the carrier act on it
        return _state(service)

    async def control_bind(self, request: Request) -> Response:
        """``POST /carriers/{name}/binds/{number}/pause|drain|resume|reconnect``: one bind of this worker."""
        service = self._service(request)
        slot = service.controls.slot(request.path_params["bind"])
        if slot is None:
            raise refuse("not_found", f"{service.carrier.name} has {len(service.pool.slots)} binds, counted from 1")
        verb = _verb(request)
        async with self._audit.action(request, f"bind.{verb}", slot.name):
            if verb == "reconnect":
                service.controls.reconnect([slot])
            else:
                service.controls.set_bind(slot, MODES[verb])
        await asyncio.sleep(0)  # let the bind act on it
        return _state(service)

    def _service(self, request: Request) -> CarrierService:
        """Return the named carrier; during a reload two may have one name, and the newer is meant."""
        name = request.path_params["name"]
        for service in reversed(self._carrier_manager.services):
            if service.carrier.name == name:
                return service
        known = ", ".join(sorted({service.carrier.name for service in self._carrier_manager.services})) or "none"
        raise refuse("not_found", f"there is no carrier {name}; configured carriers: {known}")


def _verb(request: Request) -> str:
    verb: str = request.path_params["verb"]
    if verb != "reconnect" and verb not in MODES:
        raise refuse("not_found", f"there is no action {verb}; use {', '.join(MODES)} or reconnect")
    return verb


def _state(service: CarrierService) -> Response:
    return JsonResponse(carrier_view(service, asyncio.get_running_loop().time()))
