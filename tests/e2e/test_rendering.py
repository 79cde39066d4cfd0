"""Ingress replicas render without transformers' tokenizer classes, and get the ids that those give."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.engines.rendering import PromptRenderer
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
