"""A store of the benchmark's own, and made-up prompts to put into it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deployments.local.valkey import AppendFsync, EmbeddedValkey
from pipeline.engine import SamplingParameters
from pipeline.ids import new_id
from pipeline.prompt import NewPrompt

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
_TEXT = "Write a long and detailed text about a lighthouse keeper who finds a message in a bottle."


@contextmanager
def fresh_store(fsync: AppendFsync) -> Iterator[EmbeddedValkey]:
    """An empty embedded store; its files go when it ends."""
    folder = Path(tempfile.mkdtemp(prefix="psb-store-"))
    try:
        with EmbeddedValkey(folder, appendfsync=fsync) as store:
            yield store
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def made_up_prompt(user: str, *, tokens: int = 48) -> NewPrompt:
    """A prompt of common size in a thread of its own."""
    prompt_id = new_id("prom")
    return NewPrompt(
        id=prompt_id,
        user_id=user,
        thread_id=prompt_id,
        model_id=MODEL,
        prompt=_TEXT,
        prompt_token_ids=tuple(range(1000, 1000 + tokens)),
        sampling=SamplingParameters(max_tokens=64, temperature=0),
    )
