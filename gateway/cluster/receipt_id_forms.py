"""In which form each host of a carrier writes the ids of receipts: learned from those that lead to one message alone.

An id that is not known as it is may be that of a message in another form (``smpp.message_id``), or a stranger's: with
ids that are counters it often is. So a form counts at once only after ``ENOUGH`` receipts in a row have agreed on it,
and before that only where nothing has spoken against it. What was learned is kept in the store, for all gateways.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import structlog

from gateway.smpp.message_id import FormKind, kinds_between
from gateway.store.errors import StoreError
from gateway.store.requests import FormGuess

ENOUGH = 20
FORM = b"i:"
"""Flag: carrier, NUL, host -> the kind of form that was learned, plus one."""

Host = tuple[str, str]
"""Carrier and the host of it that sent the receipt."""

log = structlog.get_logger(__name__)


class IdFormStore(Protocol):
    """Where it is kept."""

    async def flag(self, name: bytes, value: int) -> None: ...


class _Evidence:
    """Of one host: what the last receipts in a row agree on."""

    __slots__ = ("contradicted", "kinds", "learned", "streak")

    def __init__(self) -> None:
        self.kinds: list[FormKind] = []  # the likelier first
        self.streak = 0
        self.contradicted = False
        self.learned: FormKind | None = None

    def add(self, kinds: Iterable[FormKind], times: int) -> None:
        """So many matches, each by any of these kinds of form."""
        found = list(kinds)
        common = [kind for kind in self.kinds if kind in found]
        if common or not self.kinds:
            self.kinds, self.streak = common or found, self.streak + times
        else:
            self.kinds, self.streak, self.contradicted = found, times, True
        if self.streak >= ENOUGH:
            self.learned = self.kinds[0]

    def allowed(self) -> FormKind | None:
        """The form in which its ids may be read by now, if any."""
        if self.learned is not None:
            return self.learned
        return self.kinds[0] if self.kinds and not self.contradicted else None


class ReceiptIdForms:
    """What is known of every host. Nothing is guessed about carriers whose ``id_form`` is set: they are not here."""

    def __init__(self, store: IdFormStore) -> None:
        self._store = store
        self._hosts: dict[Host, _Evidence] = {}
        self._kept: dict[Host, FormKind] = {}  # as the store has it

    def __repr__(self) -> str:
        return f"<ReceiptIdForms {len(self._hosts)} hosts, {len(self._kept)} learned>"

    def kind(self, host: Host) -> FormKind | None:
        """The form that was learned, None while there is none."""
        evidence = self._hosts.get(host)
        return evidence.learned if evidence is not None else None

    def sure(self, host: Host) -> bool:
        """Whether an id of this host that is not known cannot be that of a known message in another form."""
        evidence = self._hosts.get(host)
        return evidence is not None and evidence.allowed() is not None

    def allowed(self) -> dict[Host, int]:
        """The forms that sweep may go by."""
        found = {host: evidence.allowed() for host, evidence in self._hosts.items()}
        return {host: int(kind) for host, kind in found.items() if kind is not None}

    def told(self, carrier: str) -> dict[str, str]:
        """Host -> name of the form learned, for operators."""
        return {
            host: evidence.learned.name.lower().replace("_", "-")
            for (name, host), evidence in self._hosts.items()
            if name == carrier and evidence.learned is not None
        }

    def plain(self, host: Host, times: int) -> None:
        """So many receipts were found by their ids as they came."""
        self._add(host, (FormKind.AS_IS,), times)

    def guessed(self, guesses: Iterable[FormGuess]) -> None:
        """Receipts whose ids lead to one message each in another form."""
        for guess in guesses:
            kinds = kinds_between(guess.receipted, guess.answered)
            if kinds:
                self._add((guess.carrier, guess.host), kinds, 1)

    def forget(self, carrier: str) -> None:
        """What receipts of this carrier look like is set now, or must be learned anew."""
        for host in [host for host in self._hosts if host[0] == carrier]:
            del self._hosts[host]

    def take_over(self, flags: Mapping[bytes, int]) -> None:
        """What all gateways have learned."""
        for name, value in flags.items():
            if not name.startswith(FORM):
                continue
            carrier, _, host = name[len(FORM) :].decode().partition("\0")
            kind = _known(value - 1)
            if kind is not None and self._kept.get((carrier, host)) is not kind:
                self._kept[carrier, host] = kind
                evidence = self._hosts.setdefault((carrier, host), _Evidence())
                if evidence.learned is None:
                    evidence.learned = kind

    async def keep(self) -> None:
        """Let all gateways know what was learned here. Raises StoreError."""
        for host, evidence in list(self._hosts.items()):
            learned = evidence.learned
            if learned is not None and self._kept.get(host) is not learned:
                await self._store.flag(FORM + "\0".join(host).encode(), learned + 1)
                self._kept[host] = learned

    async def keep_if_possible(self) -> None:
        """``keep``, where a store that is away is asked again later."""
        try:
            await self.keep()
        except StoreError as error:
            log.debug("what was learned of ids is kept later", error=str(error))

    def _add(self, host: Host, kinds: Iterable[FormKind], times: int) -> None:
        evidence = self._hosts.setdefault(host, _Evidence())
        before = evidence.learned
        evidence.add(kinds, times)
        if evidence.learned is not before:
            log.info(
                "learned how a carrier writes the ids of receipts (id_form switches this off)",
                carrier=host[0],
                host=host[1],
                form=evidence.learned.name.lower() if evidence.learned is not None else "",
            )


def _known(number: int) -> FormKind | None:
    """The kind, None for one of a later version."""
    try:
        return FormKind(number)
    except ValueError:
        return None
