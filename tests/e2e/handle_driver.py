"""A Ray driver that uses the service through its handle, as a job does; ``test_jobs.py`` runs it and reads what it prints."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import ray

from clients.answer import Answer
from clients.errors import Refused
from clients.handle import AsyncPromptHandle, PromptHandle

CAPITAL = {"prompt": "What is the capital of France?", "parameters": {"textToText": {"temperature": 0}}}
SLOW = {"prompt": "count", "modelId": "test/slow"}


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


@ray.remote(num_cpus=0)
class Asker:
    """An asynchronous actor with the handle it was given."""

    def __init__(self, prompts: AsyncPromptHandle) -> None:
        self._prompts = prompts

    async def ask(self) -> list[Answer]:
        return await asyncio.gather(*(self._prompts.ask(CAPITAL, 60) for _ in range(3)))


@ray.remote(num_cpus=0, max_retries=0)
def wrong(prompts: PromptHandle) -> None:
    prompts.submit({"prompt": "hi", "priority": 99})


def calls(user: str) -> None:
    prompts = PromptHandle(user=user)
    submitted = prompts.submit({**CAPITAL, "id": "from a job"})
    entries = list(prompts.stream(submitted.prompt_id))
    answer = prompts.wait(submitted.prompt_id)
    say(
        numbers=[entry.number for entry in entries], streamed="".join(entry.text for entry in entries), text=answer.text
    )
    say(actor=[found.text for found in ray.get(Asker.remote(AsyncPromptHandle(user=user)).ask.remote())])
    try:
        ray.get(wrong.remote(prompts))
    except Refused as error:
        say(field=error.field, value=error.value, allowed=error.allowed)
    say(own=PromptHandle().submit({**CAPITAL, "id": "of the service"}).raw["prompt"]["userId"])
    slow = prompts.submit(SLOW).prompt_id
    say(canceled=prompts.cancel(slow), final=prompts.wait(slow, 30).status)


def follow() -> None:
    """Stream a slow answer; whoever reads our output kills what answers us meanwhile."""
    prompts = PromptHandle()
    prompt_id = prompts.submit(SLOW).prompt_id
    numbers: list[int] = []
    stream = prompts.stream(prompt_id)
    for entry in stream:
        numbers.append(entry.number)
        say(number=entry.number)
        if sys.stdin.readline() == "enough\n":
            break
    stream.close()  # type: ignore[attr-defined]
    say(numbers=numbers, canceled=prompts.cancel(prompt_id))


if __name__ == "__main__":
    ray.init(log_to_driver=False, logging_level="ERROR")
    calls(sys.argv[2]) if sys.argv[1] == "calls" else follow()
