"""docs/architecture.md names what exists: every path, class, function and table in it is compared with the code."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from gateway.model import MOVES, State
from tests.test_floors import FLOORS

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "architecture.md").read_text()
OUTSIDE = ("bench/", "config/gateway.toml", "config/grafana", "config/prometheus", "docs/", "tests/")
SCRIPTS = ROOT / "gateway" / "store" / "scripts"

PROSE = re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
SPANS = sorted(set(re.findall(r"`([^`\n]+)`", PROSE)))
PATHS = [span for span in SPANS if re.fullmatch(r"[\w./-]+/([\w.-]*)?|[\w./-]+\.(py|lua|md|toml)(:[\w.]+)?", span)]
PATHS += [span for span in SPANS if re.fullmatch(r"(tests|config|gateway)/[\w/]+", span)]
CLASSES = [span for span in SPANS if re.fullmatch(r"[A-Z][a-z]+\w*(\.\w+)?", span)]


def resolve(path: str) -> Path:
    return ROOT / path if path.startswith(OUTSIDE) else ROOT / "gateway" / path


@cache
def names(file: Path) -> frozenset[str]:
    """Every name that a module defines at its top."""
    if file.suffix == ".lua":
        text = file.read_text()
        functions = re.findall(r"^(?:local )?function (\w+)", text, re.MULTILINE)
        return frozenset(functions + re.findall(r"^local (\w+) = ", text, re.MULTILINE))
    return frozenset(name for node in ast.parse(file.read_text()).body for name in _named(node))


def _named(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


@cache
def class_members() -> frozenset[str]:
    """Classes of the whole package with what they define; what a class inherits counts as its own."""
    bases: dict[str, set[str]] = {}
    members: dict[str, set[str]] = {}
    for file in (ROOT / "gateway").rglob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef):
                bases[node.name] = {base.id for base in node.bases if isinstance(base, ast.Name)}
                members[node.name] = {name for inner in node.body for name in _named(inner)}

    def all_members(name: str) -> set[str]:
        inherited = (all_members(base) for base in bases.get(name, ()))
        return members.get(name, set()).union(*inherited)

    return frozenset(members) | {f"{name}.{member}" for name in members for member in all_members(name)}


def rows(title: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    section = re.split(rf"^#+ {re.escape(title)}$", TEXT, flags=re.MULTILINE)[1]
    lines = [line for line in re.split(r"^#", section, flags=re.MULTILINE)[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("span", PATHS)
def test_every_path_exists_and_defines_the_name_behind_it(span: str) -> None:
    path, _, name = span.partition(":")
    file = resolve(path)
    assert file.exists()
    owner, _, member = name.partition(".")
    assert not owner or owner in names(file)
    assert not member or name in class_members()


@pytest.mark.parametrize("span", CLASSES)
def test_every_class_and_method_exists(span: str) -> None:
    assert span in class_members()


def test_the_document_names_enough_to_be_worth_checking() -> None:
    assert len(PATHS) > 80
    assert len(CLASSES) > 15


def test_every_store_function_is_listed_once() -> None:
    listed = [name for row in rows("Functions") for name in spans(row[0])]
    assert sorted(listed) == sorted(path.stem for path in SCRIPTS.glob("*.lua"))


def test_every_shared_part_of_the_functions_is_listed() -> None:
    paragraph = next(line for line in TEXT.splitlines() if line.startswith("Parts that several functions need"))
    assert sorted(spans(paragraph)[1:]) == sorted(path.stem for path in (SCRIPTS / "shared").glob("*.lua"))


def test_the_state_table_is_the_one_of_the_model() -> None:
    table = {State[spans(row[0])[0]]: {State[name] for name in spans(row[2])} for row in rows("States")}
    assert table == {state: set(moves) for state, moves in MOVES.items()}


def test_the_floors_are_those_that_imports_are_checked_against() -> None:
    table = {module: int(row[0]) for row in rows("What may import what") for module in spans(row[1])}
    assert table == FLOORS


def test_what_moves_a_message_out_of_a_state_is_a_store_function() -> None:
    functions = {path.stem for path in SCRIPTS.glob("*.lua")}
    settings = {"unknown_hold", "receipt_timeout", "DEFERRED"}
    assert {name for row in rows("States") for name in spans(row[3])} - settings <= functions
