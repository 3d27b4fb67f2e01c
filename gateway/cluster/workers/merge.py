"""What several workers said, as one: carriers, receivers, status, metrics. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from gateway.carriers.mode import CarrierMode
from gateway.carriers.views import BindView, CarrierView
from gateway.supervision import SHOWN
from gateway.webhooks.admin import EndpointStatus

FAULTS = ("restarts", "failures", "set_aside")
"""What of ``Supervision.told`` is counted."""

_MODES = [mode.name.lower() for mode in CarrierMode]
_SAMPLE = re.compile(rb"^([A-Za-z_:][A-Za-z0-9_:]*)(\{)?", re.MULTILINE)


def carrier(views: Mapping[str, CarrierView]) -> CarrierView:
    """One carrier as all workers (name -> view, at least one) see it; its binds name their worker."""
    all_of = list(views.values())
    first = all_of[0]
    return CarrierView(
        name=first.name,
        mode=max((view.mode for view in all_of), key=_MODES.index),
        up=sum(view.up for view in all_of),
        taking=any(view.taking for view in all_of),
        window=sum(view.window for view in all_of),
        outstanding=sum(view.outstanding for view in all_of),
        rate=round(sum(view.rate for view in all_of), 1),
        ceiling=round(sum(view.ceiling for view in all_of), 1),
        slowed=any(view.slowed for view in all_of),
        decreases=sum(view.decreases for view in all_of),
        leased=sum(view.leased for view in all_of),
        submitted=sum(view.submitted for view in all_of),
        accepted=sum(view.accepted for view in all_of),
        refused=counts(view.refused for view in all_of),
        unanswered=sum(view.unanswered for view in all_of),
        receipts=counts(view.receipts for view in all_of),
        store_away_s=max(view.store_away_s for view in all_of),
        binds=[_of(worker, bind) for worker, view in views.items() for bind in view.binds],
        binds_of=first.binds_of,
        limit=first.limit,
        gateways=max(view.gateways for view in all_of),
        sick=all(view.sick for view in all_of),
        response_timeout=max(view.response_timeout for view in all_of),
        late_answers=sum(view.late_answers for view in all_of),
        given_up=sum(view.given_up for view in all_of),
    )


def _of(worker: str, bind: BindView) -> BindView:
    bind.worker = worker
    return bind


def carriers(said: Mapping[str, Sequence[CarrierView]]) -> list[CarrierView]:
    """All carriers (worker -> its views), in the order of the configuration."""
    by_name: dict[str, dict[str, CarrierView]] = {}
    for worker, views in said.items():
        for view in views:
            by_name.setdefault(view.name, {})[worker] = view
    return [carrier(views) for views in by_name.values()]


def counts(several: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counters added up, the greatest first."""
    total: Counter[str] = Counter()
    for one in several:
        total.update(one)
    return dict(total.most_common())


def faults(several: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Errors of ours, of all workers; what was set aside last by any of them, the newest at the end."""
    latest = sorted((one for some in several for one in some["latest"]), key=lambda one: one["at"])
    return {name: counts(some[name] for some in several) for name in FAULTS} | {"latest": latest[-SHOWN:]}


def accounts(said: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """What the workers hold together of each account's rate."""
    total: dict[str, dict[str, Any]] = {}
    for one in said:
        for name, fields in one.items():
            share = total[name]["share"] if name in total else 0.0
            total[name] = {**fields, "share": round(share + fields["share"], 1)}
    return total


def status(said: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The status of all (worker -> its own, at least one): what the store holds is the same, whoever tells it."""
    first = next(iter(said.values()))
    views = {worker: msgspec.convert(body["carriers"], list[CarrierView]) for worker, body in said.items()}
    return {
        **first,
        "carriers": carriers(views),
        "accounts": accounts([body["accounts"] for body in said.values()]),
        "intake": counts(body["intake"] for body in said.values()),
        "swept": counts(body["swept"] for body in said.values()),
        "faults": faults([body["faults"] for body in said.values()]),
    }


def standings(said: Iterable[Sequence[EndpointStatus]]) -> list[EndpointStatus]:
    """Receivers of webhooks: queues are in the store, tries are counted by the worker that posts; worst first."""
    out: dict[tuple[str, str], EndpointStatus] = {}
    for one in (one for several in said for one in several):
        known = out.setdefault((one.account, one.url), one)
        if one.tries > known.tries:
            known.tries, known.last_error, known.next_try_s = one.tries, one.last_error, one.next_try_s
        known.failing_s = max(known.failing_s, one.failing_s)
    return sorted(out.values(), key=lambda one: (-one.dead, -one.waiting, one.account, one.url))


def page(own: Mapping[str, bytes], shared: bytes) -> bytes:
    """One page of metrics: each worker's own with a label that names it, and once what is the same for all.

    A family is written once, with the samples of all workers, as the exposition format wants it.
    """
    heads: dict[bytes, bytes] = {}
    samples: dict[bytes, list[bytes]] = {}
    for worker, text in own.items():
        for name, head, body in _families(text):
            heads.setdefault(name, head)
            samples.setdefault(name, []).append(_SAMPLE.sub(_labelled(worker), body))
    return b"".join(heads[name] + b"".join(samples[name]) for name in heads) + shared


def _families(text: bytes) -> Iterable[tuple[bytes, bytes, bytes]]:
    """(name, HELP and TYPE, samples) of each family of a page."""
    for block in re.split(rb"^(?=# HELP )", text, flags=re.MULTILINE):
        if block:
            lines = block.splitlines(keepends=True)
            head = [line for line in lines if line.startswith(b"#")]
            yield head[0].split(b" ", 3)[2], b"".join(head), b"".join(lines[len(head) :])


def _labelled(worker: str) -> Any:
    label = b'worker="%s"' % worker.encode()

    def put(found: re.Match[bytes]) -> bytes:
        name, brace = found.groups()
        return b"%s{%s," % (name, label) if brace else b"%s{%s}" % (name, label)

    return put
