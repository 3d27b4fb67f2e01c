"""validity_period: until when a carrier may deliver a message (SMPP 3.4, 5.2.16, 7.1.1), and carriers that refuse it.

Advertising never goes out without one unless the operator says so (``validity = "none"``): the carrier would deliver it
at night. Everything else that is refused for its validity is sent once more without.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from time import gmtime, strftime
from typing import TYPE_CHECKING

import structlog

from gateway.model import Category
from gateway.policy.quiet_hours import LAST_MINUTE, zone_of
from gateway.smpp.errors import LocalError
from gateway.smpp.status import CommandStatus

if TYPE_CHECKING:
    from gateway.config import Carrier
    from gateway.model import LeasedMessage

MAX_VALIDITY = 30 * 86_400_000
"""Milliseconds. Longer validities are left to the carrier: many refuse (RINVEXPIRY) what exceeds their own limit."""

ON_THE_WAY = 2_000
"""Milliseconds that a submit may take to a carrier, which counts a relative validity from its arrival."""

REFUSALS = frozenset({int(CommandStatus.ESME_RINVEXPIRY), int(CommandStatus.ESME_RINVSCHED)})
"""0x62, and 0x61 of carriers that mix the two up: we never ask for a scheduled delivery."""

PROOFS = 3
"""Messages in a row that were refused with a validity and accepted without: then it is left out of all."""

KEPT = 4096
"""Messages remembered as refused for their validity; and validities kept as text."""

SAY_EVERY = 60.0

log = structlog.get_logger(__name__)


class PermissionEnded(Exception):  # not a fault: a message that has to wait
    """The permission of a message ended while it was on its way here, at ``at`` (ms UTC): it is to be decided anew."""

    def __init__(self, at: int) -> None:
        super().__init__("its permission is over")
        self.at = at


class ValidityRefused(LocalError):
    """This carrier refuses validity_period, and the message may not be sent without."""


class ValidityRefusals:
    """Which messages a carrier has refused for their validity, and whether it refuses all.

    ``omitted`` counts messages that went back to be sent without.
    """

    def __init__(self, carrier: str) -> None:
        self._carrier = carrier
        self._without: dict[bytes, None] = {}  # in order of refusal
        self._proofs = 0
        self._said = float("-inf")
        self.off = False  # it is left out of all
        self.any = False  # it is left out of some, or of all: looked at for every message
        self.omitted = 0

    def __repr__(self) -> str:
        return f"<ValidityRefusals {self._carrier} {self.omitted} sent without{', left out of all' * self.off}>"

    def omits(self, message_id: bytes) -> bool:
        """Whether this message is to be sent without a validity."""
        return self.off or message_id in self._without

    def again(self, leased: LeasedMessage, statuses: Iterable[int], now: float) -> bool:
        """Whether a message that was refused with ``statuses`` goes back once, to be sent without a validity."""
        if not REFUSALS.intersection(statuses):
            return False
        if leased.category == Category.MARKETING or self.omits(leased.id):
            self._forget(leased.id)
            self._proofs = 0
            return False
        if len(self._without) >= KEPT:
            del self._without[next(iter(self._without))]
        self._without[leased.id] = None
        self.any = True
        self.omitted += 1
        if now - self._said >= SAY_EVERY:
            self._said = now
            log.warning(
                "carrier refuses validity_period: sent once more without it. Set validity of this carrier to "
                '"relative" or "none", or its time_zone',
                carrier=self._carrier,
                count=self.omitted,
            )
        return True

    def ended(self, leased: LeasedMessage, *, accepted: bool) -> None:
        """A message that went without a validity was accepted or refused."""
        if leased.id not in self._without:
            return
        self._forget(leased.id)
        self._proofs = self._proofs + 1 if accepted else 0
        if self._proofs >= PROOFS and not self.off:
            self.off = self.any = True
            log.warning(
                "carrier accepts nothing with a validity_period: it is left out until restart or reload of validity, "
                "and marketing goes to the next carrier or is refused",
                carrier=self._carrier,
            )

    def _forget(self, message_id: bytes) -> None:
        self._without.pop(message_id, None)
        self.any = self.off or bool(self._without)


class Validity:
    """Writes validity_period for one carrier."""

    __slots__ = ("_form", "_kept", "_refusals", "_zone")

    def __init__(self, carrier: Carrier, refusals: ValidityRefusals) -> None:
        self._form = carrier.validity
        self._zone = carrier.time_zone
        self._refusals = refusals
        self._kept: dict[int, bytes] = {}

    def text(self, leased: LeasedMessage, now: int) -> bytes:
        """The field for a message that is written at ``now`` (ms UTC), b"" for the carrier's own limit.

        It is the expiry, for marketing no later than the close of permitted hours, which come a minute after the end of
        its permission (``policy.quiet_hours.LAST_MINUTE``): so long at least it may be delivered.
        Raises Closing, and ValidityRefused for what may not be sent without.
        """
        at = leased.expires
        if leased.category == Category.MARKETING:
            if now >= leased.closes:
                raise PermissionEnded(leased.closes)
            closes = leased.closes + LAST_MINUTE
            if closes < at or not at:
                at = closes
            if at - now > MAX_VALIDITY:
                at = now + MAX_VALIDITY
        elif not now < at <= now + MAX_VALIDITY:
            return b""
        if self._form != "absolute":
            return self._relative(leased, at, now)
        if self._refusals.any and self._omitted(leased):
            return b""
        second = at // 1000
        return self._kept.get(second) or self._keep(second, absolute_time(second, self._zone))

    def _relative(self, leased: LeasedMessage, at: int, now: int) -> bytes:
        if self._form == "none" or (self._refusals.any and self._omitted(leased)):
            return b""
        slack = ON_THE_WAY if leased.category == Category.MARKETING else 0
        seconds = (at - now - slack) // 1000
        return self._kept.get(seconds) or self._keep(seconds, relative_time(seconds))

    def _keep(self, key: int, text: bytes) -> bytes:
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[key] = text
        return text

    def _omitted(self, leased: LeasedMessage) -> bool:
        if not self._refusals.omits(leased.id):
            return False
        if leased.category == Category.MARKETING:
            raise ValidityRefused("the carrier refuses validity_period, and marketing is not sent without")
        return True


def absolute_time(second: int, zone: str = "") -> bytes:
    """An instant (seconds UTC) as SMPP writes it (7.1.1), 16 octets: local time and its quarter hours to UTC."""
    if not zone:
        return strftime("%y%m%d%H%M%S000+", gmtime(second)).encode()
    local = datetime.fromtimestamp(second, UTC).astimezone(zone_of(zone))
    ahead = local.utcoffset()
    quarters = 0 if ahead is None else round(ahead.total_seconds() / 900)
    return f"{local:%y%m%d%H%M%S}0{abs(quarters):02d}{'-' if quarters < 0 else '+'}".encode()


def relative_time(seconds: int) -> bytes:
    """A stretch of time as SMPP writes it (7.1.1), 16 octets: days, hours, minutes and seconds; at least one second."""
    minutes, second = divmod(max(1, seconds), 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    return f"0000{min(day, 99):02d}{hour:02d}{minute:02d}{second:02d}000R".encode()
