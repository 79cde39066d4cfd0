"""What a client is told of one prompt: the Prompt object, what belongs beside it, and its answer."""

from __future__ import annotations

from typing import Any

from deployments.ingress import wire
from pipeline.prompt import Prompt
from pipeline.store.connection import translated_errors
from pipeline.store.messages import MessageStore


def prompt_answer(prompt: Prompt, queue_position: int | None) -> dict[str, Any]:
    """Beside the prompt, not in it: the original's Go client takes no key there that it does not know (contract §0.8)."""
    position = {} if queue_position is None else {"queuePosition": queue_position}
    files = {"fileIds": list(prompt.file_ids)} if prompt.file_ids else {}
    routed = {"routed": prompt.routed} if prompt.routed else {}
    return {"prompt": wire.prompt_object(prompt), **position, **files, **routed}


async def with_message(messages: MessageStore, prompt: Prompt, answer: dict[str, Any]) -> dict[str, Any]:
    """``answer`` with the message of a completed prompt beside it. Raises StoreUnavailable."""
    if prompt.message_id:
        with translated_errors():
            message = await messages.get(prompt.user_id, prompt.message_id)
        if message is not None:
            answer["responseMessage"] = wire.message_object(message)
    return answer
