"""Ingress replicas render without transformers' tokenizer classes, and get the ids that those give."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.engines.rendering import CannotRender, PromptRenderer
from deployments.local.embedded_model import ensure

TEXTS = ["Hello", "", "  two  spaces\n\n", "日本語 👩‍👩‍👧 e\u0301", "a<|im_end|>b", "x" * 3000, "{{ 7 * 7 }}"]


@pytest.fixture(scope="module")
def model(models_dir: Path) -> Path:
    return ensure(models_dir)


@pytest.fixture(scope="module")
def renderer(model: Path) -> PromptRenderer:
    return PromptRenderer(model)


@pytest.fixture(scope="module")
def reference(model: Path) -> dict[str, list[list[int]]]:
    """What transformers gives, from a process of its own: it imports torch."""
    program = """
import json, sys
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
texts = json.loads(sys.argv[2])
chats = [[{"role": "user", "content": text}] for text in texts]
chats.append([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
              {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Bye"}])
print(json.dumps({
    "texts": [tokenizer(text)["input_ids"] for text in texts],
    "chats": [tokenizer.apply_chat_template(c, add_generation_prompt=True, return_dict=False) for c in chats],
}))
"""
    command = [sys.executable, "-c", program, str(model), json.dumps(TEXTS)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    return json.loads(output.splitlines()[-1])


def test_texts_have_the_ids_of_transformers(renderer: PromptRenderer, reference: dict[str, list[list[int]]]) -> None:
    assert [list(renderer.render_text(text)) for text in TEXTS] == reference["texts"]


def test_chats_have_the_ids_of_transformers(renderer: PromptRenderer, reference: dict[str, list[list[int]]]) -> None:
    chats = [[{"role": "user", "content": text}] for text in TEXTS]
    chats.append(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "Bye"},
        ]
    )
    assert [list(renderer.render_chat(chat)) for chat in chats] == reference["chats"]


def test_rendering_imports_neither_torch_nor_vllm() -> None:
    program = "import sys, deployments.engines.rendering; sys.exit(bool({'torch', 'vllm', 'ray'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0


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
