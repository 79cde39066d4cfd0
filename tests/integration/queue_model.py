"""The queue as dicts: what the store's scripts must amount to. Time is not in it; what expires is told."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pipeline.cost import to_thousandths
from pipeline.prompt import NewPrompt
from pipeline.states import Status, advance
from tests.integration.queue_model_records import Elapsed, ModelMessage, ModelPrompt, ModelReplica

#: Crashes after which a prompt runs alone; the next one ends it (DESIGN §3).
SUSPECT_AFTER = 2


class QueueModel(Elapsed):
    """Every method does what the script of its name does, and returns what that returns."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: dict[str, ModelPrompt] = {}
        self.replicas: dict[str, ModelReplica] = {}
        #: replica -> running or leaving, once Serve has said that it runs; of some that are not registered, too.
        self.serving: dict[str, str] = {}
        #: Those that Serve stopped while they were not registered.
        self.stopped: set[str] = set()
        #: Attempts granted, of all prompts.
        self.fences = 0
        #: Every ref that was ever taken, and how many places each thread has given out.
        self.places: dict[str, int] = {}
        #: thread -> whether it is a conversation
        self.threads: dict[str, bool] = {}
        #: user/message id -> message
        self.messages: dict[str, ModelMessage] = {}
        self.seq = 0
        self.turn = 0
        #: priority -> user -> turn
        self.turns: dict[int, dict[str, int]] = {}
        self.waiting: set[str] = set()
        self.leases: set[str] = set()
        #: In the order in which they are due.
        self.due: dict[str, None] = {}
        self.stale_rejected = 0
        #: user -> name of event, prompt or thread, error; only of users who listen.
        self.events: dict[str, list[tuple[str, str, str | None]]] = {}

    # --- clients

    def accept(self, new: NewPrompt) -> str:
        ref, user, thread = new.ref, new.user_id, f"{new.user_id}/{new.thread_id}"
        priority, history, cost = new.priority, new.history, to_thousandths(new.cost)
        if ref in self.prompts:
            return "again"
        if ref in self.messages:
            return "conflict"
        self.seq += 1
        place = self._next_place(thread)
        if thread not in self.threads:
            self.threads[thread] = False
            self._tell_chat("chatThreadAdded", thread)
        is_conversation = self.threads[thread]
        given = is_conversation if history is None else history
        prompt = ModelPrompt(ref, user, thread, priority, self.seq, place, history=int(given), cost=cost)
        prompt.blocked = given and bool(self.open_of(thread))
        self.prompts[ref] = prompt
        self.messages[ref] = ModelMessage(thread, place * 2 - 1, ref)
        if not prompt.blocked:
            self._enqueue(prompt)
        self._tell_chat("chatMessageAdded", thread)
        self._tell(prompt, "promptAdded")
        return "new"

    def cancel(self, ref: str) -> str:
        prompt = self.prompts.get(ref)
        if prompt is None:
            return "missing"
        if not prompt.status.is_terminal:
            self._tell_finished(prompt, "canceled")
            self._close(prompt, "cancel")
            self._tell(prompt, "promptRemoved")
        return prompt.status

    def erase(self, ref: str) -> str:
        prompt = self.prompts.get(ref)
        if prompt is None:
            return "missing"
        if not prompt.status.is_terminal:
            return prompt.status
        del self.prompts[ref]
        self.messages = {key: message for key, message in self.messages.items() if message.ref != ref}
        self._forget_if_empty(prompt.thread)
        self._tell(prompt, "promptRemoved")
        return "erased"

    def save_thread(self, thread: str) -> None:
        self._tell_chat("chatThreadUpdate" if thread in self.threads else "chatThreadAdded", thread)
        self.threads.setdefault(thread, True)

    def delete_thread(self, thread: str) -> str:
        if thread not in self.threads:
            return "missing"
        for prompt in reversed(self.open_of(thread)):
            self.cancel(prompt.ref)
        for ref in [p.ref for p in self.prompts.values() if p.thread == thread]:
            self.erase(ref)
        self.messages = {key: message for key, message in self.messages.items() if message.thread != thread}
        self.threads[thread] = False
        self._forget_if_empty(thread)
        return "deleted"

    def save_message(self, user: str, thread: str, message_id: str) -> str:
        key = f"{user}/{message_id}"
        if thread not in self.threads:
            return "missing"
        if key not in self.messages:
            self.messages[key] = ModelMessage(thread, self._next_place(thread) * 2 - 1, "")
        if self.messages[key].thread != thread:
            return "taken"
        self._tell_chat("chatMessageAdded", thread)
        return "saved"

    def delete_message(self, key: str) -> None:
        self._forget_if_empty(self.messages.pop(key).thread)

    # --- the ledger

    def grant(self, most: int) -> list[tuple[str, int, bool]]:
        free = sum(replica.permits for replica in self.replicas.values()) - len(self.leases)
        granted: list[tuple[str, int, bool]] = []
        while len(granted) < min(most, free) and self.waiting:
            prompt = self._next()
            prompt.status = advance(prompt.status, "grant")
            self.fences += 1
            prompt.fence = self.fences
            prompt.runs += 1
            self.leases.add(prompt.ref)
            granted.append((prompt.ref, prompt.fence, prompt.crashes >= SUSPECT_AFTER))
        return granted

    def order(self) -> list[str]:
        """Refs in the order in which they would be granted: priority, then users by turns, then time."""
        order = []
        for priority in sorted({self.prompts[ref].priority for ref in self.waiting}, reverse=True):
            queues: dict[str, list[ModelPrompt]] = {}
            for prompt in sorted((self.prompts[ref] for ref in self.waiting), key=lambda p: p.seq):
                if prompt.priority == priority:
                    queues.setdefault(prompt.user, []).append(prompt)
            users = sorted(queues, key=lambda user: self.turns[priority][user])
            while users:
                user = users.pop(0)
                order.append(queues[user].pop(0).ref)
                if queues[user]:
                    users.append(user)
        return order

    def hand_back(self, ref: str, fence: int, replica: str = "") -> bool:
        prompt = self._owned(ref, fence)
        if prompt is None or (replica and prompt.holder not in ("", replica)):
            return False
        self._requeue_uncharged(prompt)
        return True

    def lose(self, ref: str, fence: int, alive: Iterable[str]) -> bool:
        prompt = self._owned(ref, fence)
        if prompt is None:
            return False
        if not prompt.holder:
            self._requeue_uncharged(prompt)
        else:
            holder = prompt.holder
            self._crash(prompt, alive)
            self.unregister(holder)
        return True

    def sweep(self, alive: Collection[str], most: int, was_away: bool) -> tuple[int, int, int, int]:
        """Returns how many were lost, handed back, promoted, and how many replicas were dropped."""
        lost = handed_back = 0
        if was_away:
            for ref in self.leases:
                if self.prompts[ref].holder and self.prompts[ref].node in alive:
                    self._unexpire(self.expired_leases, ref)
            for name, replica in self.replicas.items():
                if replica.node in alive:
                    self._unexpire(self.expired_replicas, name)
        expired = self.expired_leases[:most]
        for ref in expired:
            prompt = self.prompts[ref]
            if prompt.holder:
                self._crash(prompt, alive)
                lost += 1
            else:
                self._requeue_uncharged(prompt)
                handed_back += 1
        dropped = list(self.expired_replicas)
        for replica in dropped:
            self._drop(replica)
        promoted = self.elapsed_retries[:most]
        for ref in promoted:
            self._forget_due(ref)
            self._enqueue(self.prompts[ref])
        return lost, handed_back, len(promoted), len(dropped)

    def close_departed(self, most: int, why: str) -> int:
        """What has an expired lease first, then retries, then the queue, in which blocked ones may come up."""
        closed = 0

        def depart(ref: str) -> None:
            nonlocal closed
            self._tell_finished(self.prompts[ref], why)
            self._close(self.prompts[ref], "depart")
            closed += 1

        for ref in self.expired_leases[:most]:
            depart(ref)
        retries = [*self.elapsed_retries, *(ref for ref in self.due if ref not in self.elapsed_retries)]
        for ref in retries[: most - closed]:
            depart(ref)
        while closed < most and self.waiting:
            depart(self.order()[0])
        if not closed:
            for replica in list(self.expired_replicas):
                self.unregister(replica)
        return closed

    # --- replicas

    def register(self, replica: str, permits: int, node: str) -> None:
        known = self.replicas.setdefault(replica, ModelReplica(permits, node))
        if replica in self.stopped:
            self.stopped.discard(replica)
            self.serving[replica] = "leaving"
        leaves = self.serving.get(replica) == "leaving"
        known.permits, known.node = known.used if leaves else permits, node
        self._unexpire(self.expired_replicas, replica)

    def unregister(self, replica: str) -> None:
        self._drop(replica)
        self.serving.pop(replica, None)
        self.stopped.discard(replica)

    def _drop(self, replica: str) -> None:
        self.replicas.pop(replica, None)
        self._unexpire(self.expired_replicas, replica)

    def claim(self, ref: str, fence: int, replica: str) -> bool:
        prompt = self._owned(ref, fence)
        if prompt is None or prompt.holder not in ("", replica):
            return False
        if not prompt.holder:
            self._tell(prompt, "promptProcessingStarted")
        prompt.holder = replica
        prompt.node = self.replicas[replica].node if replica in self.replicas else ""
        self._unexpire(self.expired_leases, ref)
        return True

    def keep_rendered(self, ref: str, fence: int) -> bool:
        prompt = self._owned(ref, fence)
        if prompt is not None:
            prompt.history = 2 if prompt.history else 0
        return prompt is not None

    def append(self, ref: str, fence: int, number: int, text: str) -> int:
        """As ``Written``."""
        prompt = self._owned(ref, fence)
        if prompt is None:
            return 0
        if number > len(prompt.log) + 1:
            return -1
        if number > len(prompt.log):
            prompt.log.append(text)
        return 1

    def forget_last_entry(self, ref: str) -> None:
        """The store came back without it."""
        self.prompts[ref].log.pop()

    def follow(self, running: Collection[str]) -> int:
        for name in {*self.replicas, *self.serving, *self.stopped} & set(running):
            self.serving[name] = "running"
            self.stopped.discard(name)
        for name in self.serving.keys() - set(running):
            replica = self.replicas.get(name)
            if replica is None:
                del self.serving[name]
                self.stopped.add(name)
            elif self.serving[name] == "running":
                self.serving[name], replica.permits = "leaving", replica.used
        return list(self.serving.values()).count("leaving")

    def heartbeat(self, replica: str, leases: Iterable[tuple[str, int]], used: int) -> tuple[int, list[str]]:
        if replica not in self.replicas:
            return 0, []
        beating = self.replicas[replica]
        beating.used = used
        leaves = self.serving.get(replica) == "leaving"
        if leaves:
            beating.permits = used
        self._unexpire(self.expired_replicas, replica)
        gone = []
        for ref, fence in leases:
            prompt = self._owned(ref, fence)
            if prompt is not None and prompt.holder == replica:
                self._unexpire(self.expired_leases, ref)
            else:
                gone.append(ref)
        return 2 if leaves else 1, gone

    def finish(self, ref: str, fence: int, entries: int) -> bool | None:
        """None if the store has forgotten some of the entries."""
        prompt = self._owned(ref, fence)
        if prompt is None:
            return False
        if len(prompt.log) < entries:
            return None
        self.messages[f"{prompt.user}/msg-{ref}"] = ModelMessage(prompt.thread, prompt.place * 2, ref)
        self._tell_chat("chatMessageAdded", prompt.thread)
        self._tell_finished(prompt, None)
        self._close(prompt, "finish")
        return True

    def abandon(self, ref: str, fence: int) -> bool:
        prompt = self._owned(ref, fence)
        if prompt is None:
            return False
        prompt.failures += 1
        self._tell_finished(prompt, "oops")
        self._close(prompt, "abandon")
        return True

    def retry_later(self, ref: str, fence: int) -> bool:
        prompt = self._owned(ref, fence)
        if prompt is None:
            return False
        prompt.failures += 1
        self._tell_finished(prompt, "oops")
        self._leave_lease(prompt)
        prompt.status = advance(prompt.status, "retry")
        self.due[ref] = None
        return True

    # --- parts

    def open_of(self, thread: str) -> list[ModelPrompt]:
        """What has not ended of a thread, in order."""
        found = [p for p in self.prompts.values() if p.thread == thread and not p.status.is_terminal]
        return sorted(found, key=lambda p: p.place)

    def _next_place(self, thread: str) -> int:
        self.places[thread] = self.places.get(thread, 0) + 1
        return self.places[thread]

    def _forget_if_empty(self, thread: str) -> None:
        used = {p.thread for p in self.prompts.values()} | {m.thread for m in self.messages.values()}
        if thread not in used and not self.threads[thread]:
            del self.threads[thread]

    def _owned(self, ref: str, fence: int) -> ModelPrompt | None:
        prompt = self.prompts.get(ref)
        if prompt is None:
            return None
        if prompt.fence != fence:
            self.stale_rejected += 1
            return None
        return prompt if prompt.status is Status.RUNNING else None

    def _enqueue(self, prompt: ModelPrompt) -> None:
        self.waiting.add(prompt.ref)
        turns = self.turns.setdefault(prompt.priority, {})
        if prompt.user not in turns:
            self.turn += 1
            turns[prompt.user] = self.turn

    def _next(self) -> ModelPrompt:
        prompt = self.prompts[self.order()[0]]
        self._take_from_queue(prompt)
        turns = self.turns[prompt.priority]
        if prompt.user in turns:
            self.turn += 1
            turns[prompt.user] = self.turn
        return prompt

    def _take_from_queue(self, prompt: ModelPrompt) -> None:
        self.waiting.discard(prompt.ref)
        waiting = (self.prompts[ref] for ref in self.waiting)
        if not any((p.priority, p.user) == (prompt.priority, prompt.user) for p in waiting):
            self.turns.get(prompt.priority, {}).pop(prompt.user, None)

    def _leave_lease(self, prompt: ModelPrompt) -> None:
        self.leases.discard(prompt.ref)
        self._unexpire(self.expired_leases, prompt.ref)
        prompt.holder = prompt.node = ""

    def _forget_due(self, ref: str) -> None:
        self.due.pop(ref, None)
        self._unexpire(self.elapsed_retries, ref)

    def _close(self, prompt: ModelPrompt, transition: str) -> None:
        if prompt.ref in self.waiting:
            self._take_from_queue(prompt)
        self._forget_due(prompt.ref)
        self._leave_lease(prompt)
        prompt.blocked = False
        prompt.status = advance(prompt.status, transition)
        prompt.log.append(None)
        following = self.open_of(prompt.thread)
        if following and following[0].blocked:
            following[0].blocked = False
            self._enqueue(following[0])

    def _tell(self, prompt: ModelPrompt, name: str, error: str | None = None) -> None:
        if prompt.user in self.events:
            self.events[prompt.user].append((name, prompt.id, error))

    def _tell_chat(self, name: str, thread: str) -> None:
        user, thread_id = thread.split("/", 1)
        if user in self.events:
            self.events[user].append((name, thread_id, None))

    def _tell_finished(self, prompt: ModelPrompt, error: str | None) -> None:
        if prompt.holder:
            self._tell(prompt, "promptProcessingFinished", error)

    def _requeue_uncharged(self, prompt: ModelPrompt) -> None:
        self._tell_finished(prompt, "handed back; the prompt waits for another replica")
        prompt.runs -= 1
        self._leave_lease(prompt)
        prompt.status = advance(prompt.status, "hand_back")
        self._enqueue(prompt)

    def _crash(self, prompt: ModelPrompt, alive: Iterable[str]) -> None:
        self._tell_finished(prompt, "the replica that ran this prompt died")
        if prompt.node in alive:
            prompt.crashes += 1
            if prompt.crashes > SUSPECT_AFTER:
                self._close(prompt, "abandon")
                return
        self._leave_lease(prompt)
        prompt.status = advance(prompt.status, "lose")
        self._enqueue(prompt)
