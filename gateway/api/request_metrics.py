"""Durations and statuses of HTTP requests, measured around the whole interface."""

from __future__ import annotations

from collections import Counter
from time import perf_counter

from gateway.api.listener import App, Message, Receive, Scope, Send
from gateway.histogram import Histogram

SUBMITS = {"/v1/messages": "submit", "/v1/messages/batch": "batch"}
AREAS = ("messages", "consents", "suppressions")


def route_of(method: str, path: str) -> str:
    """Return the name of the route, one of a few: never the path, which may contain a phone number."""
    if method == "POST" and (name := SUBMITS.get(path)):
        return name
    pieces = path.split("/", 3)
    if len(pieces) > 2 and pieces[1] == "v1" and pieces[2] in AREAS:
        return pieces[2]
    return "health" if path in ("/healthz", "/readyz") else "other"


class RequestMetrics:
    """An ASGI application that measures the one behind it: ``seconds`` by route, ``answers`` by (route, status)."""

    def __init__(self, behind: App) -> None:
        self._behind = behind
        self.seconds: dict[str, Histogram] = {}
        self.answers: Counter[tuple[str, int]] = Counter()

    def __repr__(self) -> str:
        return f"<RequestMetrics {sum(self.answers.values())} answers>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._behind(scope, receive, send)
            return
        route, start = route_of(scope["method"], scope["path"]), perf_counter()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._behind(scope, receive, watched)
        finally:
            self.answers[route, status] += 1
            seen = self.seconds.get(route)
            if seen is None:
                seen = self.seconds[route] = Histogram()
            seen.observe(perf_counter() - start)
