"""The ingress renders from the files that the engine loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from deployments.models import ModelText
from deployments.settings import ModelSpec, Settings
from tests.hub_cache import CONTEXT_TOKENS, MODEL_ID, REVISION, without_network, write_model


def open_text(**engine_args: str) -> ModelText:
    spec = ModelSpec(id="m", source=MODEL_ID, engine_args=engine_args)
    return ModelText.open(spec, Settings.parse({"redis_url": "redis://none.invalid", "models": [spec]}))


def test_a_model_is_where_the_engine_downloads_it_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_network(monkeypatch)
    write_model(tmp_path)
    assert open_text(download_dir=str(tmp_path), revision=REVISION).context_tokens == CONTEXT_TOKENS
    for other in ({"revision": REVISION}, {"download_dir": str(tmp_path)}):
        with pytest.raises(LocalEntryNotFoundError):
            open_text(**other)
