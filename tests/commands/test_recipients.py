from __future__ import annotations

import json

from typer.testing import CliRunner

from gateway.cli import app
from gateway.commands.common import Exit
from tests.client.canned_gateway import CannedGateway

runner = CliRunner()
TO = "+46701740605"
CONSENT = {"to": TO, "status": "granted", "brand": "shop", "occurred_at": "2026-11-21T12:00:00.000Z", "method": "paper"}
OPTOUT = {"to": TO, "scope": "all", "by": "account", "since": "2026-11-21T12:00:00.000Z", "reason": "asked"}


def invoke(server: CannedGateway, *arguments: str) -> tuple[int, str]:
    done = runner.invoke(app, [*arguments, "--url", server.url, "--key", "k"])
    return done.exit_code, done.output


def test_consent_granted_and_revoked(server: CannedGateway) -> None:
    server.reply(200, CONSENT)
    server.reply(200, CONSENT | {"status": "revoked"})
    at = "2026-11-01T09:00:00Z"
    words = ("--method", "paper", "--evidence", "box ticked", "--occurred-at", at)
    code, output = invoke(server, "consent", "grant", TO, *words)
    assert (code, "granted" in output) == (Exit.OK, True)
    code, output = invoke(server, "consent", "revoke", TO, "--brand", "shop", "--json")
    assert (code, json.loads(output)[0]["status"]) == (Exit.OK, "revoked")
    granted, revoked = (request.body for request in server.requests)
    assert granted == {"status": "granted", "method": "paper", "evidence": "box ticked", "occurred_at": at}
    assert revoked == {"status": "revoked", "brand": "shop"}


def test_no_consent_is_exit_code_1(server: CannedGateway) -> None:
    server.reply(200, {"consents": []})
    server.reply(200, {"consents": [CONSENT]})
    code, output = invoke(server, "consent", "show", TO)
    assert (code, "no consent on record" in output) == (Exit.REFUSED, True)
    code, output = invoke(server, "consent", "show", TO)
    assert (code, "paper" in output) == (Exit.OK, True)


def test_opt_outs(server: CannedGateway) -> None:
    server.reply(200, OPTOUT)
    assert invoke(server, "optout", "add", TO, "--reason", "asked", "--scope", "all")[0] == Exit.OK
    server.reply(200, {"suppressions": [OPTOUT]})
    code, output = invoke(server, "optout", "show", TO)
    assert (code, "account" in output) == (Exit.OK, True)
    server.reply(204)
    server.reply(200, {"suppressions": []})
    code, output = invoke(server, "optout", "remove", TO, "--scope", "all")
    assert (code, output) == (Exit.OK, "no opt-out in force\n")
    assert [(request.method, request.path) for request in server.requests] == [
        ("PUT", f"/v1/suppressions/{TO}"),
        ("GET", f"/v1/suppressions/{TO}"),
        ("DELETE", f"/v1/suppressions/{TO}?scope=all"),
        ("GET", f"/v1/suppressions/{TO}"),
    ]


def test_a_refusal_is_shown(server: CannedGateway) -> None:
    problem = {"status": 403, "title": "No", "code": "brand_not_allowed", "detail": "not yours"}
    server.reply(403, problem)
    code, output = invoke(server, "consent", "show", TO)
    assert (code, "brand_not_allowed" in output) == (Exit.REFUSED, True)
    server.reply(403, problem)
    code, output = invoke(server, "optout", "show", TO, "--json")
    assert (code, json.loads(output)) == (Exit.REFUSED, {**problem, "type": "about:blank", "retryable": False})


def test_an_invalid_scope(server: CannedGateway) -> None:
    assert invoke(server, "optout", "add", TO, "--reason", "x", "--scope", "some")[0] == Exit.USAGE
