"""Merge the responses of several workers into one: carriers, webhook endpoints, status, metrics. No I/O."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from gateway.carriers.mode import CarrierMode
from gateway.carriers.views import BindView, CarrierView
from gateway.supervision import SHOWN
from gateway.webhooks.admin import EndpointStatus

FAULTS = ("restarts", "failures", "set_aside")
"""The counters in ``Supervision.as_json``."""

_MODES = [mode.name.lower() for mode in CarrierMode]
_SAMPLE = re.compile(rb"^([A-Za-z_:][A-Za-z0-9_:]*)(\{)?", re.MULTILINE)


def carrier(views: Mapping[str, CarrierView]) -> CarrierView:
    """Return one carrier from the views of all workers (name -> view, at least one); its binds name their worker."""
    all_views = list(views.values())
    first = all_views[0]
    return CarrierView(
        name=first.name,
        mode=max((view.mode for view in all_views), key=_MODES.index),
        up=sum(view.up for view in all_views),
        taking=any(view.taking for view in all_views),
        window=sum(view.window for view in all_views),
        outstanding=sum(view.outstanding for view in all_views),
        rate=round(sum(view.rate for view in all_views), 1),
        ceiling=round(sum(view.ceiling for view in all_views), 1),
        slowed=any(view.slowed for view in all_views),
        decreases=sum(view.decreases for view in all_views),
        leased=sum(view.leased for view in all_views),
        submitted=sum(view.submitted for view in all_views),
        accepted=sum(view.accepted for view in all_views),
        refused=counts(view.refused for view in all_views),
        unanswered=sum(view.unanswered for view in all_views),
        receipts=counts(view.receipts for view in all_views),
        store_away_s=max(view.store_away_s for view in all_views),
        binds=[_with_worker(bind, worker) for worker, view in views.items() for bind in view.binds],
        binds_of=first.binds_of,
        limit=first.limit,
        gateways=max(view.gateways for view in all_views),
        sick=all(view.sick for view in all_views),
        response_timeout=max(view.response_timeout for view in all_views),
        late_answers=sum(view.late_answers for view in all_views),
        given_up=sum(view.given_up for view in all_views),
    )


def _with_worker(bind: BindView, worker: str) -> BindView:
    bind.worker = worker
    return bind


def carriers(by_worker: Mapping[str, Sequence[CarrierView]]) -> list[CarrierView]:
    """Return all carriers (worker -> its views), in the order of the configuration."""
    by_name: dict[str, dict[str, CarrierView]] = {}
    for worker, views in by_worker.items():
        for view in views:
            by_name.setdefault(view.name, {})[worker] = view
    return [carrier(views) for views in by_name.values()]


def counts(counters: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sum of the counters, the greatest first."""
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return dict(total.most_common())


def faults(by_worker: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the internal errors of all workers, and the latest items set aside by any of them, the newest last."""
    latest = sorted((item for faults in by_worker for item in faults["latest"]), key=lambda item: item["at"])
    return {name: counts(faults[name] for faults in by_worker) for name in FAULTS} | {"latest": latest[-SHOWN:]}


def accounts(by_worker: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return each account with the share of its rate that the workers hold together."""
    total: dict[str, dict[str, Any]] = {}
    for one in by_worker:
        for name, fields in one.items():
            share = total[name]["share"] if name in total else 0.0
            total[name] = {**fields, "share": round(share + fields["share"], 1)}
    return total


def status(by_worker: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the status of all (worker -> its status, at least one). What the store holds is the same in each."""
    first = next(iter(by_worker.values()))
    views = {worker: msgspec.convert(body["carriers"], list[CarrierView]) for worker, body in by_worker.items()}
    return {
        **first,
        "carriers": carriers(views),
        "accounts": accounts([body["accounts"] for body in by_worker.values()]),
        "intake": counts(body["intake"] for body in by_worker.values()),
        "swept": counts(body["swept"] for body in by_worker.values()),
        "faults": faults([body["faults"] for body in by_worker.values()]),
    }


def standings(by_worker: Iterable[Sequence[EndpointStatus]]) -> list[EndpointStatus]:
    """Return the webhook endpoints, the worst first; tries are those of the worker that posts."""
    out: dict[tuple[str, str], EndpointStatus] = {}
    for one in chain.from_iterable(by_worker):
        known = out.setdefault((one.account, one.url), one)
        if one.tries > known.tries:
            known.tries, known.last_error, known.next_try_s = one.tries, one.last_error, one.next_try_s
        known.failing_s = max(known.failing_s, one.failing_s)
    return sorted(out.values(), key=lambda one: (-one.dead, -one.waiting, one.account, one.url))


def page(own: Mapping[str, bytes], shared: bytes) -> bytes:
    """Return one page of metrics: each worker's own with a ``worker`` label, then ``shared`` once.

    Every metric is written once, with the samples of all workers, as the exposition format requires.
    """
    heads: dict[bytes, bytes] = {}
    samples: dict[bytes, list[bytes]] = {}
    for worker, text in own.items():
        for name, head, body in _metrics(text):
            heads.setdefault(name, head)
            samples.setdefault(name, []).append(_SAMPLE.sub(_add_label(worker), body))
    return b"".join(heads[name] + b"".join(samples[name]) for name in heads) + shared


def _metrics(text: bytes) -> Iterable[tuple[bytes, bytes, bytes]]:
    """Yield (name, HELP and TYPE lines, sample lines) of each metric on a page."""
    for block in re.split(rb"^(?=# HELP )", text, flags=re.MULTILINE):
        if block:
            lines = block.splitlines(keepends=True)
            head = [line for line in lines if line.startswith(b"#")]
            yield head[0].split(b" ", 3)[2], b"".join(head), b"".join(lines[len(head) :])


def _add_label(worker: str) -> Any:
    label = b'worker="%s"' % worker.encode()

    def add(found: re.Match[bytes]) -> bytes:
        name, brace = found.groups()
        return b"%s{%s," % (name, label) if brace else b"%s{%s}" % (name, label)

    return add
