"""The engine knows its model by the files that vLLM has loaded, wherever vLLM was told to keep them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from deployments.engines.fingerprint import model_fingerprint
from deployments.settings import ModelSpec
from tests.hub_cache import CONTEXT_TOKENS, MODEL_ID, REVISION, without_network, write_model
from tests.unit.tokenizers_for_tests import byte_fallback


async def test_a_model_in_a_download_dir_of_its_own_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import PreTrainedTokenizerFast

    from deployments.engines import vllm

    without_network(monkeypatch)
    snapshot = write_model(tmp_path)
    # What the engine has once it has loaded the weights.
    loaded = SimpleNamespace(
        model_config=SimpleNamespace(
            model=MODEL_ID,
            revision=REVISION,
            dtype="float32",
            quantization=None,
            max_model_len=CONTEXT_TOKENS,
            try_get_generation_config=dict,
        ),
        renderer=SimpleNamespace(
            get_tokenizer=lambda: PreTrainedTokenizerFast(tokenizer_object=byte_fallback()),
            get_eos_token_id=lambda: 2,
        ),
        shutdown=lambda: None,
    )
    monkeypatch.setattr(vllm, "_load", lambda _args: (loaded, True))
    args = {"download_dir": str(tmp_path), "revision": REVISION}
    engine = await vllm.VllmEngine.start(ModelSpec(id="m", source=MODEL_ID, engine_args=args), MODEL_ID)
    assert engine.fingerprint == model_fingerprint(snapshot, "float32", "None")
    await engine.shutdown()
