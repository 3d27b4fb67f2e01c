from __future__ import annotations

from pathlib import Path

from bench.carrier import Ledger
from bench.load import LoadResult
from bench.options import Options
from bench.run import Measured, Snapshot, add_up, config_text
from gateway.config import load_text


def test_the_configuration_of_a_run_is_one_that_the_gateway_takes(tmp_path: Path) -> None:
    text = config_text(Options(binds=3, window=20), tmp_path, (1, 2, 3), [4, 5])
    config = load_text(text, env={}).config
    assert [carrier.addresses for carrier in config.carriers] == [(("127.0.0.1", 4),), (("127.0.0.1", 5),)]
    assert (config.carriers[0].binds, config.carriers[0].window, config.carriers[0].rate) == (3, 20, 0)
    assert config.routes[0].weights == (1, 1)


def test_a_run_adds_up(tmp_path: Path) -> None:
    book = Ledger()
    for index, at in ((0, 10.01), (1, 10.02), (1, 10.5), (9, 10.1)):  # 2 is lost, 1 doubled, 9 of the warm-up
        book.indexes.append(index)
        book.times.append(at)
    book.ended_at = 12.0
    book.write(tmp_path / "ledger")
    got = Measured(
        sent=LoadResult([0, 2], [2, 1], [10.0, 10.0], [10.004, 10.006], 3, 0, []),
        ledger=Ledger.read(tmp_path / "ledger"),
        before=Snapshot(9.0, 1.0, 2.0, 3.0),
        after=Snapshot(12.0, 1.3, 2.15, 3.06),
        load_cpu=0.03,
        finals={"delivered": 2},
        waits=[5.0, 6.0],
        finished=False,
        parts=3,
        receipts=3,
        resident=1000,
        live_bytes=600,
        finished_bytes=250,
    )
    result = add_up(Options(messages=3), got)
    assert (result.counts.reached, result.counts.lost, result.counts.doubled) == (2, 1, 1)
    assert (result.gateway.per_message, result.store.per_message) == (100_000.0, 50_000.0)
    assert (result.seconds, result.rate) == (2.0, 1.5)
    assert (result.to_wire.count, result.to_wire.max) == (2, 20.0)
    assert not result.counts.clean
    assert result.problems
