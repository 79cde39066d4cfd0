"""Where the files of a catalogue entry are, and what the ingress needs of them: tokenizer, chat template, context."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, Protocol

from tokenizers import Tokenizer

from deployments.local.embedded_model import NAME as EMBEDDED_NAME
from deployments.local.embedded_model import PAINTER, PAINTER_SOURCE
from deployments.local.embedded_model import SOURCE as EMBEDDED_SOURCE
from deployments.settings import InvalidSettings, ModelSpec, Settings
from pipeline.engine import Parsing
from pipeline.errors import ClientError, InvalidField
from pipeline.submission import PromptSubmission

#: Longer texts are rendered in a thread, characters; shorter ones take less time than handing them over.
INLINE_CHARACTERS = 4096


class PromptTooLong(ClientError):
    """The prompt does not fit into the model's context."""


class Renderer(Protocol):
    """Turns prompts into token ids as the model's engine does."""

    tokenizer: Tokenizer

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> tuple[int, ...]: ...

    def render_text(self, text: str) -> tuple[int, ...]: ...


def model_source(spec: ModelSpec, settings: Settings) -> str:
    """What an engine loads: a directory, or a Hugging Face id. Raises InvalidSettings for an embedded model there is not."""
    if not spec.source.startswith("embedded:"):
        return spec.source
    if spec.source == PAINTER_SOURCE:
        # It is part of the code; nothing is made of it at the first start.
        return str(PAINTER)
    if spec.source != EMBEDDED_SOURCE:
        allowed = sorted((EMBEDDED_SOURCE, PAINTER_SOURCE))
        raise InvalidSettings(f"models: source: got {spec.source!r}, allowed is one of {allowed}, an id or a path")
    models = Path(settings.models_dir or Path(settings.data_dir) / "models")
    return str(models.absolute() / EMBEDDED_NAME)


class ModelText:
    """Renders and measures prompts for one model."""

    def __init__(self, spec: ModelSpec, renderer: Renderer, context_tokens: int) -> None:
        self._spec = spec
        self._renderer = renderer
        self.context_tokens = context_tokens

    @classmethod
    def open(cls, spec: ModelSpec, settings: Settings) -> ModelText:
        """Load the tokenizer; blocks for up to a second, longer if it has to be downloaded."""
        if spec.engine == "scripted":
            from deployments.engines.scripted import ScriptedRenderer

            return cls(spec, ScriptedRenderer(), spec.context_tokens or 4096)
        from deployments.engines.rendering import PromptRenderer, model_files

        directory = model_files(
            model_source(spec, settings),
            revision=spec.engine_args.get("revision"),
            download_dir=spec.engine_args.get("download_dir"),
        )
        return cls(spec, PromptRenderer(directory), _context_tokens(spec, directory))

    @property
    def render_chat(self) -> Callable[[Sequence[Mapping[str, Any]]], tuple[int, ...]]:
        """Token ids of messages through the model's chat template, however many. Raises ClientError if it refuses them."""
        return self._renderer.render_chat

    @property
    def vocabulary(self) -> int:
        """Ids of tokens are below it."""
        return self._renderer.tokenizer.get_vocab_size()

    @cached_property
    def tokens(self) -> bytes:
        """Digest of the vocabulary: the same for models to which every id means the same token. Made when first asked for, which
        takes tenths of a second."""
        vocabulary = self._renderer.tokenizer.get_vocab(with_added_tokens=True)
        digest = hashlib.sha256()
        for token, token_id in sorted(vocabulary.items(), key=itemgetter(1)):
            digest.update(f"{token_id}\0{token}\0".encode())
        return digest.digest()

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of a prompt's ids. Raises InvalidField if the model knows no such ids."""
        return self._renderer.tokenizer.decode(self._checked(token_ids), skip_special_tokens=False)

    async def render(self, submission: PromptSubmission) -> tuple[int, ...]:
        """Token ids of the prompt or of the chat it ends, in the client's template or the model's own.

        Raises:
            PromptTooLong: no token of an answer would fit behind it.
            ClientError: the model's template refuses it, or the client's has a variable without a value.
        """
        if submission.characters > INLINE_CHARACTERS:
            token_ids = await asyncio.to_thread(self._render, submission)
        else:
            token_ids = self._render(submission)
        if len(token_ids) >= self.context_tokens:
            raise PromptTooLong(
                f"prompt: got {len(token_ids)} tokens, allowed is at most {self.context_tokens - 1} "
                f"for the model {self._spec.id}"
            )
        return token_ids

    def _render(self, submission: PromptSubmission) -> tuple[int, ...]:
        if submission.prompt_token_ids is not None:
            return self._checked(submission.prompt_token_ids)
        if submission.messages is not None:
            parsing = submission.sampling.parsing or Parsing()
            return self._renderer.render_chat(
                submission.messages, tools=parsing.tools, variables=parsing.template_variables
            )
        text = submission.text
        if text is not None:
            return self._renderer.render_text(text)
        return self._renderer.render_chat([{"role": "user", "content": submission.prompt}])

    def _checked(self, token_ids: Sequence[int]) -> tuple[int, ...]:
        for token_id in token_ids:
            if not 0 <= token_id < self.vocabulary:
                raise InvalidField("prompt", token_id, f"token ids from 0 to {self.vocabulary - 1}")
        return tuple(token_ids)


def _context_tokens(spec: ModelSpec, directory: Path) -> int:
    if spec.context_tokens:
        return spec.context_tokens
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    trained = config.get("max_position_embeddings") or config.get("text_config", {}).get("max_position_embeddings")
    if not trained:
        raise InvalidSettings(f"models: {spec.id} does not say how long its context is; set context_tokens")
    return int(trained)
