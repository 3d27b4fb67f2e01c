"""The application on the admin listener: health and readiness without a token, everything else with one."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.health import HealthRoutes, HealthSource
from gateway.api.responses import HANDLERS, JsonResponse


def admin_app(source: HealthSource, routes: Iterable[Route] = ()) -> Starlette:
    """Return the admin application: health, readiness and status from ``source``, and the other ``routes``.

    It checks no token: ``AdminGuard`` or ``SupervisorOnly`` is placed before it.
    """

    async def status(_request: Request) -> Response:
        return JsonResponse(await source.status())

    app = Starlette(
        routes=[*HealthRoutes(source).routes(), Route("/status", status), *routes],
        exception_handlers=HANDLERS,
    )
    app.router.redirect_slashes = False
    return app
