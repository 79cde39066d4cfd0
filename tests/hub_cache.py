"""A model as huggingface_hub keeps it on disk, found there without a network."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import huggingface_hub
import pytest

from tests.unit.tokenizers_for_tests import byte_fallback

MODEL_ID = "org/shared"
REVISION = "v2"
COMMIT = "c" * 40
CONTEXT_TOKENS = 77


def write_model(download_dir: Path) -> Path:
    """Its snapshot, as vLLM's ``download_dir`` has it. A folder of its own: no other place knows the model."""
    repository = download_dir / f"models--{MODEL_ID.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / REVISION).write_text(COMMIT)
    (snapshot / "config.json").write_text(json.dumps({"max_position_embeddings": CONTEXT_TOKENS}))
    (snapshot / "tokenizer.json").write_text(byte_fallback().to_str())
    (snapshot / "model.safetensors").write_bytes(b"weights")
    return snapshot


def without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not on disk is not found, at once."""
    local = partial(huggingface_hub.snapshot_download, local_files_only=True)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", local)
