"""The seam between an attempt and whatever generates: small protocols, and the requests they take.

Implementations: ``deployments.engines.vllm``, ``deployments.engines.diffusers``, ``deployments.engines.scripted`` (deterministic,
for unit and chaos tests only).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from PIL.Image import Image

from pipeline.delta import Delta
from pipeline.image_parameters import ImageParameters


@dataclass(frozen=True, kw_only=True, slots=True)
class Parsing:
    """That an answer is taken apart before it is logged, into what the model thinks, says, and calls of tools; with the parsers
    that the catalogue names for the model."""

    #: Tools that the model may call, as the OpenAI API describes them: ``{"type": "function", "function": {"name", …}}``.
    tools: tuple[Mapping[str, Any], ...] = ()
    #: ``auto``, ``required``, or the one tool that is to be called.
    tool_choice: str | Mapping[str, Any] = "auto"
    #: Whether it may call several.
    parallel_tool_calls: bool = True
    #: What the chat template was told beside the messages, which some parsers go by.
    template_variables: Mapping[str, Any] = field(default_factory=dict)

    @property
    def auto_tools(self) -> bool:
        """Whether the model calls tools of its own accord, in its own form: only a parser of that form reads it."""
        return bool(self.tools) and self.tool_choice == "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingParameters:
    """How a text answer is sampled. Defaults and ranges: DESIGN §5; names as in vLLM's ``SamplingParams``."""

    #: Most tokens to generate, ≥ 1.
    max_tokens: int = 512
    #: 0 is greedy.
    temperature: float = 0.7
    top_p: float = 1.0
    #: Sample from the k likeliest tokens; 0 means all.
    top_k: int = 0
    #: Strings that end the answer; they are not part of it.
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    #: Divides the logits of what prompt and answer already hold; 1 is none. A prefix has all it needs, so it is resumed from.
    repetition_penalty: float = 1.0
    #: The answer is a JSON text valid under this schema.
    json_schema: Mapping[str, Any] | None = None
    #: Added to the logits of these tokens: id and -100 to 100.
    logit_bias: tuple[tuple[int, float], ...] = ()
    #: Every token of the text with how likely it was, and with so many of the likeliest, 0..20. None: not wanted.
    logprobs: int | None = None
    #: The form of an answer with calls of tools (xgrammar's structural tag). Made by parsers, never by clients.
    structural_tag: str | None = None
    #: Whether special tokens are left out of the text. Some parsers go by them.
    skip_special_tokens: bool = True
    #: None: the answer is one text.
    parsing: Parsing | None = None

    @property
    def needs_replay(self) -> bool:
        """Whether the state of the sampler cannot be rebuilt from a prefix, so that a resumed attempt must be forced
        through the logged ids again (DESIGN §3, Resume)."""
        return (
            self.json_schema is not None
            or self.structural_tag is not None
            or (self.seed is not None and self.temperature > 0)
            or self.presence_penalty != 0
            or self.frequency_penalty != 0
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRequest:
    """One attempt at a text answer."""

    #: Unique per attempt, safe to log.
    request_id: str
    #: The rendered prompt.
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParameters = field(default_factory=SamplingParameters)
    #: Ids that earlier attempts generated and the log keeps; the engine goes on behind them and yields only what is new.
    logged_token_ids: tuple[int, ...] = ()
    #: Text that earlier attempts published; a prefix of what ``logged_token_ids`` decode to.
    logged_text: str = ""
    #: All that earlier attempts logged, for an answer that is taken apart.
    logged: tuple[Delta, ...] = ()


class Engine(Protocol):
    """Generates answers. One object serves many requests at once."""

    #: Changes whenever the same prompt ids could mean another text or another model: ids logged under another
    #: fingerprint are not resumed from.
    fingerprint: str

    def generate(self, request: TextRequest) -> AsyncGenerator[Delta, None]:
        """Yield deltas, the last one of kind END. Closing the iterator aborts the request in the engine.

        Raises:
            PermanentEngineError: the request can never succeed.
            EngineError: this attempt failed, another may not.
            EngineDead: the process must be replaced.
        """
        ...

    async def abort(self, request_id: str) -> None:
        """Stop a request; its iterator ends with EngineError or is closed by its owner. Unknown ids are ignored."""
        ...

    async def check_health(self) -> None:
        """Raise EngineDead if the engine cannot serve."""
        ...

    async def shutdown(self) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRequest:
    """One attempt at pictures."""

    #: Unique per attempt, safe to log.
    request_id: str
    parameters: ImageParameters
    #: The picture to start from, RGB; only for the task IMAGE.
    source: Image | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PaintStep:
    """So much of all pictures of a request is painted."""

    #: Denoising steps, of all pictures together.
    step: int
    steps: int
    #: A small WebP of what there is to see, at times; a few kilobytes.
    preview: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class Painted:
    """A picture is ready."""

    #: Which of the request's pictures, from 0.
    index: int
    seed: int
    #: Exactly of the size that was asked for (before upscaling).
    image: Image
    #: What the pipeline used, as ``Sampler`` names it where it does.
    scheduler: str = ""
    #: How long the calls of the pipeline took that this request had a part in, up to now.
    seconds: float = 0.0
    #: The text had more words than the model reads.
    cut_short: bool = False


class Painter(Protocol):
    """Paints pictures. One object serves many requests at once."""

    #: As ``Engine.fingerprint``.
    fingerprint: str

    def paint(self, request: ImageRequest) -> AsyncGenerator[PaintStep | Painted, None]:
        """Yield what happens; it ends when every picture was yielded. Closing the iterator withdraws the request: what is still
        to be painted of it is not begun, and a call that nobody else waits for stops at its next step.

        Raises:
            As ``Engine.generate``.
        """
        ...

    async def check_health(self) -> None:
        """Raise EngineDead if the engine cannot serve."""
        ...

    async def shutdown(self) -> None: ...
