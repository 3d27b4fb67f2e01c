"""Every key of the store: its name, what it holds, how long it lives; and the hashing that keeps numbers out of names.

All keys of a partition begin with its tag, ``{p3.17}``, so that they share one slot of a cluster. ``KEYS[1]`` of every
function is the bare tag; the functions append the rest:

    key               type    holds                                                    lives
    m:<8 hex>         hash    id -> record; bucket named by the id's first 4 octets    each field until its own end
    d:<day>           hash    account + client_ref -> recipient and id of each message 4 days
    j:<claim>         string  request with an Idempotency-Key: body, base, answer      24 hours
    n:<day>           hash    recipient -> last concatenation reference number         2 days
    lanes             set     names of lanes, <route>#<place>:<priority>               for ever
    l:<lane>          zset    accounts that have something ready, by fair tag          while they have
    t:<lane>          hash    account -> last fair tag; "" -> the lane's clock         for ever
    q:<lane>/<acct>   list    ids ready to be sent                                     while there are any
    y:<lane>          zset    ids delayed, by the instant due                          while there are any
    held              zset    ids held, by the instant of acceptance                   while there are any
    a                 hash    state (1 octet) + account -> how many wait in it         for ever
    lease             string  counter of leases                                        for ever
    x:<owner>         hash    lease -> carrier and ids; n<lease> -> how many are open  while any is open
    b                 hash    owner -> its last heartbeat                              until reclaimed
    p:<resource>      hash    node -> what it may use of a limit that gateways share          while it uses it
    r                 hash    recipient -> rules (consent, opt-outs)                   for ever
    o                 hash    recipient + group + scope -> sealed detail of a rule     for ever
    c:<recipient…>    string  reservations under one cap                               the cap's window
    f                 hash    flags: epoch, breakers, templates, restored, id forms    for ever
    i:<carrier>:<h>   hash    recipient + carrier's id -> id + part of each; by hour   entries go with the record
    h:<carrier>       set     hours that have an id map                                for ever
    named             set     carriers that have given an id in an answer              for ever
    k                 hash    carrier + recipient + carrier's id -> parked receipt     25 hours
    kr                hash    carrier + recipient -> ids of receipts parked for it     with them
    ka                zset    parked receipts not tried yet, by the instant they came  60 seconds
    ko                zset    orphans: parked and tried, by the instant of deletion    25 hours
    kd                string  parked receipts dropped since the last sweep             until it
    j:<carrier>:<h>   hash    carrier's id -> id + part + recipient, by hour; receipt_key = "id"   as id_map says
    jh:<carrier>      set     hours that have such an index                            for ever
    jk ja jo          …       as k, ka, ko, by carrier + carrier's id; receipt_key = "id"          25 hours
    u:<carrier>       hash    recipient -> ids of messages that wait for a receipt without an id   with the record
    w:<minute>        list    ids that sweep looks at from this minute on              until swept
    wheel             zset    minutes that have a list                                 until they are swept
    e                 stream  events, one entry per call that moved something          until trimmed; bounded
    g                 hash    follower of events -> last entry moved; all: gw is not empty        while it does
    gw                set     accounts that want every event                           while there are any
    v:<limit>:<slot>  string  messages of an account to a range of numbers             two windows
    gl                string  owner of the lease on webhooks                           10 s
    gv                string  counts changes of queues by others than their owner      while webhooks follow
    ga                hash    account -> when a message last named a URL               while webhooks follow
    s                 set     queues of webhooks that have something in them           for ever
    s:<queue>         hash    sealed address, counts, the frozen batch                 while anything is in it
    sh:<queue>        list    heads of chunks: name, number of events, instant         until posted
    sq:<queue>        list    sealed events of the same chunks                         until posted
    dh:<queue>        list    heads of dead letters; dq:<queue> has their events       until replayed or dropped

Every partition also has ``made`` (string, for ever: the store's id, see ``redis.store_id``), one partition of each node
has ``probe`` (string, 60 s: the store takes writes), and outside the partitions there is ``gateway:meta`` (hash, for
ever: what the data was made with).

Names hold keyed hashes of numbers, never a number. ``<…>`` in c:, r, o, i, j, k, u are raw octets. ``j:`` has two
kinds: ``<claim>`` is a hash of 16 octets, so it cannot be mistaken for a ``<carrier>:<h>``, and gateways of several
versions must find each other's claims under the same name.
"""

from __future__ import annotations

from binascii import crc_hqx
from functools import cache
from hashlib import blake2b

from gateway.model import Recipient
from gateway.policy.identity import identity, spellings
from gateway.store.ids import MAX_PARTITIONS

SLOTS = 16384

META = b"gateway:meta"
"""Hash, for ever: what the data was made with: ``partitions``, ``secret`` (its fingerprint), ``id``
(``redis.store_id``), ``numbers`` (version of ``policy.identity`` that names recipients; absent: each spelling had its
own name), ``generation`` (how often it was restored from a backup; absent: never) and ``restoring`` (only while it is
being restored)."""

NUMBERS, GENERATION, RESTORING = b"numbers", b"generation", b"restoring"
"""Some of these fields."""

GLOBAL_SCOPE = bytes(8)
"""The scope of a rule or breaker for all accounts."""

EPOCH = b"epoch"
"""Flag: messages permitted under an older policy epoch are decided again before they are sent."""

RESTORED = b"restored"
"""Flag: messages accepted before this instant (ms UTC) are held, since the store is that of a backup (``backup``)."""


def breaker(scope: bytes) -> bytes:
    """Return the flag that has messages of a scope (account, brand, template, or all) decided again, not sent."""
    return b"b" + scope


def pulled(template_scope: bytes) -> bytes:
    """Return the flag that has messages of this template refused, whenever they were accepted."""
    return b"p" + template_scope


def slot_of(tag: str) -> int:
    """Return the cluster slot of a tag (CRC16 as Redis Cluster defines it)."""
    return crc_hqx(tag.encode(), 0) % SLOTS


@cache
def tags(partitions: int) -> tuple[bytes, ...]:
    """Return the tag of each partition, braces included. Raises ValueError unless 1 <= partitions <= 1024.

    Partition k's slot lies near (k + 0.5) / partitions of all slots, so nodes with equal ranges of slots get equal
    shares of the partitions.
    """
    if not 1 <= partitions <= MAX_PARTITIONS:
        raise ValueError(f"partitions must be between 1 and {MAX_PARTITIONS}, not {partitions}")
    return tuple(f"{{{_tag(k, partitions)}}}".encode() for k in range(partitions))


def _tag(partition: int, partitions: int) -> str:
    spacing = SLOTS / partitions
    target, near = (partition + 0.5) * spacing, max(spacing / 8, 2)
    number = 0
    while abs(slot_of(tag := f"p{partition}.{number}") - target) > near:
        number += 1
    return tag


class Hasher:
    """Names things in the store by a keyed hash (BLAKE2b), so that keys do not reveal numbers.

    The secret never changes as long as the data exists: every name is made with it.
    """

    def __init__(self, secret: bytes, partitions: int) -> None:
        """``secret``: 16 to 64 random octets. ``partitions``: as many as the store was made with."""
        if not 16 <= len(secret) <= 64:
            raise ValueError("the hashing secret must have 16 to 64 octets")
        self.partitions = partitions
        self._recipient = blake2b(key=secret, digest_size=16, person=b"recipient")
        self._scope = blake2b(key=secret, digest_size=8, person=b"scope")
        self._reference = blake2b(key=secret, digest_size=8, person=b"reference")
        self._claim = blake2b(key=secret, digest_size=16, person=b"claim")
        self._excerpt = blake2b(key=secret, digest_size=6, person=b"excerpt")

    def recipient(self, digits: str) -> Recipient:
        """Return the recipient of these digits (E.164 without ``+``): the same for every spelling of a number."""
        return self._named(digits, identity(digits))

    def spelled(self, digits: str) -> list[Recipient]:
        """Return the recipient's former names, one per other spelling (see ``legacy_numbers``)."""
        own = identity(digits)
        return [self._named(digits, one) for one in spellings(own)]

    def _named(self, digits: str, name: str) -> Recipient:
        state = self._recipient.copy()
        state.update(name.encode())
        key = state.digest()
        return Recipient(digits, key, int.from_bytes(key[8:12], "big") % self.partitions)

    def scope(self, *parts: str) -> bytes:
        """Return 8 octets that name (account), (account, brand) or (account, "template", name)."""
        state = self._scope.copy()
        state.update(_joined(parts))
        return state.digest()

    def reference(self, account: str, recipient: Recipient, client_ref: str) -> bytes:
        """Return 16 octets that name an account's ``client_ref`` for a recipient; the first 8 are its ``mention``."""
        state = self._reference.copy()
        state.update(_joined((account, client_ref)))
        mention = state.digest()
        state.update(recipient.key)
        return mention + state.digest()

    def mention(self, account: str, client_ref: str) -> bytes:
        """Return 8 octets that name an account's ``client_ref`` for any recipient."""
        state = self._reference.copy()
        state.update(_joined((account, client_ref)))
        return state.digest()

    def excerpt(self, text: str) -> bytes:
        """Return 6 octets that name how a text begins, to compare with the excerpt of it in a receipt.

        Only the first ten ASCII letters and digits of its first twenty characters count, in either case, since others
        may not survive a carrier's alphabet; b"" when there are fewer.
        """
        kept = [char for char in text[:20].lower() if char.isascii() and char.isalnum()][:10]
        if len(kept) < 10:
            return b""
        state = self._excerpt.copy()
        state.update("".join(kept).encode())
        return state.digest()

    def claim(self, account: str, key: str) -> tuple[bytes, int]:
        """Return 16 octets that name a request with this ``Idempotency-Key``, and the partition that has its claim."""
        state = self._claim.copy()
        state.update(_joined((account, key)))
        name = state.digest()
        return name, int.from_bytes(name[8:12], "big") % self.partitions


def _joined(parts: tuple[str, ...]) -> bytes:
    """Return the parts with their lengths, so that different parts never join to the same octets."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(2, "big") + part for part in encoded)
