"""The queue's scripts on a real Valkey against a model of dicts, step by step, whatever the order of the steps."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pipeline.delta import Delta
from pipeline.errors import Conflict, LogForgotten, NotFound, StaleLease
from pipeline.prompt import NewPrompt
from pipeline.store.catalogue import DEPARTED
from pipeline.store.events import EventLog
from tests.integration.queue_machine import MODEL, USERS, StoreMachine

EXAMPLES, STEPS = 130, 100
COSTS = (1, 1, 2.5, 1, 1, 0.4)
REPLICAS = ("r1", "r2", "r3")
NODES = ("n1", "n2")
#: Nothing expires by itself; the test moves deadlines into the past.
LONG_S = 1000.0

picks = st.integers(min_value=0, max_value=1 << 16)
#: Which fence a call carries: mostly the right one.
fence_errors = st.sampled_from([0, 0, 0, -1, 1])
priorities = st.sampled_from([0, 0, 0, 5, -3])
histories = st.sampled_from([None, None, None, True, False])
alive_nodes = st.sampled_from([NODES, NODES, NODES[:1], ()])


class QueueMachine(StoreMachine):
    """Every rule runs one script and the same step of the model, and compares what they return."""

    @initialize(
        permits=st.integers(2, 4),
        accepted=st.lists(st.tuples(st.sampled_from(USERS), st.integers(0, 9), priorities), min_size=4, max_size=8),
    )
    def begin(self, permits: int, accepted: list[tuple[str, int, int]]) -> None:
        """With replicas, conversations (t1 of each user) and a queue: most rules have nothing to do without. One user listens to
        events."""
        self.model.events[USERS[0]] = []
        self.run("listen", EventLog(self.client, self.keys).listen(USERS[0]))
        for user in USERS:
            self._save_thread(user, "t1")
        for replica, node in zip(REPLICAS, ("n1", "n2", "n1"), strict=True):
            self._register(replica, permits, node)
        for user, number, priority in accepted:
            self._accept(user, number, priority, None)

    # --- clients

    @rule(user=st.sampled_from(USERS), number=st.integers(0, 9), priority=priorities, history=histories)
    def accept(self, user: str, number: int, priority: int, history: bool | None) -> None:
        self._accept(user, number, priority, history)

    def _accept(self, user: str, number: int, priority: int, history: bool | None) -> None:
        new = NewPrompt(
            id=f"p{number}",
            user_id=user,
            thread_id=f"t{number % 2}",
            model_id=MODEL,
            prompt="words",
            prompt_token_ids=(1, 2),
            priority=priority,
            history=history,
            cost=COSTS[number % len(COSTS)],
        )
        outcome = self.model.accept(new)
        name = {"new": "accept", "again": "accept again", "conflict": "accept refused"}[outcome]
        if outcome == "conflict":
            with pytest.raises(Conflict):
                self.run(name, self.prompts.accept(new))
            return
        accepted = self.run(name, self.prompts.accept(new))
        assert accepted.is_new == (outcome == "new")
        assert accepted.prompt.status == self.model.prompts[new.ref].status
        if self.model.prompts[new.ref].blocked:
            type(self).steps["blocked"] += 1
        self.erased.discard(new.ref)

    @precondition(lambda self: self.model.prompts)
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        prompt = self._pick(pick, open_only=pick % 4 > 0)
        assert self.run("cancel", self.prompts.cancel(prompt.ref)) == self.model.cancel(prompt.ref)

    @precondition(lambda self: self.model.prompts)
    @rule(pick=picks)
    def erase(self, pick: int) -> None:
        prompt = self._pick(pick)
        erased = self.model.erase(prompt.ref) == "erased"
        assert self.run("erase" if erased else "erase too early", self.prompts.erase(prompt.ref)) == erased
        if erased:
            self.erased.add(prompt.ref)

    @precondition(lambda self: self.erased)
    @rule(pick=picks)
    def touch_what_is_erased(self, pick: int) -> None:
        ref = sorted(self.erased)[pick % len(self.erased)]
        with pytest.raises(NotFound):
            self.run("cancel erased", self.prompts.cancel(ref))
        assert not self.run("finish erased", self._finish(ref, 1))
        assert not self.run("hand back erased", self.queue.hand_back(ref, 1))

    # --- threads

    @precondition(lambda self: len(self.model.threads) < 2 * len(USERS))
    @rule(user=st.sampled_from(USERS), thread=st.sampled_from(["t0", "t1"]))
    def save_thread(self, user: str, thread: str) -> None:
        self._save_thread(user, thread)

    def _save_thread(self, user: str, thread: str) -> None:
        self.model.save_thread(f"{user}/{thread}")
        saved = self.run("save thread", self.threads.save(user, thread, default_title="New chat"))
        assert saved.is_conversation == self.model.threads[f"{user}/{thread}"]

    @rule(user=st.sampled_from(USERS), thread=st.sampled_from(["t0", "t1"]), pick=picks)
    def delete_thread(self, user: str, thread: str, pick: int) -> None:
        if pick % 4:
            return  # it takes everything with it
        before = {p.ref for p in self.model.prompts.values()}
        if self.model.delete_thread(f"{user}/{thread}") == "missing":
            with pytest.raises(NotFound):
                self.run("delete thread refused", self.threads.delete(user, thread))
        else:
            self.run("delete thread", self.threads.delete(user, thread))
        self.erased |= before - set(self.model.prompts)

    @rule(
        user=st.sampled_from(USERS),
        thread=st.sampled_from(["t0", "t1"]),
        message_id=st.sampled_from(["h0", "p2", "p3"]),
    )
    def post(self, user: str, thread: str, message_id: str) -> None:
        """By hand; ``p2`` and ``p3`` may be a prompt's."""
        outcome = self.model.save_message(user, f"{user}/{thread}", message_id)
        call = self.messages.save(user, thread, message_id, text="by hand")
        if outcome == "saved":
            self.run("post", call)
        else:
            with pytest.raises(NotFound if outcome == "missing" else Conflict):
                self.run("post refused", call)

    @precondition(lambda self: self.model.messages)
    @rule(pick=picks)
    def delete_message(self, pick: int) -> None:
        key = sorted(self.model.messages)[pick % len(self.model.messages)]
        self.model.delete_message(key)
        user, message_id = key.split("/", 1)
        self.run("delete message", self.messages.delete(user, message_id))
        with pytest.raises(NotFound):
            self.run("delete message refused", self.messages.delete(user, message_id))

    # --- the ledger

    @rule(most=st.sampled_from([1, 2, 64]))
    def grant(self, most: int) -> None:
        right = self.model.grant(most)
        grants = self.run("grant" if right else "grant nothing", self.queue.grant(most, LONG_S))
        assert [(grant.ref, grant.fence, grant.alone) for grant in grants] == right

    @precondition(lambda self: self.model.waiting)
    @rule(replica=st.sampled_from(REPLICAS), text=st.sampled_from(["x", "日"]))
    def start(self, replica: str, text: str) -> None:
        """The usual way of an attempt: granted, claimed, its first entry written."""
        right = self.model.grant(1)
        grants = self.run("grant" if right else "grant nothing", self.queue.grant(1, LONG_S))
        assert [(grant.ref, grant.fence, grant.alone) for grant in grants] == right
        for ref, fence, _ in right:
            assert self.model.claim(ref, fence, replica)
            claim = self.attempts.claim(ref, fence, replica=replica, lease_s=LONG_S, fingerprint="f")
            claimed = self.run("claim", claim)
            assert self.model.append(ref, fence, claimed.entries + 1, text)
            assert self.run("append", self.attempts.append([(ref, fence, claimed.entries + 1, Delta(text=text))])) == [
                True
            ]

    @precondition(lambda self: self.model.prompts)
    @rule(pick=picks, off=fence_errors, replica=st.sampled_from(["", *REPLICAS]))
    def hand_back(self, pick: int, off: int, replica: str) -> None:
        """The ledger does, or a replica."""
        model = partial(self.model.hand_back, replica=replica)
        store = partial(self.attempts.hand_back, replica=replica) if replica else self.queue.hand_back
        self._attempt("hand back", pick, off, model, store)

    @precondition(lambda self: self.model.prompts)
    @rule(pick=picks, off=fence_errors, alive=alive_nodes)
    def lose(self, pick: int, off: int, alive: tuple[str, ...]) -> None:
        self._attempt(
            "lose",
            pick,
            off,
            lambda ref, fence: self.model.lose(ref, fence, alive),
            lambda ref, fence: self.queue.lose(ref, fence, alive),
        )

    @rule(alive=alive_nodes, most=st.sampled_from([500, 500, 1]), was_away=st.sampled_from([False, False, True]))
    def sweep(self, alive: tuple[str, ...], most: int, was_away: bool) -> None:
        right = self.model.sweep(alive, most, was_away)
        name = ("sweep" if any(right) else "sweep nothing") + (" after an outage" if was_away else "")
        call = self.queue.sweep(alive, most, grace_s=LONG_S if was_away else 0)
        swept = self.run(name, call)
        assert swept.was_away == was_away
        assert (swept.lost, swept.handed_back, swept.promoted, swept.replicas_dropped) == right
        assert (swept.next_due_s is None) == (not self.model.due)

    @rule(pick=picks, most=st.sampled_from([500, 500, 1, 2]))
    def close_departed(self, pick: int, most: int) -> None:
        """The model is in no catalogue for a while."""
        if pick % 8:
            return  # it empties the queue
        self.reader.zadd(self.keys.models(), {MODEL: 1})
        right = self.model.close_departed(most, DEPARTED)
        name = "close departed" if right else "close departed nothing"
        assert self.run(name, self.catalogue.close_departed(MODEL, most)) == right
        is_open = any(not prompt.status.is_terminal for prompt in self.model.prompts.values())
        if is_open or self.model.replicas or right:
            assert self.reader.zscore(self.keys.models(), MODEL) is not None
        assert self.run("vouch", self.catalogue.vouch([MODEL])) == []
        assert self.run("close vouched for", self.catalogue.close_departed(MODEL)) == 0

    # --- replicas

    @rule(replica=st.sampled_from(REPLICAS), permits=st.integers(1, 4), node=st.sampled_from(NODES))
    def register(self, replica: str, permits: int, node: str) -> None:
        self._register(replica, permits, node)

    def _register(self, replica: str, permits: int, node: str) -> None:
        self.model.register(replica, permits, node)
        self.run("register", self.attempts.register(MODEL, replica, permits=permits, node=node, lease_s=LONG_S))

    @precondition(lambda self: len(self.model.replicas) > 2)
    @rule(replica=st.sampled_from(REPLICAS))
    def unregister(self, replica: str) -> None:
        self.model.unregister(replica)
        self.run("unregister", self.attempts.unregister(MODEL, replica))

    @precondition(lambda self: self.model.leases)
    @rule(pick=picks, off=fence_errors, replica=st.sampled_from(REPLICAS))
    def claim(self, pick: int, off: int, replica: str) -> None:
        prompt = self._pick_running(pick)
        fence = prompt.fence + off
        right = self.model.claim(prompt.ref, fence, replica)
        try:
            claimed = self.run(
                "claim" if right else "claim refused",
                self.attempts.claim(prompt.ref, fence, replica=replica, lease_s=LONG_S, fingerprint="f"),
            )
        except StaleLease:
            assert not right
        else:
            assert right
            assert claimed.entries == len(prompt.log)
            assert claimed.logged_text == "".join(text or "" for text in prompt.log)
            assert claimed.failures == prompt.failures
            assert (claimed.history is not None) == (prompt.history == 1)

    @precondition(lambda self: self.model.leases)
    @rule(pick=picks, off=fence_errors)
    def keep_rendered(self, pick: int, off: int) -> None:
        self._attempt(
            "keep rendered",
            pick,
            off,
            self.model.keep_rendered,
            lambda ref, fence: self.attempts.keep_rendered(ref, fence, (7, 8, 9)),
        )

    @precondition(lambda self: self.model.prompts)
    @rule(
        pick=picks, off=fence_errors, ahead=st.sampled_from([0, 0, 0, -1, 1]), text=st.sampled_from(["a", "é", "🦜 "])
    )
    def append(self, pick: int, off: int, ahead: int, text: str) -> None:
        """For two prompts, in one call; a repeated number is a call whose reply was lost, one too high that of a writer whose
        last entry was forgotten."""
        prompts = [self._pick_running(pick), self._pick(pick // 7)]
        entries = [(p.ref, p.fence + off, len(p.log) + 1 + ahead, text) for p in prompts]
        if prompts[0] is prompts[1]:
            del entries[1]
        right = [self.model.append(*entry) for entry in entries]
        rows = [(ref, fence, number, Delta(text=text)) for ref, fence, number, text in entries]
        kind = {1: "append", 0: "append refused", -1: "append forgotten"}[right[0]]
        assert self.run(kind + (" again" if ahead < 0 else ""), self.attempts.append(rows)) == right

    @precondition(lambda self: self.model.leases)
    @rule(pick=picks)
    def forget_last_entry(self, pick: int) -> None:
        """The store was killed, and comes back without what it had written last."""
        prompt = self._pick_running(pick)
        if not prompt.log:
            return
        type(self).steps["forget"] += 1
        self.model.forget_last_entry(prompt.ref)
        log, left = self.keys.log(prompt.ref), len(prompt.log)
        kept = self.reader.xrange(log, count=left) if left else []
        self.reader.delete(log)
        for entry_id, fields in kept:
            self.reader.xadd(log, fields, id=entry_id)
        self.reader.hset(self.keys.prompt(prompt.ref), "entries", left)

    @rule(replica=st.sampled_from(REPLICAS), off=fence_errors, pick=picks)
    def heartbeat(self, replica: str, off: int, pick: int) -> None:
        leases = [(p.ref, p.fence) for p in self.model.prompts.values() if p.holder == replica]
        if self.model.prompts:
            other = self._pick(pick)
            leases.append((other.ref, other.fence + off))
        right = self.model.heartbeat(replica, leases, pick % 4)
        kind = ("heartbeat unknown", "heartbeat", "heartbeat leaving")[right[0]]
        call = self.attempts.heartbeat(MODEL, replica, leases, lease_s=LONG_S, permits_used=pick % 4)
        assert self.run(kind, call) == right

    @rule(running=st.sets(st.sampled_from(REPLICAS), min_size=1))
    def follow(self, running: set[str]) -> None:
        assert self.run("follow", self.queue.follow(sorted(running))) == self.model.follow(running)

    @precondition(lambda self: self.model.prompts)
    @rule(pick=picks, off=fence_errors, ahead=st.sampled_from([0, 0, 1]))
    def finish(self, pick: int, off: int, ahead: int) -> None:
        prompt = self._pick_running(pick) if pick % 8 else self._pick(pick // 8)
        fence, entries = prompt.fence + off, len(prompt.log) + ahead
        right = self.model.finish(prompt.ref, fence, entries)
        if right is None:
            with pytest.raises(LogForgotten):
                self.run("finish forgotten", self._finish(prompt.ref, fence, entries))
        else:
            name = "finish" if right else "finish refused"
            assert self.run(name, self._finish(prompt.ref, fence, entries)) == right

    @precondition(lambda self: self.model.prompts)
    @rule(pick=picks, off=fence_errors)
    def retry_later(self, pick: int, off: int) -> None:
        self._attempt(
            "retry later",
            pick,
            off,
            self.model.retry_later,
            lambda ref, fence: self.attempts.retry_later(ref, fence, error="oops", delay_s=LONG_S),
        )

    @precondition(lambda self: self.model.prompts)
    @rule(pick=picks, off=fence_errors)
    def abandon(self, pick: int, off: int) -> None:
        self._attempt("abandon", pick, off, self.model.abandon, partial(self.attempts.abandon, error="oops"))

    # --- time

    @precondition(lambda self: self.model.leases)
    @rule(pick=picks)
    def lease_expires(self, pick: int) -> None:
        ref = sorted(self.model.leases)[pick % len(self.model.leases)]
        self.model.expire_lease(ref)
        self._into_the_past(self.keys.leases(MODEL), ref)

    @precondition(lambda self: self.model.replicas)
    @rule(pick=picks)
    def replica_expires(self, pick: int) -> None:
        replica = sorted(self.model.replicas)[pick % len(self.model.replicas)]
        self.model.expire_replica(replica)
        self._into_the_past(self.keys.replicas(MODEL), replica)

    @precondition(lambda self: self.model.due)
    @rule(pick=picks)
    def retry_is_due(self, pick: int) -> None:
        ref = sorted(self.model.due)[pick % len(self.model.due)]
        self.model.elapse_retry(ref)
        self._into_the_past(self.keys.due(MODEL), ref)

    # --- what holds after every step

    @invariant()
    def store_equals_model(self) -> None:
        self.checks.everything()


@pytest.mark.timeout(300)
def test_scripts_agree_with_the_model(redis_url: str) -> None:
    QueueMachine.url = redis_url
    QueueMachine.steps = Counter()
    run_state_machine_as_test(
        QueueMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
    steps = QueueMachine.steps
    total = sum(steps.values())
    print(f"\n{total} steps: " + ", ".join(f"{name} {count}" for name, count in steps.most_common()))
    assert total >= 10_000
    # Every refusal was met too; a rule that is never refused has not tested its guard.
    guarded = ("claim", "append", "finish", "keep rendered", "retry later", "abandon", "hand back", "lose")
    assert all(steps[name] and steps[f"{name} refused"] for name in guarded)
    assert all(
        steps[name]
        for name in (
            "heartbeat leaving",
            "sweep after an outage",
            "append forgotten",
            "finish forgotten",
            "forget",
            "close departed",
            "blocked",
            "delete thread",
            "post refused",
        )
    )
