"""Responses of several workers merged into one."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from gateway.carriers.views import BindView, CarrierView
from gateway.cluster.workers import merge
from gateway.webhooks.admin import EndpointStatus

OWN = b"""\
# HELP g_submits_total Parts written.
# TYPE g_submits_total counter
g_submits_total{carrier="north"} %d.0
# HELP g_age_seconds Age of {this} thing.
# TYPE g_age_seconds gauge
g_age_seconds 1.5
# HELP g_took_seconds Time.
# TYPE g_took_seconds histogram
g_took_seconds_bucket{le="1"} 2.0
g_took_seconds_bucket{le="+Inf"} 3.0
g_took_seconds_count 3.0
g_took_seconds_sum 4.0
"""
SHARED = b"""\
# HELP g_held Messages held.
# TYPE g_held gauge
g_held 7.0
"""


def view(name: str = "north", **more: Any) -> CarrierView:
    usual: dict[str, Any] = dict.fromkeys(("up", "window", "outstanding", "decreases", "leased"), 0)
    usual |= dict.fromkeys(("submitted", "accepted", "unanswered"), 0)
    usual |= dict.fromkeys(("rate", "ceiling", "store_away_s"), 0.0)
    usual |= {"mode": "running", "taking": False, "slowed": False, "refused": {}, "receipts": {}, "binds": []}
    return CarrierView(name=name, **usual | more)


def bind(name: str) -> BindView:
    return BindView(name, "transceiver", "running", "bound_trx", up=True)


def test_a_metrics_page_labels_workers_and_shows_store_metrics_once() -> None:
    text = merge.page({"1": OWN % 4, "2": OWN % 6}, SHARED).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert list(families) == ["g_submits", "g_age_seconds", "g_took_seconds", "g_held"]
    assert [(s.labels, s.value) for s in families["g_submits"].samples] == [
        ({"worker": "1", "carrier": "north"}, 4.0),
        ({"worker": "2", "carrier": "north"}, 6.0),
    ]
    assert [s.labels for s in families["g_age_seconds"].samples] == [{"worker": "1"}, {"worker": "2"}]
    assert {s.labels["worker"] for s in families["g_took_seconds"].samples} == {"1", "2"}
    assert [(s.labels, s.value) for s in families["g_held"].samples] == [({}, 7.0)]
    assert text.count("# TYPE g_submits_total counter") == 1


def test_a_carrier_adds_up_what_its_workers_have() -> None:
    one = view(up=1, window=100, submitted=5, rate=50.0, refused={"RTHROTTLED": 2}, binds=[bind("north/1")])
    other = view(up=1, window=100, submitted=7, rate=50.0, refused={"RTHROTTLED": 1, "RSYSERR": 9}, taking=True)
    other.mode, other.binds = "paused", [bind("north/1")]
    both = merge.carrier({"1": one, "2": other})
    assert (both.mode, both.up, both.window, both.submitted, both.rate) == ("paused", 2, 200, 12, 100.0)
    assert both.taking
    assert both.refused == {"RSYSERR": 9, "RTHROTTLED": 3}
    assert [(bind.worker, bind.name) for bind in both.binds] == [("1", "north/1"), ("2", "north/1")]


def test_a_carrier_of_one_worker_keeps_every_field() -> None:
    values: dict[str, Any] = {"mode": "paused", "refused": {"RTHROTTLED": 2}, "receipts": {"applied": 3}}
    values |= dict.fromkeys(("taking", "slowed", "sick"), True)
    numbers = [name for name in CarrierView.__struct_fields__ if name not in {"name", "binds", *values}]
    one = view(**values, **{name: 2 + at for at, name in enumerate(numbers)})
    assert merge.carrier({"1": one}) == one


def test_carriers_keep_their_order_and_include_those_of_one_worker_only() -> None:
    merged = merge.carriers({"1": [view("north"), view("south")], "2": [view("north"), view("south"), view("east")]})
    assert [carrier.name for carrier in merged] == ["north", "south", "east"]


def test_webhook_queues_are_not_added_up_and_the_worst_fault_is_shown() -> None:
    one = EndpointStatus("shop", "https://a", True, waiting=5, oldest_s=3.0)
    other = EndpointStatus(
        "shop", "https://a", True, waiting=5, oldest_s=3.0, tries=4, last_error="503", failing_s=9.0, next_try_s=0.5
    )
    (both,) = merge.standings([[one], [other]])
    assert (both.waiting, both.tries, both.last_error) == (5, 4, "503")
    assert (both.failing_s, both.next_try_s) == (9.0, 0.5)


def test_a_status_adds_up_counters_and_shows_store_contents_once() -> None:
    said = {
        worker: {
            **{"node": worker, "held": 3, "carriers": [], "intake": {"queued": 2}, "swept": {"expired": 1}},
            "accounts": {"shop": {"rate": 100.0, "share": share, "gateways": 2}},
            "faults": {
                "restarts": {"sweeper": 1},
                "failures": {},
                "set_aside": {"receipt": 2},
                "latest": [{"at": int(share), "kind": "receipt"}],
            },
        }
        for worker, share in (("1", 70.0), ("2", 30.0))
    }
    assert merge.status(said) == {
        "node": "1",
        "held": 3,
        "carriers": [],
        "accounts": {"shop": {"rate": 100.0, "share": 100.0, "gateways": 2}},
        "intake": {"queued": 4},
        "swept": {"expired": 2},
        "faults": {
            "restarts": {"sweeper": 2},
            "failures": {},
            "set_aside": {"receipt": 4},
            "latest": [{"at": 30, "kind": "receipt"}, {"at": 70, "kind": "receipt"}],
        },
    }


def test_a_carrier_is_sick_only_if_it_is_sick_for_every_worker() -> None:
    one = view(sick=True, response_timeout=45.0, late_answers=3, given_up=4)
    other = view(sick=False, response_timeout=30.0, late_answers=1, given_up=1)
    both = merge.carrier({"1": one, "2": other})
    assert (both.sick, both.response_timeout, both.late_answers, both.given_up) == (False, 45.0, 4, 5)
    assert merge.carrier({"1": one, "2": one}).sick
