"""Receipts of carriers that rewrite numbers: found by (carrier, id) alone, whichever partition their message is in.

The index and its parked receipts lie in the partition of the hash of (carrier, id). Each host of a carrier may have ids
of its own: the index then names the carrier with its host (``named``). An id is indexed before the answer that brought
it is stored. A receipt found here is stored with its message like any other, and only then removed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.model import ReceiptFact, Recipient
from gateway.store.arguments import pack_outcome, read_outcome
from gateway.store.ids import partition_of
from gateway.store.layout import SETTINGS
from gateway.store.messages import MessageStore

if TYPE_CHECKING:
    from gateway.store.redis.connection import StoreConnection

SLICE = 500
"""Most ids in one call."""


def named(carrier: str, host: str) -> str:
    """Return the name that ids are indexed under: the carrier, or one host of it."""
    return f"{carrier}\x01{host}" if host else carrier


def carrier_of(name: str) -> str:
    """Return the carrier of a name that ids are indexed under."""
    return name.partition("\x01")[0]


class IndexedId(NamedTuple):
    """An id that a carrier gave to a part of a message."""

    carrier_id: bytes
    message_id: bytes
    part: int
    recipient: bytes  # 8 octets of its key, or more


class ReceiptIndex:
    """Indexes ids by carrier and finds receipts by them. Every method may raise StoreError, and be repeated."""

    def __init__(self, store: MessageStore, link: StoreConnection) -> None:
        self._store = store
        self._link = link

    def partition(self, carrier: str, carrier_id: bytes) -> int:
        """Return the partition that indexes (carrier, id)."""
        name = b"%b\0%b" % (carrier.encode(), carrier_id)
        return int.from_bytes(blake2b(name, digest_size=4).digest(), "big") % self._store.partitions

    async def index(self, carrier: str, items: Sequence[IndexedId]) -> list[ReceiptFact]:
        """Index ids; return the receipts that were parked under them, ready to be stored with their messages.

        ``carrier``, here and below: what ``named`` returns.
        """
        settings = SETTINGS.pack(*self._store.retention)
        calls, orders = [], []
        for partition, numbers in self._slices(carrier, [item.carrier_id for item in items]):
            args: list[Any] = [settings, carrier]
            for number in numbers:
                item = items[number]
                args += (item.carrier_id, b"%b%c%b" % (item.message_id, item.part, item.recipient[:8]))
            calls.append((partition, "index_ids", args))
            orders.append(numbers)
        return [
            _fact(carrier, items[number].carrier_id, blob, items[number].message_id, items[number].recipient)
            for order, reply in zip(orders, await self._link.calls(calls), strict=True)
            for number, blob in zip(order, reply, strict=True)
            if blob
        ]

    async def locate(self, carrier: str, receipts: Sequence[ReceiptFact]) -> list[ReceiptFact | None]:
        """Return the receipts with their recipients, by the likeliest known form of the id; None: it was parked."""
        settings = SETTINGS.pack(*self._store.retention)
        forms = [(one, number) for number, receipt in enumerate(receipts) for one in receipt.ids]
        calls, orders = [], []
        for partition, numbers in self._slices(carrier, [one for one, _ in forms]):
            args: list[Any] = [settings, carrier]
            for at in numbers:
                receipt = receipts[forms[at][1]]
                args += (forms[at][0], b"%c%b" % pack_outcome(receipt))
            calls.append((partition, "locate", args))
            orders.append(numbers)
        values = [b""] * len(forms)
        for order, reply in zip(orders, await self._link.calls(calls), strict=True):
            for at, value in zip(order, reply, strict=True):
                values[at] = value
        out: list[ReceiptFact | None] = [None] * len(receipts)
        for (one, number), value in zip(forms, values, strict=True):
            if value and out[number] is None:
                receipt = receipts[number]
                out[number] = _fact(carrier, one, b"%c%b" % pack_outcome(receipt), value[:16], value[17:25])
        return out

    async def unpark(self, items: Iterable[tuple[str, bytes]]) -> None:
        """Remove what is parked under these (carrier, id): it is stored with its messages."""
        settings = SETTINGS.pack(*self._store.retention)
        per: dict[int, list[Any]] = {}
        for carrier, carrier_id in items:
            per.setdefault(self.partition(carrier, carrier_id), [settings]).extend((carrier, carrier_id))
        await self._link.calls([(partition, "unpark", args) for partition, args in per.items()])

    async def relocate(self) -> tuple[list[ReceiptFact], int, int]:
        """Return parked receipts whose id is known by now; then how many others became orphans, and how many were
        dropped because there were too many. Call ``unpark`` once they are stored."""
        settings = SETTINGS.pack(*self._store.retention)
        calls = [(partition, "relocate", [settings]) for partition in range(self._store.partitions)]
        facts: list[ReceiptFact] = []
        orphans = dropped = 0
        for count, over_bound, found in await self._link.calls(calls):
            orphans += count
            dropped += over_bound
            for carrier, carrier_id, blob, value in zip(*[iter(found)] * 4, strict=True):
                facts.append(_fact(carrier.decode(), carrier_id, blob, value[:16], value[17:25]))
        return facts, orphans, dropped

    def _slices(self, carrier: str, ids: Sequence[bytes]) -> list[tuple[int, list[int]]]:
        per: dict[int, list[int]] = {}
        for number, one in enumerate(ids):
            per.setdefault(self.partition(carrier, one), []).append(number)
        return [
            (partition, numbers[start : start + SLICE])
            for partition, numbers in per.items()
            for start in range(0, len(numbers), SLICE)
        ]


def _fact(carrier: str, carrier_id: bytes, blob: bytes, message_id: bytes, recipient: bytes) -> ReceiptFact:
    """Return a receipt whose recipient is known by its key alone; ``blob``: what ``pack_outcome`` packed."""
    owner, name = Recipient("", recipient[:8], partition_of(message_id)), carrier_of(carrier)
    state, at, error, whole = read_outcome(blob[0], blob[1:])
    host = carrier[len(name) + 1 :]
    return ReceiptFact(
        carrier=name,
        ids=(carrier_id,),
        recipient=owner,
        state=state,
        error=error,
        at=at,
        whole=whole,
        detail=None,
        host=host,
    )
