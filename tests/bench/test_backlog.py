from __future__ import annotations

import pytest

from bench.backlog import measure, parse


async def test_one_time_passwords_overtake_the_backlog() -> None:
    words = [
        "--backlog",
        "2000",
        "--carrier-rate",
        "50",
        "--passwords",
        "50",
        "--seconds",
        "0.5",
        "--latency",
        "0",
        "--rewrite",
    ]
    result = await measure(parse(words))
    assert result.backlog > 1000
    assert result.rewrites > 0
    assert (result.passwords, result.missing) == (25, 0)
    assert result.passwords_ms.count == 25
    assert result.sent < 1000  # most of the backlog still waits, yet no password does


@pytest.mark.parametrize("words", [["--backlog", "0"], ["--passwords", "0"], ["--seconds", "1000"]])
def test_invalid_options_end_with_exit_code_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(words)
    assert ended.value.code == 2
