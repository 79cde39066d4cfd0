"""The prompt as the store keeps it."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from pipeline.cost import TEXT, to_thousandths
from pipeline.engine import Parsing, SamplingParameters
from pipeline.image_parameters import ImageParameters
from pipeline.retry import DEFAULT_MAX_RETRIES
from pipeline.states import Status


def pack_token_ids(token_ids: Iterable[int]) -> bytes:
    """Four bytes per id, machine order is little-endian on every supported platform."""
    return array("I", token_ids).tobytes()


def unpack_token_ids(packed: bytes) -> tuple[int, ...]:
    return tuple(array("I", packed))


def make_ref(user_id: str, prompt_id: str) -> str:
    """The store's name of a prompt. Ids are the caller's choice, so they are unique per user, not globally: two users may
    both run the document's ``batch_item_0``."""
    return f"{user_id}/{prompt_id}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fallback:
    """The model that runs a prompt when its own fails or has too many waiting, and the prompt as that model gets it."""

    model_id: str
    prompt_token_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class NewPrompt:
    """A validated prompt on its way into the store."""

    id: str
    user_id: str
    thread_id: str
    #: Catalogue id of the model whose queue it joins.
    model_id: str
    prompt: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParameters = field(default_factory=SamplingParameters)
    #: How it is painted, for an image model; its prompt has no token ids.
    image: ImageParameters | None = None
    max_retries: int = DEFAULT_MAX_RETRIES
    #: Higher runs first.
    priority: int = 0
    sync: bool = False
    #: Whether the model gets what was said before in the thread, and the prompt waits until that is complete. None: yes if the
    #: thread was made as a conversation.
    history: bool | None = None
    type: str = ""
    #: Files of the user's that go with it. They stay the user's: erasing the prompt leaves them.
    file_ids: tuple[str, ...] = ()
    #: As the client sent them, echoed in listings.
    parameters: Mapping[str, Any] | None = None
    engine_parameters: Mapping[str, Any] | None = None
    #: What it costs a replica, 1 = an ordinary text prompt (``pipeline.cost``).
    cost: float = TEXT
    #: None: no other model may run it.
    fallback: Fallback | None = None
    #: How its model was chosen, if not by its name: see ``Prompt.routed``.
    routed: str = ""

    @property
    def ref(self) -> str:
        return make_ref(self.user_id, self.id)

    def to_record(self) -> dict[str, str | bytes | int]:
        record: dict[str, str | bytes | int] = {
            "id": self.id,
            "user": self.user_id,
            "thread": self.thread_id,
            "model": self.model_id,
            "prompt": self.prompt,
            "tokens": pack_token_ids(self.prompt_token_ids),
            "sampling": orjson.dumps(self.sampling),
            "max_retries": self.max_retries,
            "priority": self.priority,
            "sync": int(self.sync),
        }
        if self.image is not None:
            record["image"] = self.image.to_record()
        if self.history is not None:
            record["history"] = int(self.history)
        if self.type:
            record["type"] = self.type
        if self.file_ids:
            record["file_ids"] = json.dumps(self.file_ids)
        if self.parameters is not None:
            record["parameters"] = json.dumps(self.parameters)
        if self.engine_parameters is not None:
            record["engine_parameters"] = json.dumps(self.engine_parameters)
        if (cost := to_thousandths(self.cost)) != to_thousandths(TEXT):
            record["cost"] = cost
        if self.fallback is not None:
            record["fallback"] = self.fallback.model_id
            record["fallback_tokens"] = pack_token_ids(self.fallback.prompt_token_ids)
        if self.routed:
            record["routed"] = self.routed
        return record


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A stored prompt. Times are microseconds since the epoch by the store's clock, 0 = never."""

    id: str
    user_id: str
    thread_id: str
    #: Position in its thread, 1 is the first.
    place: int
    model_id: str
    prompt: str
    status: Status
    sync: bool
    priority: int
    type: str
    max_retries: int
    #: Runs started, the first included.
    runs: int
    #: Attempts that ended in an error and count against ``max_retries``.
    failures: int
    #: Attempts that ended with the death of their replica.
    crashes: int
    #: Number of the latest attempt; every write of an attempt carries it.
    fence: int
    error: str
    created_us: int
    updated_us: int
    last_run_us: int
    #: Id of the answer's chat message, empty until completed.
    message_id: str
    parameters: Mapping[str, Any] | None
    engine_parameters: Mapping[str, Any] | None
    #: Files of the user's that go with it; one that was deleted since is still named.
    file_ids: tuple[str, ...] = ()
    #: How its model was chosen, if not by its name: ``split <name>``, or why it was moved to a fallback.
    routed: str = ""

    @property
    def ref(self) -> str:
        return make_ref(self.user_id, self.id)

    @classmethod
    def from_record(cls, record: Mapping[bytes, bytes]) -> Prompt:
        def text(name: str) -> str:
            return record.get(name.encode(), b"").decode()

        def number(name: str) -> int:
            return int(record.get(name.encode(), b"0"))

        def document(name: str) -> Mapping[str, Any] | None:
            raw = record.get(name.encode())
            return None if raw is None else json.loads(raw)

        return cls(
            id=text("id"),
            user_id=text("user"),
            thread_id=text("thread"),
            place=number("place"),
            model_id=text("model"),
            prompt=text("prompt"),
            status=Status(text("status")),
            sync=number("sync") == 1,
            priority=number("priority"),
            type=text("type"),
            max_retries=number("max_retries"),
            runs=number("runs"),
            failures=number("failures"),
            crashes=number("crashes"),
            fence=number("fence"),
            error=text("error"),
            created_us=number("created"),
            updated_us=number("updated"),
            last_run_us=number("last_run"),
            message_id=text("message"),
            parameters=document("parameters"),
            engine_parameters=document("engine_parameters"),
            file_ids=tuple(json.loads(record.get(b"file_ids", b"[]"))),
            routed=text("routed"),
        )


def sampling_from_record(raw: bytes) -> SamplingParameters:
    fields = orjson.loads(raw)
    fields["stop"] = tuple(fields["stop"])
    fields["logit_bias"] = tuple((int(token_id), bias) for token_id, bias in fields.get("logit_bias", ()))
    if fields.get("parsing") is not None:
        fields["parsing"] = Parsing(**{**fields["parsing"], "tools": tuple(fields["parsing"]["tools"])})
    return SamplingParameters(**fields)
