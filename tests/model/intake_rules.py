"""What apps, recipients and operators do to the store, at random: messages, cancels, consents, flags, releases."""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from gateway.model import (
    Cap,
    Category,
    Check,
    Content,
    Envelope,
    NewMessage,
    OnUnknown,
    Permission,
    Reason,
    RuleGroup,
    RuleStatus,
    State,
)
from gateway.store import keys
from gateway.store.ids import derived_id, time_of
from gateway.store.overview import StoreOverview
from gateway.store.requests import OptChange
from tests.model.choice_checks import ChoiceChecks
from tests.model.invariants import same
from tests.model.store_driver import PARTITIONS
from tests.model.values import ACCOUNTS, AHEAD, HOUR, MINUTE, NUMBERS, ROUTES, Pick, indices, seeds


class IntakeRules(ChoiceChecks):
    """Rules for everything that comes from this side."""

    # -- intake --------------------------------------------------------------------------------------------------------

    def permission(self, pick: Pick, account: str) -> Permission:
        now = self.now
        if self.calm:
            return self.lasting(pick, account)
        caps = pick([(), (), (1,), (1, 2), (3,)])
        scope = self.driver.hasher.scope
        return Permission(
            opens=now + pick([-HOUR] * 7 + [2_000]),
            closes=now + pick([200 * HOUR] * 6 + [HOUR, 2_001, 5_000]),
            expires=now + pick([300 * HOUR] * 6 + [30 * MINUTE, 40 * HOUR, 3_000, 5_000]),
            checks=pick([0, 0, 0, 8, 12, Check.ALL_OPT_OUT, Check.MARKETING_OPT_OUT | Check.ALL_OPT_OUT, 7, 15]),
            account_scope=scope(account),
            brand_scope=scope(account, "brand"),
            template_scope=pick([bytes(8), scope(account, "template", "t")]),
            caps=tuple(Cap(scope(account, f"cap{n}"), n, 3600) for n in caps),
            epoch=self.model.flags.get(keys.EPOCH, 0) - pick([0, 0, 0, 1])
            if self.model.flags.get(keys.EPOCH, 0)
            else 0,
        )

    def lasting(self, pick: Pick, account: str) -> Permission:
        """A permission that stops little."""
        now, scope = self.now, self.driver.hasher.scope
        checks, expires = pick([0] * 9 + [Check.ALL_OPT_OUT]), now + pick([300 * HOUR] * 9 + [40 * HOUR])
        caps = pick([(), (Cap(scope(account, "cap9"), 9, 3600),)])
        epoch = self.model.flags.get(keys.EPOCH, 0)
        return Permission(
            now, now + 299 * HOUR, expires, checks, scope(account), scope(account, "brand"), bytes(8), caps, epoch
        )

    def message(self, pick: Pick) -> NewMessage:
        who = self.recipients[pick(range(2 if self.calm else len(NUMBERS)))]
        account = pick(ACCOUNTS)
        self.count += 1
        category = pick(list(Category))
        state = pick(
            [State.QUEUED] * (40 if self.calm else 7) + [State.SCHEDULED, State.DEFERRED, State.HELD, State.REJECTED]
        )
        reason = {State.SCHEDULED: Reason.SCHEDULED, State.DEFERRED: Reason.QUIET_HOURS}.get(state, Reason.NONE)
        segments = pick([1, 1, 2])
        reference = pick([b"", b"", "order"])
        return NewMessage(
            id=derived_id(self.now, who.partition, self.count.to_bytes(8, "big")),
            recipient=who,
            state=state,
            reason=reason,
            due=self.now + pick(AHEAD) if state in (State.SCHEDULED, State.DEFERRED) else 0,
            category=category,
            on_unknown=pick([*OnUnknown] if not self.calm else [OnUnknown.RESEND] * 4 + [*OnUnknown]),
            route="" if state is State.REJECTED else pick(ROUTES),
            weight=pick((1, 2, 3)),
            segments=segments,
            permission=self.permission(pick, account),
            envelope=Envelope(who.digits, "Sender", account, int(category), "brand", segments=segments),
            content=Content(f"text {self.count}"),
            reference=self.driver.hasher.reference(account, who, reference) if reference else b"",
        )

    @rule(seed=seeds, count=st.integers(1, 4), again=st.booleans())
    def accept(self, seed: int, count: int, again: bool) -> None:
        pick = Random(seed).choice
        items = [self.message(pick) for _ in range(count)]
        self.known += [item.id for item in items]

        def call() -> None:
            there = [item for item in items if item.id in self.model.messages or item.id not in self.gone]
            got = self.driver.run(self.driver.store.accept(there))
            # of several that are called alike in one call the store chooses the one that counts
            order = sorted(range(len(there)), key=lambda n: not got[n].new)
            expected = dict(zip(order, self.model.accept([there[n] for n in order], self.now), strict=True))
            same(None, got, [expected[n] for n in range(len(there))])

        self.do(call, again)

    @rule(account=st.sampled_from(ACCOUNTS), who=st.integers(0, len(NUMBERS) - 1))
    def find_again(self, account: str, who: int) -> None:
        """By what the account calls them, for one recipient and for all."""
        hasher, run = self.driver.hasher, self.driver.run
        kept = {r.key: self.model.found(hasher.reference(account, r, "order"), self.now) for r in self.recipients}
        one = self.recipients[who]
        found = run(self.driver.store.by_reference(one, hasher.reference(account, one, "order")))
        assert found == kept[one.key]
        assert run(self.driver.store.mentions(account, "order")) == sorted(id_ for id_ in kept.values() if id_)

    # -- people --------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.known)
    @rule(index=indices, again=st.booleans())
    def cancel(self, index: int, again: bool) -> None:
        id_ = self.known[index % len(self.known)]

        def call() -> None:
            assert self.driver.run(self.driver.store.cancel([id_])) == [self.model.cancel(id_, self.now)]

        self.do(call, again)

    @rule(account=st.sampled_from(ACCOUNTS), again=st.booleans())
    def cancel_account(self, account: str, again: bool) -> None:
        def call() -> None:
            got = self.driver.run(self.driver.store.cancel_account(account))
            assert got == (self.model.cancel_account(account, self.now), True)

        self.do(call, again)

    @rule(
        who=st.integers(0, len(NUMBERS) - 1),
        group=st.sampled_from(list(RuleGroup)),
        status=st.sampled_from(list(RuleStatus)),
        account=st.sampled_from(ACCOUNTS),
        kind=st.sampled_from(["brand", "account", "all"]),
        said=st.sampled_from([0, 0, 1_000, HOUR]),
        lasts=st.sampled_from([0, 0, HOUR + 1]),
        again=st.booleans(),
    )
    def opt(
        self,
        who: int,
        group: RuleGroup,
        status: RuleStatus,
        account: str,
        kind: str,
        said: int,
        lasts: int,
        again: bool,
    ) -> None:
        scope = self.driver.hasher.scope
        scopes = {"brand": scope(account, "brand"), "account": scope(account), "all": keys.GLOBAL_SCOPE}
        if group is RuleGroup.CONSENT:
            kind = "brand"
        at = self.now - said
        until = self.now + lasts if lasts else 0
        change = OptChange(self.recipients[who], group, status, scopes[kind], at, until, b"evidence")

        def call() -> None:
            assert self.driver.run(self.driver.store.opt([change])) == [self.model.opt(change)]
            told = {(r.group, r.scope): r[:5] for r in self.driver.run(self.driver.store.opts(change.recipient))}
            kept = {k[1:]: r for k, r in self.model.rules.items() if k[0] == change.recipient.key}
            assert told == {k: (r.group, r.status, r.scope, r.at, r.until) for k, r in kept.items()}

        self.do(call, again)

    @rule(
        kind=st.sampled_from(["epoch", "breaker", "pulled", "restored"]),
        account=st.sampled_from(ACCOUNTS),
        on=st.booleans(),
        again=st.booleans(),
    )
    def flag(self, kind: str, account: str, on: bool, again: bool) -> None:
        scope = self.driver.hasher.scope
        if kind == "epoch":
            name, value = keys.EPOCH, self.model.flags.get(keys.EPOCH, 0) + 1
        elif kind == "breaker":
            name, value = keys.breaker(scope(account)), int(on)
        elif kind == "restored":
            name, value = keys.RESTORED, (self.now + 1) * on
        else:
            name, value = keys.pulled(scope(account, "template", "t")), int(on)

        def call() -> None:
            self.driver.run(self.driver.store.flag(name, value))
            self.model.flags[name] = value
            assert self.driver.run(self.driver.store.flags()) == {k: v for k, v in self.model.flags.items() if v}

        self.do(call, again)

    @rule(
        index=indices,
        account=st.sampled_from([None, *ACCOUNTS]),
        kind=st.sampled_from(["account", "brand", "restored"]),
    )
    def release(self, index: int, account: str | None, kind: str = "account") -> None:
        if kind == "restored":
            released = self.driver.run(self.driver.store.release(reason=Reason.RESTORED))
            assert released == self.model.release_for(Reason.RESTORED, self.now)
            return
        held = [m.new.id for m in self.model.messages.values() if m.state is State.HELD]
        ids = [held[index % len(held)]] if held and account is None else []
        scope = b""
        if account is not None:
            scope = self.driver.hasher.scope(account, *(["brand"] if kind == "brand" else []))
        if ids or scope:
            released = self.driver.run(self.driver.store.release(ids, scope))
            assert released == self.model.release(ids, scope, self.now)

    @rule()
    def look(self) -> None:
        """What operators see: whose messages are held, since when; how old the oldest of each lane is."""
        overview = StoreOverview(self.driver.link, PARTITIONS)
        mine: dict[tuple[str, bytes, bytes], list[int]] = {}
        for m in self.model.messages.values():
            if m.state is State.HELD and not m.released:
                key = (m.new.envelope.account, m.permission.account_scope, m.permission.brand_scope)
                mine.setdefault(key, []).append(time_of(m.new.id))
        seen = {
            (h.account, h.account_scope, h.brand_scope): (h.count, h.oldest) for h in self.driver.run(overview.held())
        }
        assert seen == {key: (len(times), min(times)) for key, times in mine.items()}
        view = self.driver.run(overview.lanes())
        waits: dict[str, list[int]] = {}
        for m in self.model.messages.values():
            if not m.final and m.state is State.QUEUED and not m.due and not m.had:
                waits.setdefault(m.lane, []).append(time_of(m.new.id))
        # what a carrier has begun may still lie where it waited before
        begun = {time_of(m.new.id) for m in self.model.messages.values() if m.state is State.QUEUED and m.had}
        for lane in view.lanes:
            assert lane.ready >= len(waits.get(lane.name, ()))
            oldest = min(waits.get(lane.name, [0]))
            assert lane.oldest in {oldest, *begun} or lane.ready > 16, f"{lane}, oldest {oldest}"
            waits.pop(lane.name, None)
        assert not waits, "lanes that the overview lacks"
