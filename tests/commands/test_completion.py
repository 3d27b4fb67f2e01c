"""Shell completion, run in the shells that are installed."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from gateway import discovery
from gateway.cli import app
from gateway.commands import completion

CONFIG = """
[[account]]
name = "shop"
[[account]]
name = "airline"
[[carrier]]
name = "north"
[[carrier]]
name = "south"
"""
PROGRAM = Path(sys.executable).with_name("smpp-gateway")
BASH = shutil.which("bash")

ASK_BASH = """
eval "$(_SMPP_GATEWAY_COMPLETE=source_bash smpp-gateway)"
while IFS= read -r line; do
    COMP_WORDS=($line); [[ $line == *' ' ]] && COMP_WORDS+=('')
    COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); COMPREPLY=()
    _smpp_gateway_completion smpp-gateway
    (IFS=' '; echo "${COMPREPLY[*]}")
done
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A shell's: ours is the smpp-gateway on the PATH, one configuration is named, nothing else is known."""
    (tmp_path / "gateway.toml").write_text(CONFIG)
    path = f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"
    given = {"PATH": path, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "TERM": "dumb", "PS1": "> "}
    if "PYTHONPATH" in os.environ:
        given["PYTHONPATH"] = os.environ["PYTHONPATH"]
    return given | {"SMPP_GATEWAY_CONFIG": str(tmp_path / "gateway.toml")}


def completed(shell: str, line: str, environment: dict[str, str]) -> list[str]:
    """What the program offers a shell for a line that ends where Tab was pressed."""
    words = line.split(" ")
    asked = {
        "_SMPP_GATEWAY_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "\n".join(words),
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run([PROGRAM], env=environment | asked, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(BASH is None, reason="bash is not on this machine")
def test_bash_completes_commands_options_and_names(environment: dict[str, str]) -> None:
    lines = {
        "smpp-gateway ca": ["carriers"],
        "smpp-gateway serve --con": ["--config"],
        "smpp-gateway carriers pause ": ["north", "south"],
        "smpp-gateway breakers open --account ": ["airline", "shop"],
        "smpp-gateway serve --config ": [],  # for bash: file names
    }
    done = subprocess.run(
        [str(BASH), "--norc", "-c", ASK_BASH],
        input="".join(f"{line}\n" for line in lines),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert dict(zip(lines, map(str.split, done.stdout.splitlines()), strict=True)) == lines


@pytest.mark.skipif(BASH is None, reason="bash is not on this machine")
def test_a_tab_in_an_interactive_bash_completes_a_file(environment: dict[str, str], tmp_path: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execve(str(BASH), ["bash", "--norc", "--noprofile", "-i"], environment)
    try:
        os.write(terminal, b'eval "$(_SMPP_GATEWAY_COMPLETE=source_bash smpp-gateway)"; echo re""ady\n')
        assert "ready" in typed(terminal, "ready")
        os.write(terminal, b"smpp-gateway serve --config gat\t")
        assert "gateway.toml " in typed(terminal, "gateway.toml ")
    finally:
        os.close(terminal)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def typed(terminal: int, wanted: str) -> str:
    """What the terminal shows until this is there, five seconds at most."""
    shown, deadline = "", time.monotonic() + 5
    while wanted not in shown and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 65536).decode()
    return shown


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not on this machine")
def test_fish_completes(environment: dict[str, str]) -> None:
    script = "_SMPP_GATEWAY_COMPLETE=source_fish smpp-gateway | source; complete -C 'smpp-gateway carriers pause '"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["north", "south"]


def test_zsh_gets_the_format_of_its_completion(environment: dict[str, str]) -> None:
    offered = completed("zsh", "smpp-gateway webhooks test s", environment)
    assert " ".join(offered) == """_arguments '*: :(("shop"))'"""
    assert completed("zsh", "smpp-gateway serve --config ", environment) == ["_files"]
    if zsh := shutil.which("zsh"):
        source = {"_SMPP_GATEWAY_COMPLETE": "source_zsh"}
        script = subprocess.run([PROGRAM], env=environment | source, capture_output=True, text=True, check=True).stdout
        assert subprocess.run([zsh, "-f", "-n"], input=script, text=True, check=False).returncode == 0


def test_install_completion_puts_it_where_bash_reads_it(environment: dict[str, str], tmp_path: Path) -> None:
    told = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # the shell is named, not looked for
    done = subprocess.run(
        [PROGRAM, "--install-completion", "bash"], env=environment | told, capture_output=True, text=True, check=True
    )
    (script,) = (tmp_path / ".bash_completions").iterdir()
    assert str(script) in (tmp_path / ".bashrc").read_text()
    assert "complete -o default -F _smpp_gateway_completion smpp-gateway" in script.read_text()
    assert "bash completion installed" in done.stdout


def offered(**said: str) -> list[str]:
    """Carriers, for a line that says this so far."""
    context = typer.Context(typer.main.get_command(app))
    context.params.update(said)
    return completion.carriers(context, "")


@pytest.mark.parametrize("text", [None, "carrier = 3 [", "carrier = 3", "carrier = [3]", '[[carrier]]\nnane = "north"'])
def test_an_invalid_configuration_completes_nothing(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "gateway.toml"
    if text is not None:
        file.write_text(text)
    assert offered(config=str(file)) == []


def test_names_come_from_the_given_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That on the command line, else that of the environment, else that of the gateway which runs here."""
    for name in ("said", "set", "running"):
        (tmp_path / name).write_text(f'[[carrier]]\nname = "{name}"\n')
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("SMPP_GATEWAY_CONFIG", raising=False)
    assert offered() == []
    note = discovery.announce("http://127.0.0.1:1", None, str(tmp_path / "running"))
    assert offered() == ["running"]
    monkeypatch.setenv("SMPP_GATEWAY_CONFIG", str(tmp_path / "set"))
    assert offered() == ["set"]
    assert offered(config=str(tmp_path / "said")) == ["said"]
    discovery.withdraw(note)


def test_completing_loads_nothing_heavy(environment: dict[str, str]) -> None:
    """A Tab costs what typer costs, about a fifth of a second of CPU."""
    asked = {"_SMPP_GATEWAY_COMPLETE": "complete_bash", "COMP_WORDS": "smpp-gateway carriers pause ", "COMP_CWORD": "3"}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", PROGRAM],
        env=environment | asked,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "tomllib" in loaded
    assert not loaded & {"asyncio", "redis", "msgspec", "starlette", "rich", "http.client", "gateway.config"}
