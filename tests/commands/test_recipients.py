from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.commands.common import Exit
from tests.client.door import Door, opened

runner = CliRunner()
TO = "+46701740605"
CONSENT = {"to": TO, "status": "granted", "brand": "shop", "occurred_at": "2026-11-21T12:00:00.000Z", "method": "paper"}
OPTOUT = {"to": TO, "scope": "all", "by": "account", "since": "2026-11-21T12:00:00.000Z", "reason": "asked"}


@pytest.fixture
def door() -> Iterator[Door]:
    with opened() as door:
        yield door


def invoke(door: Door, *arguments: str) -> tuple[int, str]:
    done = runner.invoke(app, [*arguments, "--url", door.url, "--key", "k"])
    return done.exit_code, done.output


def test_consent_granted_and_revoked(door: Door) -> None:
    door.reply(200, CONSENT)
    door.reply(200, CONSENT | {"status": "revoked"})
    at = "2026-11-01T09:00:00Z"
    words = ("--method", "paper", "--evidence", "box ticked", "--occurred-at", at)
    code, output = invoke(door, "consent", "grant", TO, *words)
    assert (code, "granted" in output) == (Exit.OK, True)
    code, output = invoke(door, "consent", "revoke", TO, "--brand", "shop", "--json")
    assert (code, json.loads(output)[0]["status"]) == (Exit.OK, "revoked")
    granted, revoked = (asked.body for asked in door.asked)
    assert granted == {"status": "granted", "method": "paper", "evidence": "box ticked", "occurred_at": at}
    assert revoked == {"status": "revoked", "brand": "shop"}


def test_no_consent_is_exit_code_1(door: Door) -> None:
    door.reply(200, {"consents": []})
    door.reply(200, {"consents": [CONSENT]})
    code, output = invoke(door, "consent", "show", TO)
    assert (code, "no consent on record" in output) == (Exit.REFUSED, True)
    code, output = invoke(door, "consent", "show", TO)
    assert (code, "paper" in output) == (Exit.OK, True)


def test_opt_outs(door: Door) -> None:
    door.reply(200, OPTOUT)
    assert invoke(door, "optout", "add", TO, "--reason", "asked", "--scope", "all")[0] == Exit.OK
    door.reply(200, {"suppressions": [OPTOUT]})
    code, output = invoke(door, "optout", "show", TO)
    assert (code, "account" in output) == (Exit.OK, True)
    door.reply(204)
    door.reply(200, {"suppressions": []})
    code, output = invoke(door, "optout", "remove", TO, "--scope", "all")
    assert (code, output) == (Exit.OK, "no opt-out in force\n")
    assert [(asked.method, asked.path) for asked in door.asked] == [
        ("PUT", f"/v1/suppressions/{TO}"),
        ("GET", f"/v1/suppressions/{TO}"),
        ("DELETE", f"/v1/suppressions/{TO}?scope=all"),
        ("GET", f"/v1/suppressions/{TO}"),
    ]


def test_a_refusal_is_shown(door: Door) -> None:
    problem = {"status": 403, "title": "No", "code": "brand_not_allowed", "detail": "not yours"}
    door.reply(403, problem)
    code, output = invoke(door, "consent", "show", TO)
    assert (code, "brand_not_allowed" in output) == (Exit.REFUSED, True)
    door.reply(403, problem)
    code, output = invoke(door, "optout", "show", TO, "--json")
    assert (code, json.loads(output)) == (Exit.REFUSED, {**problem, "type": "about:blank", "retryable": False})


def test_a_scope_that_is_none(door: Door) -> None:
    assert invoke(door, "optout", "add", TO, "--reason", "x", "--scope", "some")[0] == Exit.USAGE
