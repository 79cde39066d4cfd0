"""What the store must hold, key by key, when it agrees with the model of the queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pipeline.states import TERMINAL, Status
from pipeline.store.keys import Keys
from tests.integration.queue_model import QueueModel
from tests.integration.queue_model_records import ModelPrompt


class StoreChecks:
    """Compares one store with one model."""

    def __init__(self, reader: Any, keys: Keys, model: QueueModel, *, model_id: str, users: Sequence[str]) -> None:
        self._reader = reader
        self._keys = keys
        self._model = model
        self._model_id = model_id
        self._users = users

    def everything(self) -> None:
        """Compare all of it."""
        model, keys = self._model, self._keys
        prompts = sorted(model.prompts.values(), key=lambda p: p.seq)
        pipe = self._reader.pipeline(transaction=False)
        for p in prompts:
            pipe.hmget(
                keys.prompt(p.ref), "status", "fence", "runs", "failures", "crashes", "holder", "entries", "place"
            )
            pipe.hmget(keys.prompt(p.ref), "blocked", "history")
            pipe.xlen(keys.log(p.ref))
            pipe.xrevrange(keys.log(p.ref), count=1)
        rows = iter(pipe.execute())
        for p in prompts:
            fields, waits, length, last = next(rows), next(rows), next(rows), next(rows)
            assert waits == [b"1" if p.blocked else None, str(p.history).encode()], p
            # With history it is not in the queue, nor further, while one before it is open.
            assert not p.blocked or model.open_of(p.thread)[0] is not p, p
            assert [(f or b"").decode() for f in fields] == [
                *map(str, (p.status, p.fence, p.runs, p.failures, p.crashes, p.holder, len(p.log), p.place))
            ], p
            assert length == len(p.log), p
            assert bool(last and last[0][1][b"k"] == b"end") == p.status.is_terminal, p
        self._queue()
        self._indexes(prompts)
        self._events()

    def _queue(self) -> None:
        model, keys = self._model, self._keys
        # At most one live attempt per prompt: the leases are the running prompts.
        assert model.leases == {p.ref for p in model.prompts.values() if p.status is Status.RUNNING}
        pipe = self._reader.pipeline(transaction=False)
        pipe.zrange(keys.leases(self._model_id), 0, -1)
        pipe.zrange(keys.due(self._model_id), 0, -1)
        pipe.zrange(keys.replicas(self._model_id), 0, -1)
        pipe.hgetall(keys.permits(self._model_id))
        pipe.hmget(keys.stats(self._model_id), "waiting", "blocked", "permits", "turn", "stale_rejected", "extra")
        pipe.zrevrange(keys.priorities(self._model_id), 0, -1)
        pipe.hgetall(keys.serving(self._model_id))
        leases, due, replicas, permits, stats, priorities, serving = pipe.execute()
        assert {k.decode(): v.decode() for k, v in serving.items()} == model.serving
        assert {k.decode() for k in self._reader.scan_iter(keys.stopped("*"))} == {
            keys.stopped(r) for r in model.stopped
        }
        assert _texts(leases) == model.leases
        assert _texts(due) == set(model.due)
        assert _texts(replicas) == set(model.replicas)
        assert {k.decode(): int(v) for k, v in permits.items()} == {k: r.permits for k, r in model.replicas.items()}
        assert [int(number or 0) for number in stats] == [
            len(model.waiting),
            sum(p.blocked for p in model.prompts.values()),
            sum(replica.permits for replica in model.replicas.values()),
            model.turn,
            model.stale_rejected,
            sum(model.prompts[ref].cost - 1000 for ref in model.waiting | model.leases),
        ]
        assert self._stored_order([int(p) for p in priorities]) == model.order()

    def _stored_order(self, priorities: list[int]) -> list[str]:
        """The queue of the store, dealt out as ``grant`` would."""
        order: list[str] = []
        for priority in priorities:
            users = [u.decode() for u in self._reader.zrange(self._keys.turns(priority, self._model_id), 0, -1)]
            pipe = self._reader.pipeline(transaction=False)
            for user in users:
                pipe.zrange(self._keys.waiting(priority, user, self._model_id), 0, -1)
            queues = [list(queue) for queue in pipe.execute()]
            assert all(queues), "a user has a turn and nothing that waits"
            while queues:
                queue = queues.pop(0)
                order.append(queue.pop(0).decode())
                if queue:
                    queues.append(queue)
        return order

    def _indexes(self, prompts: list[ModelPrompt]) -> None:
        keys = self._keys
        right: dict[str, list[str]] = {keys.all(): [p.ref for p in prompts]}
        for status in Status:
            right[keys.by_status(status)] = [p.ref for p in prompts if p.status is status]
            for user in self._users:
                right[keys.by_user_status(status, user)] = [
                    p.ref for p in prompts if (p.status, p.user) == (status, user)
                ]
                for number in range(2):
                    thread = f"{user}/t{number}"
                    right[keys.by_thread_status(status, thread)] = [
                        p.ref for p in prompts if (p.status, p.thread) == (status, thread)
                    ]
        self._threads()
        for user in self._users:
            right[keys.by_user(user)] = [p.ref for p in prompts if p.user == user]
            for number in range(2):
                thread = f"{user}/t{number}"
                of_thread = [p for p in prompts if p.thread == thread]
                right[keys.thread_prompts(thread)] = [p.ref for p in of_thread]
                right[keys.thread_open(thread)] = [p.ref for p in of_thread if not p.status.is_terminal]
        pipe = self._reader.pipeline(transaction=False)
        for key in right:
            pipe.zrange(key, 0, -1)
        for (key, refs), stored in zip(right.items(), pipe.execute(), strict=True):
            assert [ref.decode() for ref in stored] == refs, key
        for status in Status:
            ended = {p.ref for p in prompts if p.status is status and status.is_terminal}
            assert _texts(self._reader.zrange(keys.ended(status), 0, -1)) == ended, status
        self._names(keys.owner(), keys.owners, {(p.ref.split("/")[1], p.user) for p in prompts})
        self._names(keys.thread_owner(), keys.thread_owners, {(p.thread.split("/")[1], p.user) for p in prompts})

    def _names(self, first: str, others: Callable[[str], str], right: set[tuple[str, str]]) -> None:
        """Whoever uses a name is found by it, once."""
        stored = [(name.decode(), user.decode()) for name, user in self._reader.hgetall(first).items()]
        assert {name for name, _ in stored} == {name for name, _ in right}
        for name in [name for name, _ in stored]:
            stored += [(name, user.decode()) for user in self._reader.zrange(others(name), 0, -1)]
        assert sorted(stored) == sorted(right)

    def _threads(self) -> None:
        """Threads and their messages: each prompt's once, its answer once, in order."""
        model, keys = self._model, self._keys
        threads = [f"{user}/t{number}" for user in self._users for number in range(2)]
        pipe = self._reader.pipeline(transaction=False)
        for thread in threads:
            pipe.hmget(keys.thread(thread), "created", "conversation", "place")
            pipe.zscore(keys.threads(thread[: -len("/t0")]), thread[-len("t0") :])
            pipe.zrange(keys.thread_messages(thread), 0, -1, withscores=True)
        rows = iter(pipe.execute())
        for thread in threads:
            (created, conversation, place), listed, messages = next(rows), next(rows), next(rows)
            assert (created is not None) == (listed is not None) == (thread in model.threads), thread
            assert (conversation is not None) == model.threads.get(thread, False), thread
            assert int(place or 0) == model.places.get(thread, 0), thread
            right = sorted((m.order, key) for key, m in model.messages.items() if m.thread == thread)
            user = thread.split("/")[0]
            assert [(int(order), f"{user}/{message.decode()}") for message, order in messages] == right, thread

    def messages(self) -> None:
        """No message is left of anything that is gone."""
        refs = {key.decode().split(":m:", 1)[1] for key in self._reader.scan_iter(self._keys.message("*"))}
        assert refs == set(self._model.messages)

    def _events(self) -> None:
        """Those who listen get every event, the others cost nothing."""
        for user in self._users:
            rows = self._reader.xrange(self._keys.events(user))
            stored = [
                (f[b"name"].decode(), (f.get(b"promptId") or f[b"threadId"]).decode(), _text(f.get(b"error")))
                for _, f in rows
            ]
            right = self._model.events.get(user, [])
            # The oldest are cut off beyond a thousand.
            assert stored == right[len(right) - len(stored) :]
            assert len(stored) >= min(len(right), 1000)

    def log(self, prompt: ModelPrompt) -> None:
        """A whole log: the entries, and exactly one end if and only if the prompt has ended."""
        entries = self._reader.xrange(self._keys.log(prompt.ref))
        stored = [None if fields[b"k"] == b"end" else fields[b"t"].decode() for _, fields in entries]
        assert stored == prompt.log
        assert stored.count(None) == (1 if prompt.status in TERMINAL else 0)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _texts(members: list[bytes]) -> set[str]:
    return {member.decode() for member in members}
