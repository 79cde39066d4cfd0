"""Bursts, a sawtooth and draining with kills in between, on the real application: what Serve decided, when, and what the prompts
noticed of it.

    python -m tests.chaos.scaling scripted        four replicas of the scripted engine
    python -m tests.chaos.scaling vllm            two of vLLM with the embedded model

Writes benchmarks/results/scaling-<engine>.json and the page made of them, benchmarks/results/scaling.md.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import redis

from deployments.engines.scripted import ScriptedRenderer, expected_answer
from deployments.ingress.prompt_request import parse_prompt_request
from deployments.local.processes import ProcessId
from deployments.settings import deployment_name
from pipeline.store.keys import Keys
from tests.chaos.client import register
from tests.chaos.faults import _title
from tests.chaos.redeploy import redeploy
from tests.chaos.scaling_plan import ANSWER_TOKENS, MODELS, PLANS, Plan, changed, config, replacing
from tests.chaos.scaling_report import Measured, publish
from tests.chaos.serve_scaling import Moment, ScalingWatch
from tests.chaos.serve_status import ServeWatch
from tests.service import Service, running_service


@dataclass(slots=True)
class Seen:
    """What a prompt went through."""

    fences: set[int] = field(default_factory=set)


class ScalingRun:
    def __init__(self, plan: Plan, service: Service) -> None:
        self.plan = plan
        self.model = MODELS[plan.engine]
        self.service = service
        self.watch = ScalingWatch(service.record.ray_address, deployment_name(self.model))
        self.store: Any = redis.Redis.from_url(service.record.redis_url)
        self.keys = Keys("ps")
        ((self.user, token),) = register(service.url, 1)
        headers = {"Authorization": f"Bearer {token}"}
        self.http = httpx.AsyncClient(base_url=service.url, headers=headers, timeout=60)
        self.seen: dict[str, Seen] = {}
        self._numbers = iter(range(10**6))

    # --- what happens

    async def burst(self) -> Measured:
        """Everything at once on a model that has no replica; the last of each replica's share are long."""
        plan = self.plan
        needed = plan.most
        began = time.time()
        sizes = [
            plan.long if n % plan.permits >= plan.permits - 2 else plan.short for n in range(needed * plan.permits)
        ]
        refs = await self._submit(sizes)
        await self._until(lambda: self.watch.last.target == needed, 30, "the target")
        decided = next(m.at for m in self.watch.since(began) if m.target == needed)
        await self._until(lambda: self.watch.last.running == needed, plan.start_patience, "the replicas")
        return Measured(
            name="burst",
            facts={
                "prompts": len(refs),
                "replicas needed": needed,
                "decided after, s": round(decided - began, 2),
                "all running after, s": round(self.watch.last.at - began, 1),
            },
            refs=refs,
        )

    async def drain(self, refs: Sequence[str]) -> Measured:
        """The short answers end, replicas are taken away under the long ones, and a router and a replica are killed meanwhile."""
        await self._until(lambda: self.watch.last.target < self.plan.most, 120, "a lower target")
        lower = self.watch.last
        under = sum(bool(self._field(ref, "holder")) for ref in refs)
        self._kill("Router")
        await self._until(lambda: self.watch.last.running < self.plan.most, 60, "a replica to go")
        # Those that leave have handed back what they could not finish and are gone; now one of the others dies.
        name = deployment_name(self.model)
        await self._until(
            lambda: len(self._replicas(name)) <= self.watch.last.target, 60, "the replicas that leave to end"
        )
        victims = self._kill(name)
        await self._end_of(refs, 300)
        fields = [self.store.hmget(self.keys.prompt(ref), "crashes", "failures") for ref in refs]
        return Measured(
            name="drain with kills",
            facts={
                "replicas before, after": f"{self.plan.most}, {lower.target}",
                "prompts running when it was decided": under,
                "attempts given out again": sum(len(self.seen[ref].fences) - 1 for ref in refs),
                "killed": f"a router, {victims} model replica",
                "crashes counted": sum(int(crashes) for crashes, _ in fields),
                "retries charged": sum(int(failures) for _, failures in fields),
                "answers wrong or missing": await self._wrong(refs),
            },
            refs=refs,
        )

    async def sawtooth(self) -> Measured:
        """Teeth that are gone before the delay is over."""
        plan = self.plan
        size = plan.permits + plan.permits // 2
        # The first one brings replicas up.
        refs = await self._submit([plan.tooth] * size)
        await self._until(lambda: self.watch.last.running == 2, plan.start_patience, "two replicas")
        began = time.time()
        for _ in range(plan.teeth):
            refs += await self._submit([plan.tooth] * size)
            await asyncio.sleep(plan.tooth_every)
        await self._end_of(refs, 120)
        ended = time.time()
        targets = [moment.target for moment in self.watch.since(began) if moment.at <= ended]
        return Measured(
            name="sawtooth",
            facts={
                "teeth": f"{plan.teeth}, one every {plan.tooth_every:g} s, of {size} prompts",
                "changes of the target meanwhile": sum(a != b for a, b in pairwise(targets)),
                "answers wrong or missing": await self._wrong(refs),
            },
            refs=refs,
        )

    async def to_zero(self, after: Measured) -> Measured:
        """Nothing is left to do."""
        ended = time.time()
        await self._until(lambda: self.watch.last.target == 0, 120, "no replica wanted")
        decided = next(m.at for m in self.watch.since(ended) if m.target == 0)
        await self._until(lambda: self.watch.last.running == 0, 60, "no replica")
        await self._until(lambda: not self.store.exists(self.keys.replicas(self.model)), 60, "no replica registered")
        # An average over a while, which goes on when the last request has ended.
        await self._until(lambda: round(self.watch.last.requests) == 0, 60, "no request in Serve's handles")
        names = ("waiting", "blocked", "permits", "extra")
        stats = self.store.hmget(self.keys.stats(self.model), *names)
        left = {name: int(value or 0) for name, value in zip(names, stats, strict=True)}
        left["leases"] = self.store.zcard(self.keys.leases(self.model))
        left["permits in use"] = sum(int(n) for n in self.store.hvals(self.keys.used(self.model)))
        left["requests in Serve's handles"] = round(self.watch.last.requests)
        return Measured(
            name=f"back to none after the {after.name}",
            facts={
                "decided after the last end, s": round(decided - ended, 1),
                "configured, s": f"{self.plan.down_after:g} to one, {self.plan.zero_after:g} to none",
                "left": ", ".join(f"{name} {count}" for name, count in left.items()),
            },
            refs=(),
        )

    async def hot_change(self, path: Path) -> Measured:
        """Another split and one replica at most, by a deploy of the changed file while two replicas run."""
        serve = ServeWatch(self.service.record.ray_address)
        refs = await self._submit([self.plan.short] * (2 * self.plan.permits))
        await self._until(lambda: self.watch.last.running == 2, self.plan.start_patience, "two replicas")
        before = set((await asyncio.to_thread(serve.ask)).replicas.values())
        began = time.monotonic()
        await asyncio.to_thread(redeploy, self.service.record.ray_address, changed(path, self.model))
        body = {"prompt": "hi", "modelId": "hot", "parameters": {"textToText": {"maxTokens": 2}}}
        # Either ingress replica may answer; both have to know.
        known = 0
        while known < 8:
            known = known + 1 if (await self.http.post("/prompt-svc/prompt", json=body)).status_code == 200 else 0
            assert time.monotonic() - began < 60, "the split did not come into force"
        seconds = time.monotonic() - began
        await self._until(lambda: self.watch.last.target == 1, 30, "the one replica that is allowed now")
        await self._until(lambda: self.watch.last.running == 1, 60, "one replica")
        after = set((await asyncio.to_thread(serve.ask)).replicas.values())
        serve.close()
        await self._end_of(refs, 300)
        return Measured(
            name="hot change of a split and of max_replicas, from two to one",
            facts={
                "in force after, s": round(seconds, 1),
                "replicas that stayed": f"{len(before & after)} of {len(before)}",
                "attempts given out again": sum(len(self.seen[ref].fences) - 1 for ref in refs),
                "answers wrong or missing": await self._wrong(refs),
            },
            refs=refs,
        )

    async def rolling_update(self, path: Path) -> Measured:
        """The one replica that runs is replaced under its prompts."""
        serve = ServeWatch(self.service.record.ray_address)
        refs = await self._submit([self.plan.long] * self.plan.permits)
        await self._until(lambda: self.watch.last.running == 1, self.plan.start_patience, "a replica")
        await self._until(lambda: all(self._field(ref, "holder") for ref in refs), 60, "all prompts to run")
        before = set((await asyncio.to_thread(serve.ask)).replicas.values())
        await asyncio.to_thread(redeploy, self.service.record.ray_address, replacing(path, self.model))
        began, after = time.monotonic(), before
        while not before - after:
            assert time.monotonic() - began < self.plan.start_patience, "the update replaced no replica"
            await asyncio.sleep(0.5)
            after = set((await asyncio.to_thread(serve.ask)).replicas.values())
        await self._end_of(refs, 300)
        after = set((await asyncio.to_thread(serve.ask)).replicas.values())
        serve.close()
        fields = [self.store.hmget(self.keys.prompt(ref), "crashes", "failures") for ref in refs]
        return Measured(
            name="rolling update",
            facts={
                "replicas replaced": f"{len(before - after)} of {len(before)}",
                "prompts that ran": len(refs),
                "attempts given out again": sum(len(self.seen[ref].fences) - 1 for ref in refs),
                "crashes counted": sum(int(crashes) for crashes, _ in fields),
                "retries charged": sum(int(failures) for _, failures in fields),
                "answers wrong or missing": await self._wrong(refs),
            },
            refs=refs,
        )

    # --- parts

    async def _submit(self, sizes: Sequence[int]) -> list[str]:
        async def submit(number: int, tokens: int) -> str:
            body = self._body(number, tokens)
            (await self.http.post("/prompt-svc/prompt", json=body)).raise_for_status()
            return f"{self.user}/{body['id']}"

        refs = await asyncio.gather(*(submit(next(self._numbers), tokens) for tokens in sizes))
        self.seen |= {ref: Seen() for ref in refs}
        return list(refs)

    def _body(self, number: int, tokens: int) -> dict[str, Any]:
        return {
            "id": f"p{number}-{tokens}",
            "prompt": f"Tell me a story about the number {number}",
            "modelId": self.model,
            "parameters": {"textToText": {"maxTokens": tokens, "temperature": 0}},
        }

    async def _end_of(self, refs: Sequence[str], patience_s: float) -> None:
        await self._until(
            lambda: all(self._field(ref, "status") in (b"completed", b"abandoned") for ref in refs),
            patience_s,
            "the end of all prompts",
        )

    async def _wrong(self, refs: Sequence[str]) -> int:
        """Answers that are not what an undisturbed run gives, or differ from what a subscriber got to see."""
        return sum([await self._is_wrong(ref) for ref in refs])

    async def _is_wrong(self, ref: str) -> bool:
        prompt_id = ref.split("/", 1)[1]
        number, tokens = (int(part) for part in re.findall(r"\d+", prompt_id))
        answer = (await self.http.get(f"/prompt-svc/prompt/{prompt_id}")).json()
        message = answer.get("responseMessage")
        if message is None:
            return True
        entries = [entry for _, entry in self.store.xrange(self.keys.log(ref))]
        streamed = b"".join(entry.get(b"t", b"") for entry in entries).decode()
        ends = sum(entry[b"k"] == b"end" for entry in entries)
        restarts = sum(entry[b"k"] == b"restart" for entry in entries)
        if streamed != message["text"] or ends != 1 or restarts:
            return True
        if self.plan.engine == "scripted":
            request = self._body(number, tokens)
            rendered = ScriptedRenderer().render_chat([{"role": "user", "content": request["prompt"]}])
            sampling = parse_prompt_request(request).sampling
            return bool(message["text"] != expected_answer(rendered, sampling, answer_tokens=ANSWER_TOKENS)[0])
        return bool(message["meta"]["completionTokens"] > tokens or not message["text"])

    def _kill(self, deployment: str) -> int:
        """kill -9 of one replica of a deployment; returns how many that were."""
        victims = self._replicas(deployment)[:1]
        for victim in victims:
            os.kill(victim.pid, signal.SIGKILL)
        return len(victims)

    def _replicas(self, deployment: str) -> list[ProcessId]:
        """The processes of a deployment's replicas, also of those that are leaving."""
        title = re.compile(rf"ray::ServeReplica:prompt-svc:{re.escape(deployment)}")
        return [process for process in self.service.processes() if title.match(_title(process))]

    def _field(self, ref: str, name: str) -> bytes:
        return self.store.hget(self.keys.prompt(ref), name) or b""

    async def _until(self, condition: Callable[[], Any], patience_s: float, what: str) -> None:
        deadline = time.monotonic() + patience_s
        while not condition():
            self._look()
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {patience_s:g} s in vain for {what}; {self.watch.last}")
            await asyncio.sleep(0.05)

    def _look(self) -> None:
        """Note which attempts there have been."""
        pipe = self.store.pipeline(transaction=False)
        refs = list(self.seen)
        for ref in refs:
            pipe.hget(self.keys.prompt(ref), "fence")
        for ref, fence in zip(refs, pipe.execute(), strict=True):
            if fence and int(fence):
                self.seen[ref].fences.add(int(fence))

    async def close(self) -> None:
        await self.http.aclose()
        self.watch.close()
        self.store.close()


async def measure(plan: Plan, service: Service, path: Path) -> tuple[list[Measured], list[Moment]]:
    run = ScalingRun(plan, service)
    try:
        await asyncio.to_thread(lambda: _wait_for_watch(run.watch))
        measured = [await run.burst()]
        measured.append(await run.drain(measured[0].refs))
        measured.append(await run.to_zero(measured[-1]))
        if plan.teeth:
            measured.append(await run.sawtooth())
            measured.append(await run.to_zero(measured[-1]))
        measured.append(await run.hot_change(path))
        measured.append(await run.rolling_update(path.with_name("changed.yaml")))
        measured.append(await run.to_zero(measured[-1]))
        return measured, run.watch.moments
    finally:
        await run.close()


def _wait_for_watch(watch: ScalingWatch) -> None:
    deadline = time.monotonic() + 60
    while not watch.moments:
        if time.monotonic() > deadline:
            raise TimeoutError("Serve did not say how many replicas there are")
        time.sleep(0.1)


def main(engine: str) -> None:
    # For the service's Ray, and for whom we ask about it: nothing of the developer's own.
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    for name in ("RAY_ADDRESS", "REDIS_URL"):
        os.environ.pop(name, None)
    plan = PLANS[engine]
    with tempfile.TemporaryDirectory(prefix="pss-") as folder:
        file = config(plan, Path(folder))
        with running_service(Path(folder) / "data", config=file) as service:
            measured, moments = asyncio.run(measure(plan, service, file))
    print(json.dumps([{one.name: one.facts} for one in measured], indent=1))
    publish(engine, measured, moments, machine=f"{os.cpu_count()} cores, Python {platform.python_version()}")


if __name__ == "__main__":
    main(sys.argv[1])
