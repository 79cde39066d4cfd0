"""What the store must hold, key by key, when it agrees with the model of the queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.states import TERMINAL, Status
from pipeline.store.keys import Keys
from tests.integration.queue_model import ModelPrompt, QueueModel


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
            pipe.xlen(keys.log(p.ref))
            pipe.xrevrange(keys.log(p.ref), count=1)
        rows = iter(pipe.execute())
        for p in prompts:
            fields, length, last = next(rows), next(rows), next(rows)
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
        pipe.hmget(keys.stats(self._model_id), "waiting", "permits", "turn", "stale_rejected")
        pipe.zrevrange(keys.priorities(self._model_id), 0, -1)
        leases, due, replicas, permits, stats, priorities = pipe.execute()
        assert _texts(leases) == model.leases
        assert _texts(due) == model.due
        assert _texts(replicas) == set(model.replicas)
        assert {k.decode(): int(v) for k, v in permits.items()} == {k: r.permits for k, r in model.replicas.items()}
        assert [int(number or 0) for number in stats] == [
            len(model.waiting),
            sum(replica.permits for replica in model.replicas.values()),
            model.turn,
            model.stale_rejected,
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

    def _events(self) -> None:
        """Those who listen get every event, the others cost nothing."""
        for user in self._users:
            rows = self._reader.xrange(self._keys.events(user))
            stored = [(f[b"name"].decode(), f[b"promptId"].decode(), _text(f.get(b"error"))) for _, f in rows]
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
