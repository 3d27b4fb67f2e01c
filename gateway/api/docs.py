"""``/v1/openapi.json`` and the page that shows it, ``/docs``: served from the package, without requests elsewhere."""

from __future__ import annotations

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gateway.api.openapi import document
from gateway.api.problems import refuse

_TYPES = {"docs.html": "text/html", "docs.css": "text/css", "docs.js": "text/javascript"}
_HEADERS = {
    # Whatever the document contains, the page may load from and send to this gateway only.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class DocsRoutes:
    """The routes. ``version``: of the gateway."""

    def __init__(self, version: str) -> None:
        self._version = version
        folder = files("gateway.api") / "pages"
        self._pages = {name: (folder / name).read_bytes() for name in _TYPES}

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/openapi.json", self.document),
            Route("/", self.welcome),
            Route("/docs", self.page),
            Route("/docs/{name}", self.page),
        ]

    async def document(self, _request: Request) -> Response:
        return Response(document(self._version), media_type="application/json")

    async def welcome(self, _request: Request) -> Response:
        """``GET /``: lead a browser to the page."""
        return RedirectResponse("docs")  # relative, so that it works behind a proxy's path too

    async def page(self, request: Request) -> Response:
        name = request.path_params.get("name", "docs.html")
        if name not in self._pages:
            raise refuse("not_found")
        return Response(self._pages[name], headers=_HEADERS, media_type=_TYPES[name])
