"""Prompts become ids without torch, and templates get no more than they need."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deployments.engines.rendering import CannotRender, PromptRenderer
from deployments.local.embedded_model import ensure


@pytest.fixture(scope="module")
def model(models_dir: Path) -> Path:
    return ensure(models_dir)


@pytest.fixture(scope="module")
def renderer(model: Path) -> PromptRenderer:
    return PromptRenderer(model)


def test_a_chat_is_the_text_of_the_template_and_a_text_stands_for_itself(renderer: PromptRenderer) -> None:
    # tests/e2e/test_rendering.py compares more of it with transformers.
    chat = renderer.render_chat([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
    text = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert chat == renderer.render_text(text)
    assert renderer.tokenizer.decode(list(chat), skip_special_tokens=False) == text


def copy_with_template(model: Path, target: Path, template: str | None) -> PromptRenderer:
    target.joinpath("tokenizer.json").symlink_to(model / "tokenizer.json")
    config = {"bos_token": {"content": "<|im_start|>"}} | ({"chat_template": template} if template else {})
    target.joinpath("tokenizer_config.json").write_text(json.dumps(config))
    return PromptRenderer(target)


def test_a_template_of_the_config_sees_the_special_tokens(model: Path, tmp_path: Path) -> None:
    renderer = copy_with_template(model, tmp_path, "{{ bos_token }}{{ messages[0].content }}")
    assert renderer.render_chat([{"role": "user", "content": "Hi"}]) == renderer.render_text("<|im_start|>Hi")


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('only users: ' + messages[0].content) }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{% syntax",
    ],
)
def test_a_template_that_refuses_or_does_what_it_must_not_is_an_error_without_prompt_text(
    model: Path, tmp_path: Path, template: str
) -> None:
    renderer = copy_with_template(model, tmp_path, template)
    with pytest.raises(CannotRender) as caught:
        renderer.render_chat([{"role": "user", "content": "secret"}])
    assert "secret" not in str(caught.value)


def test_a_model_without_chat_template_renders_texts_only(model: Path, tmp_path: Path) -> None:
    renderer = copy_with_template(model, tmp_path, None)
    assert renderer.render_text("Hi")
    with pytest.raises(CannotRender):
        renderer.render_chat([{"role": "user", "content": "Hi"}])


def test_a_model_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        PromptRenderer(tmp_path)
