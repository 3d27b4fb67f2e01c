"""A new user's way through the README, word for word: every block of it is run in order, in an empty folder."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.children import free_ports
from tests.readme import blocks

USUAL_PORTS = (2775, 8080, 8081, 9000)
PATIENCE = 60.0


class Shell:
    """One shell that takes the blocks one after the other, as a person would paste them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = dict(zip(USUAL_PORTS, free_ports(len(USUAL_PORTS)), strict=True))
        self.words: dict[str, str] = {}  # what a person copies from what was printed
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "NO_COLOR": "1", "COLUMNS": "120", "TERM": "dumb"}
        self.environment["SMPP_GATEWAY_URL"] = f"http://127.0.0.1:{self.ports[8080]}"
        self.environment["XDG_RUNTIME_DIR"] = str(folder)
        self.script = ""
        self._groups: list[int] = []

    def fill(self, text: str) -> str:
        """A block with free ports and with what was copied."""
        for usual, free in self.ports.items():
            text = re.sub(rf"\b{usual}\b", str(free), text)
        for placeholder, word in self.words.items():
            text = text.replace(placeholder, word)
        return text

    def paste(self, text: str) -> str:
        """Run a block in a shell of its own; its programs in the background go on. What it printed."""
        out = self.folder / f"out-{len(self._groups)}.txt"
        exports = "".join(f"{line}\n" for line in self.script.splitlines() if line.startswith("export "))
        self.script += self.fill(text)
        with out.open("w") as file:
            shell = subprocess.Popen(
                ["bash", "-eu", "-c", exports + self.fill(text)],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._groups.append(shell.pid)
        assert shell.wait(timeout=PATIENCE) == 0, out.read_text()
        return out.read_text()

    def close(self) -> None:
        for group in reversed(self._groups):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGTERM)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()


@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("curl")), reason="needs bash and curl")
def test_the_first_five_minutes_of_the_readme(shell: Shell) -> None:
    carrier_and_key, configuration, receiver, start_and_send, refused = blocks("The first five minutes")
    printed = shell.paste(carrier_and_key.text)
    shell.words["sha256:…"] = re.findall(r"sha256:[0-9a-f]{64}", printed)[0]
    shell.words["sgw_shop_…"] = re.findall(r"sgw_shop_[\w-]+", printed)[0]
    extra = '[smpp]\nlisten = ""\n'  # the one address that the example does not name
    (shell.folder / configuration.name).write_text(extra + shell.fill(configuration.text))
    (shell.folder / receiver.name).write_text(shell.fill(receiver.text))

    said = shell.paste(start_and_send.text)
    assert "gateway.toml is valid: 1 account, 1 carrier, 1 route" in said
    assert re.search(r"status +delivered", said)
    events = wait_for_line(shell.folder / "events.log")
    message = re.findall(r"^id +(\S+)", said, re.MULTILINE)[0]
    assert events == f"message.delivered +46701740605 {message}\n"

    said = shell.paste(refused.text)
    answer = json.loads((shell.folder / "refused.json").read_text())
    assert answer["code"] == "consent_missing"
    assert "consent_missing" in said
    assert re.search(r"status +(queued|deferred)", said)
    assert "Traceback" not in (shell.folder / "gateway.log").read_text()


def wait_for_line(file: Path) -> str:
    """What stands in a file that somebody writes to, once anything does."""
    done = subprocess.run(
        ["bash", "-c", f"until [ -s '{file}' ]; do sleep 0.05; done"], timeout=PATIENCE, check=True, capture_output=True
    )
    assert done.returncode == 0
    return file.read_text()
