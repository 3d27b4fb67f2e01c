"""Learns in which form each host of a carrier writes the ids of receipts, from receipts that match one message alone.

An id that is not known as it is may be that of a message in another form (``smpp.message_id``), or match none: with ids
that are counters it often is. So a form is certain only after ``ENOUGH`` receipts in a row have agreed on it, and used
before that only while nothing contradicts it. What was learned is kept in the store, for all gateways.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import structlog

from gateway.smpp.message_id import FormKind, kinds_between
from gateway.store.errors import StoreError

if TYPE_CHECKING:
    from gateway.store.messages import MessageStore
    from gateway.store.requests import FormGuess

ENOUGH = 20
FORM = b"i:"
"""Flag: carrier, NUL, host -> the kind of form learned, plus one."""

Host = tuple[str, str]
"""A carrier and its host that sent the receipt."""

log = structlog.get_logger(__name__)


class _Evidence:
    """What the latest receipts of one host agree on."""

    __slots__ = ("contradicted", "kinds", "learned", "streak")

    def __init__(self) -> None:
        self.kinds: list[FormKind] = []  # the likelier first
        self.streak = 0
        self.contradicted = False
        self.learned: FormKind | None = None

    def add(self, kinds: Iterable[FormKind], times: int) -> None:
        """Add ``times`` matches, each by any of these kinds of form."""
        found = list(kinds)
        common = [kind for kind in self.kinds if kind in found]
        if common or not self.kinds:
            self.kinds, self.streak = common or found, self.streak + times
        else:
            self.kinds, self.streak, self.contradicted = found, times, True
        if self.streak >= ENOUGH:
            self.learned = self.kinds[0]

    def allowed(self) -> FormKind | None:
        """Return the form in which its ids may be read by now, if any."""
        if self.learned is not None:
            return self.learned
        return self.kinds[0] if self.kinds and not self.contradicted else None


class ReceiptIdForms:
    """Knows the form of ids of every host. Carriers whose ``id_form`` is set are not here."""

    def __init__(self, store: MessageStore) -> None:
        self._store = store
        self._hosts: dict[Host, _Evidence] = {}
        self._saved: dict[Host, FormKind] = {}  # in the store

    def __repr__(self) -> str:
        return f"<ReceiptIdForms {len(self._hosts)} hosts, {len(self._saved)} learned>"

    def kind(self, host: Host) -> FormKind | None:
        """Return the form that was learned, None while there is none."""
        evidence = self._hosts.get(host)
        return evidence.learned if evidence is not None else None

    def sure(self, host: Host) -> bool:
        """Whether an unknown id of this host cannot be a known message's id in another form."""
        evidence = self._hosts.get(host)
        return evidence is not None and evidence.allowed() is not None

    def allowed(self) -> dict[Host, int]:
        """Return the forms that the sweep may use."""
        found = {host: evidence.allowed() for host, evidence in self._hosts.items()}
        return {host: int(kind) for host, kind in found.items() if kind is not None}

    def plain(self, host: Host, times: int) -> None:
        """Learn from ``times`` receipts that matched by their ids as they came."""
        self._add(host, (FormKind.AS_IS,), times)

    def guessed(self, guesses: Iterable[FormGuess]) -> None:
        """Learn from receipts whose ids match one message each in another form."""
        for guess in guesses:
            kinds = kinds_between(guess.receipted, guess.answered)
            if kinds:
                self._add((guess.carrier, guess.host), kinds, 1)

    def forget(self, carrier: str) -> None:
        """Forget what was learned about a carrier: it is configured now, or must be learned again."""
        for host in [host for host in self._hosts if host[0] == carrier]:
            del self._hosts[host]

    def take_over(self, flags: Mapping[bytes, int]) -> None:
        """Apply what all gateways have learned."""
        for name, value in flags.items():
            if not name.startswith(FORM):
                continue
            carrier, _, host = name[len(FORM) :].decode().partition("\0")
            kind = _known(value - 1)
            if kind is not None and self._saved.get((carrier, host)) is not kind:
                self._saved[carrier, host] = kind
                evidence = self._hosts.setdefault((carrier, host), _Evidence())
                if evidence.learned is None:
                    evidence.learned = kind

    async def save(self) -> None:
        """Store what was learned here for all gateways. Raises StoreError."""
        for host, evidence in list(self._hosts.items()):
            learned = evidence.learned
            if learned is not None and self._saved.get(host) is not learned:
                await self._store.flag(FORM + "\0".join(host).encode(), learned + 1)
                self._saved[host] = learned

    async def try_to_save(self) -> None:
        """Do as ``save``, and leave it to the next call if the store is away."""
        try:
            await self.save()
        except StoreError as error:
            log.debug("cannot store learned id forms yet", error=str(error))

    def _add(self, host: Host, kinds: Iterable[FormKind], times: int) -> None:
        evidence = self._hosts.setdefault(host, _Evidence())
        before = evidence.learned
        evidence.add(kinds, times)
        if evidence.learned is not before:
            log.info(
                "learned how a carrier writes the ids of receipts (set id_form to switch this off)",
                carrier=host[0],
                host=host[1],
                form=evidence.learned.name.lower() if evidence.learned is not None else "",
            )


def _known(number: int) -> FormKind | None:
    """Return the kind, None for one of a later version."""
    try:
        return FormKind(number)
    except ValueError:
        return None
