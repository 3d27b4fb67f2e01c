"""A random walk with the same machine: not shrunk, but even and dense, so it goes where hypothesis seldom does.

Hypothesis leaves out about half of the rules in each of its examples and favours small ones; a walk of some hundred
steps has messages in every state at once.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from gateway.model import OnUnknown, RuleGroup, RuleStatus, State
from tests.model.machine import KNOWN_FORMS, Machine
from tests.model.values import ACCOUNTS, AHEAD, CARRIERS, FINAL_PARTS, HOUR, MINUTE, NUMBERS, ROUTES, SAYING_NOTHING

Step = Callable[[Machine, Random], Any]


def _again(r: Random) -> bool:
    return r.random() < 0.15


def _big(r: Random) -> int:
    return r.randrange(2**32)


def _permit(m: Machine, r: Random) -> None:
    if m.tokens:
        m.permit(_big(r), _big(r), int(r.random() < 0.1), _again(r))


def _if_sending(act: Step) -> Step:
    def step(m: Machine, r: Random) -> None:
        if m.some(0, State.SENDING):
            act(m, r)

    return step


def _if_leased(act: Step) -> Step:
    def step(m: Machine, r: Random) -> None:
        if m.leases:
            act(m, r)

    return step


def _take(m: Machine, r: Random) -> None:
    places = r.choice([(0,), (0, 1), (1, 2)])
    who, carrier, route = r.randrange(2), r.choice(CARRIERS), r.choice(ROUTES)
    m.take(who, carrier, route, places, r.choice([1, 2, 10]), r.randrange(3), _word(m, r), r.random() < 0.2)


def _word(m: Machine, r: Random) -> OnUnknown:
    return r.choice([*OnUnknown, *[OnUnknown.RESEND] * (6 if m.calm else 1)])


def _opt(m: Machine, r: Random) -> None:
    status = r.choice([RuleStatus.ALLOWS, RuleStatus.ALLOWS, RuleStatus.STOPS])
    kind, said, lasts = r.choice(["brand", "account", "all"]), r.choice([0, 1000, HOUR]), r.choice([0, HOUR + 1])
    m.opt(
        r.randrange(len(NUMBERS)), r.choice(list(RuleGroup)), status, r.choice(ACCOUNTS), kind, said, lasts, _again(r)
    )


def _rescue(m: Machine, r: Random) -> None:
    m.rescue(r.choice(ROUTES), r.choice([(0,), (1, 2), (0, 1, 2)]), r.choice([CARRIERS, CARRIERS[:1]]))


def _flag(m: Machine, r: Random) -> None:
    kind = r.choice(["epoch", "breaker", "breaker", "pulled", "restored"])
    m.flag(kind, r.choice(ACCOUNTS), r.random() < (0.8 if kind == "restored" else 0.3), _again(r))


STEPS: dict[Step, tuple[int, int]] = {
    lambda m, r: m.accept(_big(r), r.randrange(1, 5), _again(r)): (20, 6),
    lambda m, r: m.take_all(r.randrange(2), r.choice(CARRIERS), _word(m, r)): (20, 25),
    _take: (10, 10),
    _permit: (10, 3),
    _if_sending(lambda m, r: m.answer(_big(r), _big(r), r.randrange(3), _again(r))): (20, 20),
    _if_sending(lambda m, r: m.answers(_big(r), r.randrange(2), r.randrange(3))): (10, 10),
    _if_sending(lambda m, r: m.early_receipt(_big(r), r.choice([*FINAL_PARTS, *SAYING_NOTHING]), _again(r))): (8, 8),
    _if_sending(lambda m, r: m.untake_lost(r.randrange(2), r.choice(CARRIERS), _big(r), _again(r))): (2, 2),
    _if_sending(lambda m, r: m.regate(_big(r), r.randrange(1, 4), _again(r))): (5, 3),
    _if_leased(lambda m, r: m.untake(_big(r), _again(r))): (5, 5),
    _if_leased(lambda m, r: m.postpone(_big(r), r.choice(AHEAD), r.random() < 0.5, _again(r))): (4, 4),
    lambda m, r: m.late_answer(_big(r), _big(r), _again(r)) if m.unanswered else None: (8, 12),
    lambda m, r: m.receipts(_big(r), r.randrange(1, 4), _again(r)): (15, 12),
    lambda m, r: m.age(_big(r)): (4, 4),
    lambda m, r: m.cancel(_big(r), _again(r)): (4, 2),
    lambda m, r: m.cancel_account(r.choice(ACCOUNTS), _again(r)): (1, 1),
    _opt: (6, 1),
    _flag: (3, 0),
    lambda m, r: m.release(_big(r), r.choice([None, *ACCOUNTS]), r.choice(["account", "brand", "restored"])): (3, 1),
    lambda m, r: m.find_again(r.choice(ACCOUNTS), r.randrange(len(NUMBERS))): (2, 1),
    lambda m, r: m.look(): (3, 1),
    _rescue: (2, 1),
    lambda m, r: m.beat(r.randrange(2)): (2, 1),
    lambda m, r: m.crash(r.randrange(2)): (3, 3),
    lambda m, r: m.reclaim(_big(r), r.randrange(2), _again(r)): (6, 6),
    lambda m, r: m.advance(r.choice([1, 500, 1999, 5000, 5000, 11_000, 2 * MINUTE, 11 * MINUTE])): (12, 10),
    lambda m, r: m.leap(r.choice([31 * MINUTE, HOUR, 7 * HOUR, 26 * HOUR, 73 * HOUR])): (1, 1),
    lambda m, r: m.sweep(r.choice(KNOWN_FORMS)): (4, 6),
    lambda m, r: m.repeat(_big(r)) if m.calls else None: (8, 8),
}
"""What may happen, and how often: while policy has much to say; while all is calm but on the way to the carriers."""


def walk(machine: Machine, seed: int, steps: int) -> None:
    """One walk from an empty store, every invariant checked after each step, drained at its end. Of odd seed: calm."""
    r = Random(seed)
    machine.begin(2 * _big(r) + seed % 2)
    done = 0
    try:
        for step in r.choices(list(STEPS), [often[seed % 2] for often in STEPS.values()], k=steps):
            step(machine, r)
            machine.check_everything()
            done += 1
        machine.teardown()
    except AssertionError as error:
        said = "\n".join(machine.said[-6:])
        raise AssertionError(f"walk {seed}, step {done}: {error}\nlast said:\n{said}") from error
