"""What the service says, as Python objects.

They are made here, from JSON values: nothing of them crosses to the service, so that client and service may be of different
versions. Keys this version does not know stay in ``raw``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from clients.errors import ServiceFailed

#: Statuses behind which no other comes.
FINAL = frozenset({"completed", "abandoned", "canceled"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A prompt and what has become of it so far."""

    prompt_id: str
    thread_id: str
    #: ``scheduled``, ``running``, ``errored`` (will be retried), ``completed``, ``abandoned`` (failed for good) or ``canceled``.
    status: str
    #: The model that runs it, which may be another one than was named.
    model_id: str
    #: The answer; None until it is completed.
    text: str | None = None
    #: Files of the answer: images that were made.
    file_ids: tuple[str, ...] = ()
    #: Id of the answer's chat message.
    message_id: str | None = None
    #: ``stop``, ``length`` or ``tool_calls``.
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    #: Why it failed, if it did.
    error: str | None = None
    #: Where it waits in the queue, 1 is next.
    queue_position: int | None = None
    #: False: the id had been used before, and this is what is stored. None: not said.
    is_new: bool | None = None
    #: Everything the service said.
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Self:
        """From the answer to a submission or a look at a prompt, by HTTP or through a handle.

        Raises:
            ServiceFailed: it is not one.
        """
        try:
            prompt = said["prompt"]
            message = said.get("responseMessage") or {}
            meta = message.get("meta") or {}
            return cls(
                prompt_id=prompt["id"],
                thread_id=prompt["threadId"],
                status=prompt["status"],
                model_id=prompt["modelId"],
                text=message.get("text"),
                file_ids=tuple(message.get("fileIds") or ()),
                message_id=prompt.get("responseMessageId") or None,
                finish_reason=meta.get("finishReason"),
                prompt_tokens=int(meta.get("promptTokens") or 0),
                completion_tokens=int(meta.get("completionTokens") or 0),
                error=prompt.get("error"),
                queue_position=said.get("queuePosition"),
                is_new=said.get("isNew"),
                raw=said,
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ServiceFailed(
                f"the service's answer is not one of a prompt ({type(error).__name__}); is it another version?"
            ) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One step of an answer as it is written."""

    #: 1, 2, 3 …: where a stream can be resumed.
    number: int
    #: ``content``: ``text`` goes behind what came before. ``restart``: forget what came before. ``end``: the last one, whose
    #: text belongs to the answer too. Others (``step``, ``usage``, …) can be skipped.
    kind: str
    text: str = ""
    #: Which of several answers it belongs to.
    choice: int = 0
    #: Of the end: ``stop``, ``length``, ``tool_calls``, ``canceled`` or ``error``.
    finish_reason: str | None = None
    #: Of the end: what went wrong.
    error: str | None = None
    #: Of the end: id of the answer's chat message.
    message_id: str | None = None
    #: Everything the service said.
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_end(self) -> bool:
        return self.kind == "end"

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Self:
        """Raises ServiceFailed: it is not an entry."""
        try:
            return cls(
                number=int(said["number"]),
                kind=said["kind"],
                text=said.get("text", ""),
                choice=said.get("choice", 0),
                finish_reason=said.get("finishReason"),
                error=said.get("error"),
                message_id=said.get("messageId"),
                raw=said,
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ServiceFailed(
                f"the service streams what this client does not understand ({type(error).__name__})"
            ) from None
