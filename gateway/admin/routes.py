"""The operators' listener: health and readiness without a token, status and everything else with one."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.health import HealthRoutes, HealthSource
from gateway.api.responses import HANDLERS, JsonResponse


def admin_app(house: HealthSource, routes: Iterable[Route] = ()) -> Starlette:
    """The operators' application: health, status, and the routes of everything that operators see and do.

    ``Guard`` stands before it: all but health wants a token.
    """

    async def status(_request: Request) -> Response:
        return JsonResponse(await house.status())

    app = Starlette(
        routes=[*HealthRoutes(house).routes(), Route("/status", status), *routes],
        exception_handlers=HANDLERS,
    )
    app.router.redirect_slashes = False
    return app
