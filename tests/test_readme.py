"""Runs the README's examples for programs unchanged against a real gateway."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from typer.core import TyperGroup
from typer.main import get_command

from gateway import signature
from gateway.cli import app
from gateway.config import load_text
from gateway.demo import AROUND_THE_WORLD
from tests.readme import README, Block, blocks
from tests.running_gateway import KEY, RunningGateway, running_gateway
from tests.short_messages import new_secret

SECTION = "From a program"
CURL, PYTHON, NODE, NODE_RECEIVER, SHELL = blocks(SECTION)
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not on this machine")


def run(gateway: RunningGateway, *command: str, folder: Path) -> str:
    """Run a program, which must exit with 0; return its output."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SMPP_GATEWAY_URL": gateway.http.url, "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def filled(gateway: RunningGateway, block: Block) -> str:
    """Return an example with the address and the key of this gateway."""
    text = block.text.replace("http://127.0.0.1:8080", gateway.http.url)
    return re.sub(r"(Bearer |KEY=|\", \")demo\b", rf"\g<1>{KEY}", text)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path_factory.mktemp("readme"), ["north"]) as built:
        yield built


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")
async def test_curl(gateway: RunningGateway, tmp_path: Path) -> None:
    said = [await asyncio.to_thread(run, gateway, "bash", "-euc", filled(gateway, CURL), folder=tmp_path) for _ in "12"]
    assert json.loads(said[0])["status"] == "queued"
    assert json.loads(said[0])["id"] == json.loads(said[1])["id"]


async def test_python(gateway: RunningGateway, tmp_path: Path) -> None:
    said = await asyncio.to_thread(run, gateway, sys.executable, "-c", filled(gateway, PYTHON), folder=tmp_path)
    waited, refused, batch = said.splitlines()
    assert waited.startswith("delivered ['queued', 'sending'") or waited.startswith("delivered ['queued'")
    assert refused.startswith("consent_missing ")
    assert batch == "4 []"


async def test_the_recipient_of_the_refused_example_never_has_consent_in_the_demo() -> None:
    """The demo grants consent to the people for whom it is day."""
    to = re.search(r'Message\("(\+\d+)", "Autumn sale"', PYTHON.text)
    assert to is not None
    assert to[1] not in {person.number for person in AROUND_THE_WORLD}


async def test_the_command_line_example_removes_its_opt_out() -> None:
    assert SHELL.text.count("optout add") == SHELL.text.count("optout remove")


@needs_node
async def test_node(gateway: RunningGateway, tmp_path: Path) -> None:
    command = ("node", "--input-type=module", "-e", filled(gateway, NODE))
    said = await asyncio.to_thread(run, gateway, *command, folder=tmp_path)
    assert said.split()[1] == "queued"


@needs_node
async def test_node_webhook_verification(gateway: RunningGateway, tmp_path: Path) -> None:
    secret, body = new_secret(), '[{"text": "å"}]'
    headers = signature.signed_headers(
        [signature.read_secret(secret), signature.read_secret(new_secret())],
        "msg_1",
        int(time.time()),
        body.encode(),
    )
    old = headers | {"webhook-timestamp": "1614265330"}
    calls = [(headers, body), (headers, body + " "), (old, body)]
    asked = "".join(f"console.log(genuine(...{json.dumps([*call, secret])}));" for call in calls)
    said = await asyncio.to_thread(
        run, gateway, "node", "--input-type=module", "-e", NODE_RECEIVER.text + asked, folder=tmp_path
    )
    assert said.split() == ["true", "false", "false"]


async def test_every_command_and_every_linked_file_exists() -> None:
    text = README.read_text()
    said = set(re.findall(r"(?:^|; |/|`)smpp-gateway ([a-z]+)", text, re.MULTILINE))
    known = get_command(app)
    assert isinstance(known, TyperGroup)
    assert len(said) > 10
    assert sorted(said - set(known.commands)) == []
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert [link for link in links if not (README.parent / link).exists()] == []


async def test_every_route_of_the_operators_listener_is_documented() -> None:
    said = (README.parent / "docs" / "operators.md").read_text()
    modules = sorted((README.parent / "gateway" / "admin").glob("*.py"))
    found = {path for module in modules for path in re.findall(r'Route\("(/[a-z/]+)"', module.read_text())} - {
        "/configuration"
    }  # of workers, for their supervisor alone
    assert len(found) > 12
    assert [path for path in sorted(found) if f" {path}`" not in said and f" {path}?" not in said] == []


async def test_the_configuration_examples_are_valid_once_they_have_a_key() -> None:
    examples = re.findall(r"^```toml\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        loaded = load_text(example.replace("sha256:…", f"sha256:{'0' * 64}"), env={"NORTH_PASSWORD": "secret"})
        assert len(loaded.config.routes) == 1


async def test_command_line(gateway: RunningGateway, tmp_path: Path) -> None:
    said = await asyncio.to_thread(run, gateway, "bash", "-euc", filled(gateway, SHELL), folder=tmp_path)
    assert "2 messages in 2 segments; nothing was sent" in said
    assert "First message, to +46701740611: Hello Åsa, your parcel is here" in said
    assert "2 accepted (2 queued)" in said
    assert "granted" in said
    assert '"asked by phone"' in said


async def test_commands_appear_only_after_the_environment_is_activated() -> None:
    """And one API key is used throughout the demo."""
    text = README.read_text()
    activated = text.index("\n. .venv/bin/activate\n")
    typed = [found.start() for found in re.finditer(r"^(?:smpp-gateway|python) ", text, re.MULTILINE)]
    assert min(typed) > activated
    own = text.index("## The first five minutes")
    assert activated < text.index("## The first message") < text.index(f"## {SECTION}") < own
    keys = re.findall(r"(?:Bearer |--key |KEY=|:8080\", \")([\w…]+)", text[:own])
    assert set(keys) == {"demo"}
    assert "End the demo first (Ctrl-C)" in text[own:]
