from __future__ import annotations

import ast

from tests.client.unasync import TARGET, sync_source


def test_the_blocking_methods_are_generated_from_the_asynchronous_ones() -> None:
    generated = ast.dump(ast.parse(TARGET.read_text()))
    assert generated == ast.dump(ast.parse(sync_source())), "run python -m tests.client.unasync"
