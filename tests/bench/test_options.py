from __future__ import annotations

import pytest

from bench.options import Options, parse


def test_defaults_are_those_of_the_struct() -> None:
    assert parse([]) == Options()


def test_single_means_one_message_a_request_over_more_connections() -> None:
    options = parse(["--single", "--messages", "100"])
    assert (options.batch, options.connections, options.bodies) == (1, 32, 100)


@pytest.mark.parametrize(
    "words", [["--messages", "0"], ["--batch", "5001"], ["--seconds", "1e9"], ["--rate", "-1"], ["--nonsense"]]
)
def test_invalid_options_end_with_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(words)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err
