"""The text of a submission: filled from a template, free of control characters, counted in segments."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.intake.carrier_tlvs import ParameterError
from gateway.intake.coding import NO_DEMAND, RouteDemand, count_for
from gateway.intake.control_characters import CONTROL, control_detail
from gateway.intake.rights import AccountRights
from gateway.intake.submission import Submission, SubmissionProblem
from gateway.smpp.text import Alphabet, SegmentCount, TextError, count, encode

_LISTED = 10
"""Names in a problem's detail, at most."""

_PIECE = 64
"""Characters tried at once in the search for one that does not fit: a call for each would be slow."""


def resolve_text(submission: Submission, rights: AccountRights) -> str | SubmissionProblem:
    """Return the text to send, or why there is none."""
    text = submission.text
    if submission.template is not None or submission.vars is not None:
        filled = _fill_template(submission, rights)
        if isinstance(filled, SubmissionProblem):
            return filled
        text = filled
    if not text:
        return SubmissionProblem("malformed", "either text or template is required", "text")
    if not text.isprintable() and (found := CONTROL(text)):
        field = "text" if submission.template is None else "vars"
        return SubmissionProblem("invalid_value", control_detail(found), field)
    return text


def _fill_template(submission: Submission, rights: AccountRights) -> str | SubmissionProblem:
    """Fill the template with ``vars``, which must match its placeholders exactly."""
    if submission.text is not None:
        field = "vars" if submission.template is None else "text"
        return SubmissionProblem("invalid_value", "send either text, or template with vars, not both", field)
    template = rights.templates.get(submission.template or "")
    if template is None:
        detail = f"this account has no template of this name{listed(rights.templates)}"
        return SubmissionProblem("invalid_value", detail, "template")
    values = submission.vars or {}
    for name in (*values, *template.names):
        if name not in values:
            return SubmissionProblem("invalid_value", "the template needs a value for this placeholder", f"vars.{name}")
        if name not in template.names:
            return SubmissionProblem("unknown_field", "the template has no placeholder of this name", f"vars.{name}")
    return template.fill(values)


def count_segments(
    text: str, submission: Submission, forced: str, demand: RouteDemand
) -> SegmentCount | SubmissionProblem:
    """Return the segments of the text at its carrier, or what keeps the carrier from taking it.

    ``forced``: the encoding that the app insists on, or "".
    """
    try:
        if demand is NO_DEMAND and not forced:
            return count(text)
        if demand.parameters is not None:
            demand.parameters.octets(submission.metadata, submission.template or "")
        return count_for(text, forced, demand.coding)
    except TextError as error:
        code = "encoding_mismatch" if forced else "invalid_value"
        return SubmissionProblem(code, f"{error}{_first_unencodable(text, forced)}", "text")
    except ParameterError as error:
        return SubmissionProblem("invalid_value", str(error), error.field)


def _first_unencodable(text: str, encoding: str) -> str:
    """Name the first character that the encoding lacks; "" when it has all of them or is not forced."""
    for start in range(0, len(text) if encoding else 0, _PIECE):
        piece = text[start : start + _PIECE]
        if not _fits(piece, encoding):
            index = next(index for index, char in enumerate(piece) if not _fits(char, encoding))
            where = f"U+{ord(piece[index]):04X}, character {start + index + 1}"
            return f": the first is {where}; leave out encoding, or choose another"
    return ""


def _fits(text: str, encoding: str) -> bool:
    try:
        encode(text, Alphabet(encoding))
    except TextError:
        return False
    return True


def listed(names: Iterable[str]) -> str:
    """``; allowed: a, b``, for the end of a problem's detail; "" without names."""
    shown = sorted(filter(None, names))
    more = ", …" if len(shown) > _LISTED else ""
    return f"; allowed: {', '.join(shown[:_LISTED])}{more}" if shown else ""
