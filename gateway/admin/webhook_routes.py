"""Webhooks on the admin listener: endpoints with what waits for them, dead letters, a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.admin.request_body import decode_body
from gateway.api.problems import FieldProblem, refuse
from gateway.api.requests import malformed
from gateway.api.responses import JsonResponse

if TYPE_CHECKING:
    from gateway.admin.audit import Audit
    from gateway.webhooks.admin import WebhookAdmin

MAX_SHOWN = 1000


class EndpointChoice(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which endpoints: all of an account, or one URL; neither means all."""

    account: str = ""
    url: str = ""


class WebhookRoutes:
    """Shows and controls webhook endpoints on the admin listener (``routes``)."""

    def __init__(self, webhook_admin: WebhookAdmin, audit: Audit) -> None:
        self._webhook_admin = webhook_admin
        self._audit = audit

    def routes(self) -> list[Route]:
        """Return all routes of this class."""
        post = ["POST"]
        return [
            Route("/webhooks", self.endpoints),
            Route("/webhooks/dead", self.dead),
            Route("/webhooks/replay", self.replay, methods=post),
            Route("/webhooks/drop", self.drop, methods=post),
            Route("/webhooks/retry", self.retry, methods=post),
            Route("/webhooks/test", self.test, methods=post),
        ]

    async def endpoints(self, _request: Request) -> Response:
        """``GET /webhooks``: endpoints with something waiting, dead letters or faults."""
        return JsonResponse({"receivers": await self._webhook_admin.endpoints()})

    async def dead(self, request: Request) -> Response:
        """``GET /webhooks/dead?account=…&url=…&limit=100``: dead letters as they would be posted."""
        query = request.query_params
        text = query.get("limit", "100")
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_SHOWN):
            raise malformed([FieldProblem("limit", "invalid_value", f"must be from 1 to {MAX_SHOWN}")])
        events = await self._webhook_admin.dead(query.get("account", ""), query.get("url", ""), int(text))
        return JsonResponse({"events": events})

    async def replay(self, request: Request) -> Response:
        """``POST /webhooks/replay`` ``{account?, url?}``: queue dead letters again."""
        choice = await decode_body(request, _CHOICE)
        async with self._audit.action(request, "webhooks.replay", choice.account, url=choice.url) as result:
            events = result["events"] = await self._webhook_admin.replay(choice.account, choice.url)
        return JsonResponse({"events": events})

    async def drop(self, request: Request) -> Response:
        """``POST /webhooks/drop`` ``{account, url?}``: delete dead letters."""
        choice = await decode_body(request, _CHOICE)
        if not choice.account:
            raise malformed([FieldProblem("account", "invalid_value", "required: whose dead letters to delete")])
        async with self._audit.action(request, "webhooks.drop", choice.account, url=choice.url) as result:
            events = result["events"] = await self._webhook_admin.drop(choice.account, choice.url)
        return JsonResponse({"events": events})

    async def retry(self, request: Request) -> Response:
        """``POST /webhooks/retry`` ``{account?, url?}``: try failing endpoints now."""
        choice = await decode_body(request, _CHOICE)
        async with self._audit.action(request, "webhooks.retry", choice.account, url=choice.url):
            return JsonResponse({"receivers": self._webhook_admin.retry(choice.account, choice.url)})

    async def test(self, request: Request) -> Response:
        """``POST /webhooks/test`` ``{account, url?}``: post one test event now; responds with the outcome."""
        choice = await decode_body(request, _CHOICE)
        async with self._audit.action(request, "webhooks.test", choice.account, url=choice.url) as result:
            tested = await self._webhook_admin.test(choice.account, choice.url)
            if tested is None:
                raise refuse("not_found", f"no account {choice.account} with a callback_url; give a url (--to)")
            result["said"] = str(tested.outcome)
        return JsonResponse(tested.as_json())


_CHOICE = msgspec.json.Decoder(EndpointChoice)
