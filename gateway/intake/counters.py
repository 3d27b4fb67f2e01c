"""What is counted of submissions, for operators: plain counters, added to once a batch, read at a scrape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gateway.intake.submission import SubmissionProblem, SubmissionResult
from gateway.model import Reason, State


class IntakeCounters:
    """What became of what was handed in, by (account, result, code)."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()

    def __repr__(self) -> str:
        return f"<IntakeCounters {sum(self.counts.values())} messages>"

    def add(self, accounts: Sequence[str], results: Sequence[SubmissionResult | SubmissionProblem]) -> None:
        """A batch, as it was answered."""
        self.counts.update(map(_kind, accounts, results))

    def failed(self, accounts: Sequence[str], code: str) -> None:
        """A batch of which nothing was accepted."""
        self.counts.update([(account, "refused", code) for account in accounts])


def _kind(account: str, result: SubmissionResult | SubmissionProblem) -> tuple[str, str, str]:
    if type(result) is SubmissionProblem:
        return account, "refused", result.code
    if result.duplicate:  # type: ignore[union-attr]  # a Result, as the line above says; isinstance costs twice as much
        return account, "duplicate", ""
    state, code = result.state, result.verdict.code  # type: ignore[union-attr]
    return account, _STATES[state], _CODES[code]


_STATES = {state: state.name.lower() for state in State}
_CODES = {reason: "" if reason is Reason.NONE else reason.name.lower() for reason in Reason}
