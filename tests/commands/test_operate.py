"""Operators' commands against canned responses (against a real gateway: tests/admin)."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.commands import operator_tables
from gateway.commands.common import Exit
from tests.client.canned_gateway import CannedGateway

BIND = {
    **{"name": "north/1", "kind": "transceiver", "mode": "running", "state": "down", "up": False, "peer": ""},
    **{"up_s": 0, "window": 0, "outstanding": 0, "last_error": "ESME_RINVPASWD", "failures": 3, "next_try_s": 61.0},
}
NORTH = {
    **{"name": "north", "mode": "paused", "up": 0, "taking": False, "window": 0, "outstanding": 0, "rate": 40.0},
    **{"ceiling": 500.0, "slowed": True, "decreases": 2, "leased": 0, "submitted": 120, "accepted": 100},
    **{"refused": {"ESME_RTHROTTLED": 20}, "unanswered": 0, "receipts": {}, "store_away_s": 0.0, "binds": [BIND]},
    **{"binds_of": 1, "limit": 500.0, "gateways": 1},
}
LANE = {
    **{"lane": "*#0:2", "ready": 9, "delayed": 0, "oldest_s": 4000.0, "next_due": ""},
    "accounts": [{"account": "shop", "ready": 9, "oldest_s": 4000.0}],
}
STATUS = {
    **{"version": "1", "node": "n", "uptime_s": 7300, "store": "s", "policy": {}, "carriers": [NORTH]},
    **{"lanes": [LANE], "held": 3, "breakers_open": 1, "parked_receipts": 0, "intake": {"queued": 200}},
}


def invoke(server: CannedGateway, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*words, "--url", server.url, "--token", "t"])
    return done.exit_code, done.output


def test_status_shows_problems(server: CannedGateway) -> None:
    server.reply(200, {"status": "ready"})
    server.reply(200, STATUS)
    code, said = invoke(server, "status", "--once")
    assert code == Exit.OK
    words = ("ESME_RINVPASWD", "ESME_RTHROTTLED x 20", "40/s of 500", "paused", "67 min", "3 held", "1 breakers open")
    assert [word for word in words if word not in said] == []


def test_webhooks_show_failing_endpoints(server: CannedGateway) -> None:
    row = {
        **{"account": "shop", "url": "https://a.example/x", "own": True, "waiting": 70, "oldest_s": 31.5, "dead": 4},
        **{"dropped": 0, "tries": 9, "last_error": "HTTP 503", "failing_s": 30.0, "next_try_s": 2.5},
    }
    server.reply(200, {"receivers": [row]})
    code, said = invoke(server, "webhooks")
    assert code == Exit.OK
    words = ("shop", "https://a.example/x", "70 waiting", "31.5 s", "4 dead", "HTTP 503", "for 30 s", "next in 2.5 s")
    assert [word for word in words if word not in said] == []


def test_status_of_a_gateway_that_is_not_ready(server: CannedGateway) -> None:
    server.reply(503, {"title": "The store is away", "status": 503, "code": "store_unavailable"})
    code, said = invoke(server, "status")
    assert (code, "store_unavailable" in said) == (Exit.REFUSED, True)


def test_rates_come_from_two_samples() -> None:
    from rich.console import Console

    console = Console(width=200)
    later = STATUS | {"carriers": [NORTH | {"submitted": 320}], "intake": {"queued": 500}}
    with console.capture() as captured:
        console.print(operator_tables.status(later, operator_tables.EarlierSample(STATUS, 2.0)))
    assert ("320 (100/s)" in captured.get(), "(150/s)" in captured.get()) == (True, True)


def test_a_wrong_token(server: CannedGateway) -> None:
    server.reply(401, {"title": "The API key is missing or unknown", "status": 401, "code": "unauthorized"})
    code, said = invoke(server, "queue")
    assert (code, "SMPP_GATEWAY_TOKEN" in said) == (Exit.REFUSED, True)


def test_the_queue_shows_waiting_messages_of_every_account(server: CannedGateway) -> None:
    full = {"account": "shop", "waiting": 12, "queued": 9, "scheduled": 0, "deferred": 2, "held": 1, "max_queued": 12}
    server.reply(200, {"lanes": [LANE], "accounts": [full, full | {"account": "gone", "max_queued": None}]})
    code, said = invoke(server, "queue")
    assert code == Exit.OK
    assert [line.split() for line in said.splitlines()][-2:] == [
        ["shop", "12", "9", "1", "2", "12"],
        ["gone", "12", "9", "1", "2", "not", "configured"],
    ]


def test_actions_are_posts(server: CannedGateway) -> None:
    server.reply(200, NORTH)
    assert invoke(server, "carriers", "pause", "north", "--bind", "1")[0] == Exit.OK
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/carriers/north/binds/1/pause")


def test_an_action_not_finished_within_wait_is_exit_code_1(server: CannedGateway) -> None:
    for _ in range(3):
        server.reply(200, NORTH)
    code, said = invoke(server, "carriers", "drain", "north", "--wait", "0.3")
    assert (code, "not finished after" in said) == (Exit.REFUSED, True)


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (["breakers", "open", "--account", "shop", "--reason", "r"], {"account": "shop", "brand": "", "reason": "r"}),
        (["breakers", "close", "--everybody"], {"everybody": True}),
        (["held", "release", "--account", "shop", "--brand", "b"], {"account": "shop", "brand": "b"}),
        (["held", "release", "--id", "a", "--id", "b"], {"ids": ["a", "b"]}),
    ],
)
def test_scope_of_breakers_and_held_messages(server: CannedGateway, words: list[str], body: object) -> None:
    server.reply(200, {"released": 4, "open": []})
    code, said = invoke(server, *words, "--json")
    assert (code, json.loads(said)["released"]) == (Exit.OK, 4)
    assert server.requests[0].body == body


@pytest.mark.parametrize("words", [["breakers", "open"], ["held", "release", "--everybody", "--account", "shop"]])
def test_a_scope_is_required(server: CannedGateway, words: list[str]) -> None:
    assert invoke(server, *words)[0] == Exit.USAGE


@pytest.mark.parametrize(
    "words", ["carriers", "carriers drain", "held", "breakers open", "queue", "audit", "explain", "status", "key list"]
)
def test_help_of_every_group(words: str) -> None:
    done = CliRunner().invoke(app, [*words.split(), "--help"])
    assert (done.exit_code, "Usage:" in done.output) == (Exit.OK, True)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.25, "0.2 s"), (42, "42 s"), (150, "2 min"), (7300, "2 h"), (9e5, "10 d")]
)
def test_spans(seconds: float, said: str) -> None:
    assert operator_tables.span(seconds) == said
