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


def test_a_directory_with_neither_weights_nor_a_config_is_no_model(model: Path) -> None:
    for name in ("model.safetensors", "config.json"):
        (model / name).unlink()
    with pytest.raises(FileNotFoundError, match="neither weights nor a config"):
        model_fingerprint(model)


def test_a_model_whose_weights_are_not_in_its_directory_is_told_by_its_config(model: Path) -> None:
    with_weights = model_fingerprint(model)
    (model / "model.safetensors").unlink()
    before = model_fingerprint(model)
    assert before == model_fingerprint(model) != with_weights
    (model / "config.json").write_text("xy")
    assert model_fingerprint(model) != before


def test_a_model_of_the_hub_without_weights_is_told_by_its_commit(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").unlink()
    found = set()
    for commit in ("c1", "c2"):
        snapshot = tmp_path / "models--org--m" / "snapshots" / commit
        snapshot.mkdir(parents=True)
        for name in ("config.json", "tokenizer.json"):
            (snapshot / name).write_text("x")
        found.add(model_fingerprint(snapshot))
    assert len(found) == 2
