"""What a model is: a short hash that changes whenever the same prompt ids could mean another text or another model."""

from __future__ import annotations

import hashlib
from pathlib import Path

_CONTENT = ("config.json", "generation_config.json", "tokenizer.json")
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")


def model_fingerprint(model_dir: Path, *settings: str) -> str:
    """Hash of a model directory and of the settings that change its numbers (dtype, quantisation), 32 hex digits.

    Weights count with names and sizes only: hashing gigabytes would delay every start. Where there are none (an engine may
    stream them from elsewhere, or make them up), a model of the Hugging Face hub counts with its commit.

    Raises:
        FileNotFoundError: the directory holds no model.
    """
    digest = hashlib.sha256()
    for setting in settings:
        digest.update(f"setting\0{setting}\0".encode())
    for name in _CONTENT:
        path = model_dir / name
        if path.is_file():
            digest.update(f"file\0{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    weights = sorted(path for pattern in _WEIGHTS for path in model_dir.glob(pattern))
    if not weights:
        if not (model_dir / "config.json").is_file():
            raise FileNotFoundError(f"neither weights nor a config.json in {model_dir}")
        if model_dir.parent.name == "snapshots":
            digest.update(f"commit\0{model_dir.name}\0".encode())
    for path in weights:
        digest.update(f"weights\0{path.name}\0{path.stat().st_size}\0".encode())
    return digest.hexdigest()[:32]
