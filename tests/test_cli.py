from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.core
import typer.main
from typer.testing import CliRunner

from gateway.cli import Exit, app
from gateway.simulator import Faults, read_faults
from tests.client.canned_gateway import CannedGateway, opened

runner = CliRunner()


@pytest.fixture
def server() -> Iterator[CannedGateway]:
    with opened() as server:
        yield server


def invoke(*arguments: str, text: str | None = None) -> tuple[int, str]:
    done = runner.invoke(app, arguments, input=text)
    return done.exit_code, done.output


@pytest.mark.parametrize(
    "command",
    ["", "demo", "serve", "simulate", "send", "status", "config", "config check", "key new", "consent", "optout add"],
)
def test_help_says_what_each_command_is_for(command: str) -> None:
    code, output = invoke(*command.split(), "--help")
    assert code == Exit.OK
    assert "Usage:" in output


def commands(group: typer.core.TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command that does something."""
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            yield from commands(command, (*path, name))
        else:
            yield *path, name


def test_every_command_has_an_example_that_can_be_typed() -> None:
    group = typer.main.get_group(app)
    for words in commands(group):
        command: Any = group
        for word in words:
            command = command.commands[word]
        text = command.help.partition("Example")[2]
        assert f"smpp-gateway {' '.join(words)}" in text, words


def test_every_command_lists_its_exit_codes() -> None:
    group = typer.main.get_group(app)
    for words in commands(group):
        command: Any = group
        for word in words:
            command = command.commands[word]
        assert "Exit codes: 0 " in command.help + (command.epilog or ""), words


def test_the_faults_are_listed_as_they_are_given() -> None:
    code, output = invoke("simulate", "--list")
    given = [found[0].rstrip() for found in re.finditer(r"^[a-z_]+=(\{.*?\}|\S*)", output, re.MULTILINE)]
    assert code == Exit.OK and len(given) == len(Faults.__struct_fields__)
    assert read_faults(option for option in given if not option.endswith("=")) == Faults()
    assert re.search(r"^latency_ms=0 +delay of every response$", output, re.MULTILINE)
    assert "(close | reset)" in output


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys, gateway.cli; print([n for n in ('redis', 'uvloop', 'starlette', 'msgspec') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version() -> None:
    code, output = invoke("--version")
    assert (code, bool(re.fullmatch(r"smpp-gateway \d+\.\d+\.\d+\n", output))) == (Exit.OK, True)


def test_send_posts_the_message(server: CannedGateway) -> None:
    server.reply(202, {"id": "1", "status": "queued", "segments": 1})
    code, output = invoke(
        "send",
        "--url",
        server.url,
        "--key",
        "k",
        "--to",
        "+46701740605",
        "--text",
        "Hi",
        "--category",
        "otp",
        "--from",
        "Shop",
    )
    assert code == Exit.OK
    (request,) = server.requests
    assert (request.method, request.path, request.headers["authorization"]) == ("POST", "/v1/messages", "Bearer k")
    assert request.body == {"to": "+46701740605", "text": "Hi", "category": "otp", "from": "Shop"}
    assert "queued" in output


def test_send_reads_the_text_from_standard_input(server: CannedGateway) -> None:
    server.reply(202, {"id": "1", "status": "queued"})
    assert invoke("send", "--url", server.url, "--to", "+46701740605", "--text", "-", text="two\nlines\n")[0] == Exit.OK
    assert server.requests[0].body["text"] == "two\nlines"


def test_send_shows_a_refusal_and_fails(server: CannedGateway) -> None:
    problem = {
        "title": "Refused by policy",
        "status": 422,
        "code": "consent_missing",
        "detail": "No consent.",
        "errors": [{"field": "category", "detail": "needs consent"}],
    }
    server.reply(422, problem)
    code, output = invoke("send", "--url", server.url, "--to", "+46701740605", "--text", "Hi")
    assert code == Exit.REFUSED
    assert all(word in output for word in ("Refused by policy", "consent_missing", "No consent.", "needs consent"))


@pytest.mark.parametrize(("final", "code"), [("delivered", Exit.OK), ("undelivered", Exit.REFUSED)])
def test_send_waits_for_the_final_state(server: CannedGateway, final: str, code: Exit) -> None:
    moves = [{"status": "queued", "time": "2026-11-21T12:00:00.000Z"}]
    record = {"id": "abc", "to": "+46701740605", "timeline": moves}
    server.reply(202, {"id": "abc", "status": "queued"})
    server.reply(200, record | {"status": "sent", "final": False})
    server.reply(200, record | {"status": final, "final": True})
    server.reply(200, record | {"status": final, "final": True})  # as received, for --json
    assert invoke("send", "--url", server.url, "--to", "+46701740605", "--text", "Hi", "--wait", "5")[0] == code
    assert [request.path for request in server.requests] == ["/v1/messages", *["/v1/messages/abc"] * 3]


def test_json_is_the_response_as_received(server: CannedGateway) -> None:
    server.reply(202, {"id": "1", "status": "queued"})
    _, output = invoke("send", "--url", server.url, "--to", "+46701740605", "--text", "Hi", "--json")
    assert json.loads(output) == {"id": "1", "status": "queued"}


@pytest.mark.parametrize("command", [("send", "--to", "+46701740605", "--text", "Hi"), ("status",), ("status", "abc")])
def test_no_gateway_is_exit_code_3(command: tuple[str, ...]) -> None:
    code, output = invoke(*command, "--url", "http://127.0.0.1:1")
    assert code == Exit.UNREACHABLE
    assert "no gateway answers at http://127.0.0.1:1: Connection refused" in output


def test_an_invalid_url_is_a_usage_error() -> None:
    assert invoke("status", "--url", "nonsense")[0] == Exit.USAGE
    assert invoke("status", "--url", "http://127.0.0.1:port")[0] == Exit.USAGE


def test_key_new_prints_a_key_and_the_hash_of_it() -> None:
    code, output = invoke("key", "new", "shop", "--json")
    made = json.loads(output)
    assert code == Exit.OK
    assert made["key"].startswith("sgw_shop_")
    assert made["api_keys"] == "sha256:" + hashlib.sha256(made["key"].encode()).hexdigest()
    assert "api_keys = [" in invoke("key", "new", "shop")[1]


def test_serve_without_a_file_is_a_usage_error(tmp_path: Path) -> None:
    assert invoke("serve")[0] == Exit.USAGE
    assert invoke("serve", "--config", str(tmp_path / "none.toml"))[0] == Exit.USAGE


def test_the_module_runs_as_a_program() -> None:
    environment = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "--help"], capture_output=True, text=True, check=True, env=environment
    )
    assert "smpp-gateway demo" in done.stdout


@pytest.mark.parametrize("words", [["explain"], ["status"], ["send", "--to", "+46701740605", "--text"]])
def test_an_argument_that_is_not_utf8_is_refused(words: list[str]) -> None:
    command = [sys.executable.encode(), b"-m", b"gateway", *(word.encode() for word in words), b"caf\xe9"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"argument {len(words) + 1} is not valid UTF-8: caf\\udce9\n"
