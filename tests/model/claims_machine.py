"""Requests with an Idempotency-Key against their model: three gateways with restarts, two keys, two bodies."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from gateway.store.idempotency import Claim, Claimed, ClaimStore, Settled, StoredResponse
from gateway.store.ids import derived_id
from gateway.store.owner import LeaseOwner
from gateway.store.requests import ClaimResult
from tests.model.store_driver import StoreDriver
from tests.model.values import HOUR

owners = st.integers(0, 2)


@dataclass
class Request:
    """A key that was used: the answer of its first run is kept for a day."""

    body: bytes
    base: bytes
    since: int
    runner: str
    answer: StoredResponse | None = None


class ClaimsMachine(RuleBasedStateMachine):
    """Set ``driver`` in a subclass."""

    driver: StoreDriver

    @initialize()
    def begin(self) -> None:
        self.driver.reset()
        self.model: dict[str, Request] = {}
        self.owners = [LeaseOwner(f"w{number}", "0") for number in range(3)]
        self.beats: dict[str, int] = {}
        self.runs: list[tuple[str, bytes]] = []  # key and base of every run so far
        self.count = 0

    @rule(owner=owners, key=st.sampled_from("ab"), body=st.sampled_from([b"1" * 16, b"1" * 16, b"2" * 16]))
    def claim(self, owner: int, key: str, body: bytes) -> None:
        me, now = self.owners[owner], self.driver.now
        name, partition = self.driver.hasher.claim("shop", key)
        self.count += 1
        base = derived_id(now, partition, self.count.to_bytes(8, "big"))
        claims = ClaimStore(self.driver.link, self.driver.vault, me)
        (told,) = self.driver.run(claims.claim([Claim(name, partition, body, base)]))
        assert told == self.expected(key, body, base, me)
        if told.result is ClaimResult.CLAIMED:
            self.runs.append((key, told.base))

    def expected(self, key: str, body: bytes, base: bytes, me: LeaseOwner) -> Claimed:
        now, known = self.driver.now, self.model.get(key)
        if known is None or now - known.since >= 24 * HOUR:
            self.model[key] = Request(body, base, now, me.name)
            return Claimed(ClaimResult.CLAIMED, base)
        if known.body != body:
            return Claimed(ClaimResult.MISMATCH)
        if known.answer is not None:
            return Claimed(ClaimResult.DONE, answer=known.answer)
        node = LeaseOwner.parse(known.runner).node if known.runner else me.node
        if node != me.node and now - self.beats.get(known.runner, 0) < 10_000:
            return Claimed(ClaimResult.RUNNING)
        known.runner = me.name
        return Claimed(ClaimResult.CLAIMED, known.base)

    @precondition(lambda self: self.runs)
    @rule(owner=owners, run=st.integers(0, 3), good=st.booleans())
    def settle(self, owner: int, run: int, good: bool) -> None:
        """Settle any run, late or twice: the first answer stands."""
        key, base = self.runs[-1 - run % len(self.runs)]
        name, partition = self.driver.hasher.claim("shop", key)
        answer = StoredResponse(202, b"%d" % self.count * 300) if good else None
        claims = ClaimStore(self.driver.link, self.driver.vault, self.owners[owner])
        for _ in range(2):
            self.driver.run(claims.settle([Settled(name, partition, base, answer)]))
        known = self.model[key]
        if known.base == base and known.answer is None:
            known.runner, known.answer = "", answer

    @rule(owner=owners)
    def beat(self, owner: int) -> None:
        self.driver.run(self.driver.store.beat(self.owners[owner]))
        self.beats[self.owners[owner].name] = self.driver.now

    @rule(owner=owners)
    def restart(self, owner: int) -> None:
        old = self.owners[owner]
        self.owners[owner] = LeaseOwner(old.node, str(int(old.start) + 1))

    @rule(ms=st.sampled_from([1, 2_000, 10_000, HOUR, 23 * HOUR]))
    def advance(self, ms: int) -> None:
        self.driver.set_clock(self.driver.now + ms)
