"""Every function passes the linter and describes itself; the linter finds what it is for."""

from __future__ import annotations

import pytest

from gateway.store.library import FUNCTIONS, script_sources
from tests.store.lua_lint import lint


def test_the_functions_have_no_undeclared_names_and_no_unread_locals() -> None:
    assert lint(*script_sources()) == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_begins_with_its_promise_arguments_reply_and_idempotence(name: str) -> None:
    head = [line for line in script_sources()[1][name].split("\n\n")[0].splitlines() if line.startswith("--")]
    assert head[0].startswith(f"-- {name}: ")
    assert any(line.startswith("-- ARGV ") for line in head)
    assert any(line.startswith("-- reply ") for line in head)
    assert FUNCTIONS[name] == "no-writes" or "dempotent" in "".join(head)


@pytest.mark.parametrize(
    ("source", "finding"),
    [
        ("local function f(keys) return keys[1", "f.lua:1: syntax error"),
        ("local function f(keys)\n  return key[1]\nend", "f.lua:2: key is not declared"),
        ("local function f(keys)\n  found = keys\nend", "f.lua:2: found is a global"),
        ("local function f(keys)\n  local n = 1\n  return keys\nend", "f.lua:2: n is never read"),
        ("local function f(keys) for k, v in pairs(keys) do redis.call(v) end end", "f.lua:1: k is never read"),
        ("local n\nlocal function f() if n then local n = n end end", "f.lua:2: n is never read"),
        ("local function g() end", "f.lua:1: the function f is missing"),
    ],
)
def test_the_linter_finds(source: str, finding: str) -> None:
    assert finding in lint({}, {"f": source})


def test_a_part_sees_what_the_parts_before_it_declare_and_no_other() -> None:
    first, second = "local function one() end", "local function f() one() end"
    assert lint({"a": first}, {"f": second}) == []
    assert lint({"b": "local function two() one() end", "a": first}, {"f": second + " f() two()"}) == [
        "shared/b.lua:1: one is not declared"
    ]


def test_fields_and_methods_are_no_names_of_their_own() -> None:
    source = "local function f(keys) local t = {size = #keys, [keys] = 1} return t.size, keys:upper(), keys.a.b end"
    assert lint({}, {"f": source}) == []
