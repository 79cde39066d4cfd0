"""The fingerprint changes whenever logged ids could mean something else, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.engines.fingerprint import model_fingerprint


@pytest.fixture
def model(tmp_path: Path) -> Path:
    for name in ("config.json", "generation_config.json", "tokenizer.json", "model.safetensors", "README.md"):
        (tmp_path / name).write_text("x")
    return tmp_path


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "model.safetensors"])
def test_it_changes_with_what_the_model_is_made_of(model: Path, name: str) -> None:
    before = model_fingerprint(model, "float32")
    (model / name).write_text("xy")
    assert model_fingerprint(model, "float32") != before


def test_it_changes_with_the_numbers_the_model_runs_in(model: Path) -> None:
    assert model_fingerprint(model, "float32", "None") != model_fingerprint(model, "bfloat16", "None")


def test_it_does_not_change_with_other_files_or_places(model: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = model_fingerprint(model)
    (model / "README.md").write_text("other")
    moved = model.rename(tmp_path_factory.mktemp("elsewhere") / "model")
    assert model_fingerprint(moved) == before


def test_a_directory_without_weights_is_no_model(model: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no weights"):
        model_fingerprint(model)
