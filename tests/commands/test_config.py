"""``config check``: problems with their remedies, and what a file would change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.commands.common import Exit
from tests.client.canned_gateway import CannedGateway

GOOD = f"""
[[account]]
name = "shop"
api_keys = ["sha256:{1:064}"]
[[carrier]]
name = "north"
hosts = ["127.0.0.1:2775"]
system_id = "gw"
password = "secret"
[[route]]
to = "*"
carriers = ["north"]
"""


def invoke(*words: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["config", "check", *map(str, words)])
    return done.exit_code, done.output


@pytest.fixture
def good(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.toml"
    file.write_text(GOOD)
    return file


def changed(good: Path, *pairs: tuple[str, str], more: str = "") -> Path:
    """A copy beside it with something replaced."""
    text = good.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    file = good.with_name("new.toml")
    file.write_text(text + more)
    return file


def test_a_valid_file_is_summarised(good: Path) -> None:
    code, output = invoke(good)
    assert (code, "1 account, 1 carrier, 1 route" in output) == (Exit.OK, True)
    assert json.loads(invoke(good, "--json")[1])["carriers"] == ["north"]


def test_every_problem_is_shown(good: Path) -> None:
    bad = changed(good, ('carriers = ["north"]', 'carriers = ["nowhere"]'), more='[http]\nlisten = "nonsense"\n')
    code, output = invoke(bad)
    assert code == Exit.USAGE
    assert [word for word in ("2 problems", "nowhere", "http.listen", str(bad)) if word not in output] == []
    problems = json.loads(invoke(bad, "--json")[1])["problems"]
    assert len(problems) == 2
    assert all(problem["path"] and problem["fault"] and problem["remedy"] for problem in problems)


def test_diff_shows_what_a_reload_would_change(good: Path) -> None:
    """In the words of ``reload --dry-run``; nothing here runs."""
    new = changed(good, ('password = "secret"', 'password = "other"\nrate = 9'))
    code, output = invoke(new, "--diff", good)
    assert code == Exit.OK
    line = "carrier north changed: password changed, rate 500.0 → 9.0 (its binds reconnect)"
    assert output.splitlines()[-1].strip() == line
    told = json.loads(invoke(new, "--diff", good, "--json")[1])
    assert ([change["text"] for change in told["changes"]], told["needs_restart"]) == ([line], [])
    assert invoke(good, "--diff", good)[1].endswith("no changes\n")


def test_a_change_that_needs_a_restart_is_exit_code_1(good: Path) -> None:
    new = changed(good, more='[http]\nlisten = "127.0.0.1:99"\n')
    code, output = invoke(new, "--diff", good)
    line = "needs a restart: [http] changed: listen 127.0.0.1:8080 → 127.0.0.1:99"
    assert (code, output.splitlines()[-1].strip()) == (Exit.REFUSED, line)


def test_running_compares_with_the_running_gateway(good: Path, server: CannedGateway) -> None:
    change = {"text": "carrier north changed: rate 1.0 → 2.0 (its binds stay up)"}
    answer = {"applied": False, "settling": False, "changes": [change], "needs_restart": []}
    server.reply(200, answer | {"file": str(good.resolve())})
    code, output = invoke(good, "--running", "--url", server.url, "--token", "t")
    assert (code, output.splitlines()[-1].strip()) == (Exit.OK, change["text"])
    assert [(request.method, request.path) for request in server.requests] == [("POST", "/reload?dry_run=true")]
    server.reply(200, answer | {"file": "/etc/another.toml"})
    code, output = invoke(good, "--running", "--url", server.url, "--token", "t")
    assert (code, "--diff /etc/another.toml" in output) == (Exit.REFUSED, True)


def test_diff_and_running_exclude_each_other(good: Path) -> None:
    code, output = invoke(good, "--diff", good, "--running")
    assert (code, "exclude each other" in output) == (Exit.USAGE, True)
