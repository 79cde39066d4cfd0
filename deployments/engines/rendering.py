"""Prompts to token ids: the model's chat template and tokenizer, without torch or vLLM.

HTTP ingress replicas render and count tokens when they accept a prompt. ``tokenizers`` and transformers' template
helper take 0.7 s and 60 MB there; ``AutoTokenizer`` imports torch, for 5 s and 470 MB.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError
from tokenizers import Tokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from deployments.engines.tool_text import tools_as_text
from pipeline.errors import ClientError

#: Special tokens that chat templates may name, keys of tokenizer_config.json.
_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
#: What rendering needs of a model on the Hugging Face hub.
_RENDERING_FILES = ["*.json", "*.jinja", "*.model"]


class CannotRender(ClientError):
    """The model's chat template refuses these messages."""


class PromptRenderer:
    """Gives the ids that ``AutoTokenizer`` of the same directory gives. Safe to share between threads."""

    def __init__(self, model_dir: Path | str) -> None:
        """
        Raises:
            FileNotFoundError: the directory has no tokenizer.json.
        """
        directory = Path(model_dir)
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: the model has no tokenizer.json, so it cannot be served")
        self.tokenizer = Tokenizer.from_file(str(path))
        # A length limit or padding baked into the file is for training batches; transformers drops both, too.
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        config = _tokenizer_config(directory)
        self._template = _chat_template(directory, config)
        self._knows_tools = self._template is not None and "tools" in self._template
        self._special_tokens = {
            name: token for name in _SPECIAL_TOKENS if (token := _token_text(config.get(name))) is not None
        }

    @property
    def has_chat_template(self) -> bool:
        return self._template is not None

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> tuple[int, ...]:
        """Ids of a conversation, ending where the model's answer begins. Special tokens come from the template alone.

        Args:
            tools: that the model may call; a template that knows none is told of them in the system message.
            variables: what the template is told beside, such as ``enable_thinking``.

        Raises:
            CannotRender: the model has no chat template, or it refuses these messages.
        """
        if self._template is None:
            raise CannotRender("the model has no chat template; use a template of your own")
        if not self._knows_tools:
            messages, tools = tools_as_text(messages, tools), ()
        try:
            (text,), _ = render_jinja_template(
                conversations=[[dict(message) for message in messages]],
                tools=[dict(tool) for tool in tools] or None,
                chat_template=self._template,
                add_generation_prompt=True,
                **{**(variables or {}), **self._special_tokens},
            )
        except (TemplateError, TypeError) as error:
            # The template's own words may quote the messages.
            raise CannotRender(f"the model's chat template refuses these messages ({type(error).__name__})") from None
        return tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def render_text(self, text: str) -> tuple[int, ...]:
        """Ids of a text as it stands, with the special tokens the tokenizer adds to any text (as completions have)."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=True).ids)


def model_files(source: str, *, revision: str | None = None, download_dir: str | None = None) -> Path:
    """Directory with at least the tokenizer files of a model: the source itself, or the local copy of a hub model.

    Args:
        revision, download_dir: the engine's arguments of these names: its weights are in the same copy.
    """
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(source, revision=revision, cache_dir=download_dir, allow_patterns=_RENDERING_FILES))


def _tokenizer_config(directory: Path) -> dict[str, Any]:
    path = directory / "tokenizer_config.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _chat_template(directory: Path, config: Mapping[str, Any]) -> str | None:
    """The template of its own file, else of the config, where it may be one of several under the name ``default``."""
    path = directory / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        return next((entry["template"] for entry in template if entry["name"] == "default"), None)
    return template


def _token_text(token: str | Mapping[str, Any] | None) -> str | None:
    return token["content"] if isinstance(token, Mapping) else token
