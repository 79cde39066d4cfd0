"""Image models in the catalogue: their deployments, defaults and limits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.config_file import problems
from deployments.engines.diffusers_options import DiffusersOptions
from deployments.ingress.image_request import TextToImage, Txt2Img
from deployments.models import model_source
from deployments.settings import ImageSpec, InvalidSettings, ModelSpec, Settings
from pipeline.image_parameters import Sampler

ROOT = Path(__file__).resolve().parents[2]


def spec(**changes: Any) -> ModelSpec:
    return ModelSpec.model_validate({"id": "org/Painter-1.0", "engine": "diffusers", "source": "x", **changes})


def settings(**changes: Any) -> Settings:
    entry = {"id": "org/painter", "engine": "diffusers", "source": "x", **changes}
    return Settings.parse({"redis_url": "redis://none.invalid", "models": [entry]})


def test_it_has_a_deployment_of_its_own_kind_and_defaults_of_its_own():
    model = spec()
    assert (model.deployment, model.paints, model.permits) == ("Diffusion-painter-1-0", True, 8)
    assert [capability.value for capability in model.capabilities] == ["text-to-image"]
    text = ModelSpec(id="org/Painter-1.0", source="x")
    assert (text.deployment, text.paints, text.permits) == ("LLM-painter-1-0", False, 32)


def test_a_text_and_an_image_model_of_one_name_get_along():
    models = [spec(), ModelSpec(id="other/painter-1.0", source="x")]
    assert len(Settings.parse({"redis_url": "redis://none.invalid", "models": models}).models) == 2
    with pytest.raises(InvalidSettings, match="would both be the deployment 'Diffusion-painter-1-0'"):
        Settings.parse({"redis_url": "redis://none.invalid", "models": [spec(), spec(id="other/painter-1.0")]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"capabilities": ["text-generation"]}, "got 'text-generation', allowed for the engine 'diffusers' is one of"),
        (
            {"images": {"width": 2048, "height": 1024}},
            "images: width times height is 2097152, allowed is at most max_pixels",
        ),
        ({"images": {"steps": 101}}, r"images: steps: got 101, allowed is at most max_steps \(100\)"),
        ({"images": {"batch": 0}}, "models.0.images.batch: "),
        ({"images": {"sizes": 3}}, "models.0.images.sizes: "),
    ],
)
def test_a_wrong_entry_is_named(changes: Any, message: str):
    with pytest.raises(InvalidSettings, match=message):
        settings(**changes)


def test_the_model_that_ships_with_the_project_is_part_of_the_code():
    found = settings(source="embedded:painter")
    assert (Path(model_source(found.models[0], found)) / "model_index.json").is_file()
    with pytest.raises(InvalidSettings, match=r"source: got 'embedded:dali', allowed is one of"):
        model_source(spec(source="embedded:dali"), found)


def test_the_entry_for_a_gpu_node_is_valid_once_it_is_no_comment():
    lines = (ROOT / "serve_config.yaml").read_text(encoding="utf-8").splitlines()
    (start,) = (i for i, line in enumerate(lines) if "# - id: stabilityai/" in line)
    end = next(i for i in range(start, len(lines)) if not lines[i].strip())
    lines[start:end] = [re.sub(r"# ", "", line, count=1) for line in lines[start:end]]
    (start,) = (i for i, line in enumerate(lines) if "# - name: Diffusion-stable" in line)
    lines[start:] = [re.sub(r"# ", "", line, count=1) for line in lines[start:]]
    document = yaml.safe_load("\n".join(lines))
    assert problems(document) == []
    model = settings(**document["applications"][0]["args"]["models"][-1]).models[0]
    assert model.deployment == document["applications"][0]["deployments"][-1]["name"]
    assert DiffusersOptions.of(model).dtype == "bfloat16"


def test_the_guide_names_every_parameter_and_setting():
    guide = (ROOT / "docs" / "images.md").read_text(encoding="utf-8")
    names = {field.alias for field in TextToImage.model_fields.values()} | set(Txt2Img.model_fields)
    names |= set(DiffusersOptions.model_fields) | {sampler.value for sampler in Sampler}
    assert {name for name in names if f"`{name}`" not in guide} == set()
    assert f"({spec().permits} if nothing is said)" in guide
    assert ImageSpec().metadata
