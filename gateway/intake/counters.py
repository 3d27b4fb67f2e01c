"""Counters of submissions, for operators: added to once a batch, read at a scrape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gateway.intake.submission import SubmissionProblem, SubmissionResult
from gateway.model import Reason, State


class IntakeCounters:
    """What became of submissions, by (account, result, code)."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()

    def __repr__(self) -> str:
        return f"<IntakeCounters {sum(self.counts.values())} messages>"

    def add(self, accounts: Sequence[str], results: Sequence[SubmissionResult | SubmissionProblem]) -> None:
        """Count the results of a batch."""
        self.counts.update(map(_key, accounts, results))

    def add_failed(self, accounts: Sequence[str], code: str) -> None:
        """Count a batch of which nothing was accepted."""
        self.counts.update([(account, "refused", code) for account in accounts])


def _key(account: str, result: SubmissionResult | SubmissionProblem) -> tuple[str, str, str]:
    if type(result) is SubmissionProblem:  # isinstance costs twice as much
        return account, "refused", result.code
    if result.duplicate:  # type: ignore[union-attr]  # a SubmissionResult, by the line above
        return account, "duplicate", ""
    state, code = result.state, result.verdict.code  # type: ignore[union-attr]
    return account, _STATES[state], _CODES[code]


_STATES = {state: state.name.lower() for state in State}
_CODES = {reason: "" if reason is Reason.NONE else reason.name.lower() for reason in Reason}
