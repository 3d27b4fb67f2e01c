"""Errors on the command line: a line that says what, where and how to fix it, never a traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway import discovery
from gateway.cli import app
from gateway.commands.common import Exit
from tests.client.canned_gateway import CannedGateway

CONFIG = """
[http]
listen = "{listen}"
[admin]
listen = "127.0.0.1:0"
[store]
url = "{store}"
data_dir = "{data}"
"""


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def invoke(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, words)
    return done.exit_code, done.output


def start(folder: Path, **what: str) -> subprocess.Popen[str]:
    """``serve`` as a process of its own."""
    folder.mkdir()
    values = {"listen": "127.0.0.1:0", "store": "embedded", "data": str(folder / "data")}
    (folder / "gateway.toml").write_text(CONFIG.format(**values | what))
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(folder / "gateway.toml")]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_a_gateway_that_cannot_start_says_why(tmp_path: Path, taken: int) -> None:
    away = "the store at 127.0.0.1:1 is away: is it running?"
    in_use = (
        f"cannot listen on 127.0.0.1:{taken}: Address already in use; "
        "stop the process that listens there, or choose another"
    )
    started = {
        in_use: start(tmp_path / "listen", listen=f"127.0.0.1:{taken}"),
        away: start(tmp_path / "store", store="redis://127.0.0.1:1"),
        "fix that, or set another [store] data_dir": start(tmp_path / "data", data="/proc/data"),
    }
    for words, process in started.items():
        _, said = process.communicate(timeout=30)
        assert "Traceback" not in said
        last = said.splitlines()[-1]
        assert (process.returncode, last.startswith("cannot start: "), words in last) == (4, True, True), last


def test_a_simulated_carrier_on_a_port_in_use(taken: int) -> None:
    code, said = invoke("simulate", "--port", str(taken))
    words = f"cannot start: cannot listen on 127.0.0.1:{taken}: Address already in use\n"
    assert (code, said) == (Exit.CANNOT_START, words)
    assert invoke("simulate", "latency=3")[1] == "unknown fault 'latency'; did you mean 'latency_ms'?\n"


@pytest.mark.parametrize("command", [("status",), ("send", "--to", "+46701740605", "--text", "Hi"), ("queue",)])
def test_another_program_at_the_address_is_no_gateway(server: CannedGateway, command: tuple[str, ...]) -> None:
    server.reply(404, "<html>nothing here</html>")
    code, said = invoke(*command, "--url", server.url)
    assert (code, "gateway" in said, "<" in said.partition("is not a gateway's")[0]) == (3, True, False)


def test_a_missing_key(server: CannedGateway) -> None:
    server.reply(401, {"title": "The API key is missing or unknown", "status": 401, "code": "unauthorized"})
    code, said = invoke("send", "--to", "+46701740605", "--text", "Hi", "--url", server.url)
    assert (code, "--key or SMPP_GATEWAY_KEY" in said) == (Exit.REFUSED, True)


def test_the_http_listener_is_not_the_admin_listener(server: CannedGateway) -> None:
    problem = {"title": "Not found", "detail": "Not found", "status": 404}
    server.reply(404, problem | {"code": "not_found"})
    code, said = invoke("queue", "--url", server.url)
    assert (code, "is --url the admin listener ([admin] listen)?" in said) == (Exit.REFUSED, True)
    server.reply(404, problem | {"code": "not_found", "detail": "no resource at /queue: mind the spelling"})
    code, said = invoke("queue", "--url", server.url)
    assert (code, "is --url the admin listener ([admin] listen)?" in said) == (Exit.REFUSED, True)


def test_a_detail_is_printed_once(server: CannedGateway) -> None:
    fault = "has 4 digits, too few"
    errors = [{"field": "to", "code": "invalid_number", "detail": fault}]
    problem = {"title": "No number", "status": 400, "code": "invalid_number", "detail": f"to: {fault}"}
    server.reply(400, problem | {"errors": errors})
    assert invoke("send", "--to", "+4670", "--text", "Hi", "--url", server.url)[1].count(fault) == 1


def test_several_gateways_require_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    notes = [discovery.announce(f"http://127.0.0.1:{port}", None) for port in (1, 2)]
    code, said = invoke("queue")
    assert (code, "--url http://127.0.0.1:1 or --url http://127.0.0.1:2" in said) == (Exit.USAGE, True)
    for note in notes:
        discovery.withdraw(note)


def test_an_invalid_account_name() -> None:
    code, said = invoke("key", "new", "a shop")
    assert (code, "invalid account name 'a shop'" in said) == (Exit.USAGE, True)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_an_unreadable_file(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.touch(0o000)
    code, said = invoke("config", "check", str(file))
    assert (code, "not readable" in said or "Permission denied" in said) == (Exit.USAGE, True)
