"""A linter for the functions in ``gateway/store/scripts``: ``python -m tests.store.lua_lint``, part of ``make check``.

The files are ordinary Lua 5.1, parsed by tree-sitter. What an ordinary linter cannot know is where names come from: a
shared part sees the top-level locals of the parts before it, a function those of all parts. Reported are syntax errors,
names that nobody declares, globals that are set, and locals that are never read (a leading ``_`` says: on purpose).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import tree_sitter_lua
from tree_sitter import Language, Node, Parser

from gateway.store.library import CALLBACKS, VOCABULARY, script_sources

LUA = Language(tree_sitter_lua.language())

GLOBALS = {
    *("redis", "struct", "string", "table", "math", "unpack"),
    *("error", "ipairs", "pairs", "tonumber", "tostring"),
    *("Format", *VOCABULARY),
}
"""What the server and the library (``gateway.store.library``) give to every script."""


@dataclass
class Local:
    """A declared name and whether it is read anywhere."""

    name: str
    where: str
    read: bool = False


@dataclass
class Scope:
    """The names of one block; ``outer`` is the block around it."""

    outer: Scope | None = None
    names: dict[str, Local] = field(default_factory=dict)
    declared: list[Local] = field(default_factory=list)

    def find(self, name: str) -> Local | None:
        return self.names.get(name) or (self.outer.find(name) if self.outer else None)


def lint(shared: Mapping[str, str], functions: Mapping[str, str]) -> list[str]:
    """Return the findings, ``file:line: text`` each. Both map names to sources, in the order in which they load."""
    ground, findings = Scope(), list[str]()
    for name, source in shared.items():
        _File(f"shared/{name}.lua", findings).chunk(source, ground)
    for name, source in functions.items():
        scope = Scope(ground)
        _File(f"{name}.lua", findings).chunk(source, scope)
        if (callback := scope.find(CALLBACKS.get(name, name))) is None:
            findings.append(f"{name}.lua:1: the function {CALLBACKS.get(name, name)} is missing")
        else:
            callback.read = True  # by its registration
        findings += _unread(scope)
    return findings + list(_unread(ground))


def _unread(scope: Scope) -> Iterator[str]:
    for local in scope.declared:
        if not local.read and not local.name.startswith("_"):
            yield f"{local.where}: {local.name} is never read"


class _File:
    """Walks one file."""

    def __init__(self, name: str, findings: list[str]) -> None:
        self.name = name
        self.findings = findings

    def chunk(self, source: str, scope: Scope) -> None:
        root = Parser(LUA).parse(source.encode()).root_node
        if root.has_error:
            self.findings.append(f"{self._first_error(root)}: syntax error")
            return
        self._children(root, scope)

    def _first_error(self, node: Node) -> str:
        while not (node.is_error or node.is_missing):
            node = next(child for child in node.children if child.has_error or child.is_missing)
        return self._where(node)

    def _where(self, node: Node) -> str:
        return f"{self.name}:{node.start_point.row + 1}"

    def _children(self, node: Node, scope: Scope) -> None:
        for child in node.named_children:
            self._visit(child, scope)

    def _block(self, node: Node, scope: Scope) -> None:
        inner = Scope(scope)
        self._children(node, inner)
        self.findings += _unread(inner)

    def _visit(self, node: Node, scope: Scope) -> None:
        match node.type:
            case "identifier":
                self._read(node, scope)
            case "variable_declaration":
                self._declaration(node, scope)
            case "assignment_statement":
                self._assignment(node, scope)
            case "function_declaration":
                self._function_declaration(node, scope)
            case "function_definition":
                self._function(node, scope)
            case "for_statement":
                self._for(node, scope)
            case "repeat_statement":  # its condition sees the locals of its block
                self._block(node, scope)
            case "block" | "do_statement":
                self._block(node, scope)
            case "dot_index_expression" | "method_index_expression":
                self._visit(_child(node, "table"), scope)
            case "field":
                if (value := node.child_by_field_name("value")) is not None:
                    self._visit(value, scope)
                if node.child(0).type == "[":  # type: ignore[union-attr]  # a field has children
                    self._visit(_child(node, "name"), scope)
            case _:
                self._children(node, scope)

    def _read(self, node: Node, scope: Scope) -> None:
        if (local := scope.find(_text(node))) is not None:
            local.read = True
        elif _text(node) not in GLOBALS:
            self.findings.append(f"{self._where(node)}: {_text(node)} is not declared")

    def _declare(self, node: Node, scope: Scope) -> None:
        local = Local(_text(node), self._where(node))
        scope.names[local.name] = local
        scope.declared.append(local)

    def _declaration(self, node: Node, scope: Scope) -> None:
        (inner,) = node.named_children
        targets = inner
        if inner.type == "assignment_statement":
            targets, values = inner.named_children
            self._visit(values, scope)  # before its names are known
        for name in targets.named_children:
            self._declare(name, scope)

    def _assignment(self, node: Node, scope: Scope) -> None:
        targets, values = node.named_children
        self._visit(values, scope)
        for target in targets.named_children:
            if target.type == "identifier":
                self._assigned(target, scope)
            else:
                self._visit(target, scope)

    def _assigned(self, node: Node, scope: Scope) -> None:
        if scope.find(_text(node)) is None:
            self.findings.append(f"{self._where(node)}: {_text(node)} is a global")

    def _function_declaration(self, node: Node, scope: Scope) -> None:
        name = _child(node, "name")
        if node.child(0).type == "local":  # type: ignore[union-attr]  # it has children
            self._declare(name, scope)
        elif name.type == "identifier":
            self._assigned(name, scope)
        else:
            self._visit(name, scope)
        self._function(node, scope)

    def _function(self, node: Node, scope: Scope) -> None:
        inner = Scope(scope)
        for parameter in _child(node, "parameters").named_children:
            if parameter.type == "identifier":
                self._declare(parameter, inner)
        if (body := node.child_by_field_name("body")) is not None:
            self._children(body, inner)
        self.findings += _unread(inner)

    def _for(self, node: Node, scope: Scope) -> None:
        clause, inner = _child(node, "clause"), Scope(scope)
        if clause.type == "for_numeric_clause":
            first, *values = clause.named_children
            names = [first]
        else:
            targets, *values = clause.named_children
            names = targets.named_children
        for value in values:
            self._visit(value, scope)
        for name in names:
            self._declare(name, inner)
        if (body := node.child_by_field_name("body")) is not None:
            self._children(body, inner)
        self.findings += _unread(inner)


def _child(node: Node, name: str) -> Node:
    found = node.child_by_field_name(name)
    assert found is not None, f"{node.type} has no {name}"
    return found


def _text(node: Node) -> str:
    return (node.text or b"").decode()


if __name__ == "__main__":
    found = lint(*script_sources())
    print("\n".join(found), end="\n" * bool(found))
    sys.exit(bool(found))
