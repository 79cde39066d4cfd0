import pytest

from deployments.ingress.model_choice import NotCapable, choose_model
from deployments.settings import InvalidSettings, ModelSpec, Settings
from pipeline.errors import InvalidField
from pipeline.prompt_type import Capability, PromptType, infer_type


def model(name: str, *capabilities: Capability, engine: str = "scripted") -> ModelSpec:
    given = {"capabilities": capabilities} if capabilities else {}
    return ModelSpec(id=name, engine=engine, source="none", aliases=(f"{name}-alias",), **given)


TEXT = model("text")
SECOND = model("second")
PAINTER = model("painter", Capability.TEXT_TO_IMAGE, Capability.UNCONDITIONAL_IMAGE_GENERATION)
SEER = model("seer", Capability.IMAGE_TEXT_TO_TEXT, Capability.TEXT_GENERATION)
MODELS = (TEXT, SECOND, PAINTER, SEER)

TEXT_TYPES = ["Text-to-Text", "Question Answering", "Translation", "Summarization", "Text Generation"]
VISION_TYPES = ["Image-Text-to-Text", "Visual Question Answering", "Document Question Answering"]


def chosen(
    kind: str, named: str | None = None, models: tuple[ModelSpec, ...] = MODELS, default: ModelSpec = SECOND
) -> str:
    return choose_model(models, default=default, named=named, prompt_type=PromptType(kind)).id


@pytest.mark.parametrize(
    ("kind", "right"),
    [
        *((kind, "second") for kind in TEXT_TYPES),
        *((kind, "seer") for kind in VISION_TYPES),
        ("Text-to-Image", "painter"),
        ("Unconditional Image Generation", "painter"),
    ],
)
def test_the_default_model_if_it_can_else_the_first_that_can(kind: str, right: str):
    assert chosen(kind) == right


@pytest.mark.parametrize("name", ["seer", "seer-alias"])
def test_the_named_model_runs_what_it_can(name: str):
    assert chosen("Translation", name) == "seer"


def test_a_named_model_that_cannot_is_named_with_those_that_can():
    with pytest.raises(NotCapable) as refused:
        chosen("Text-to-Image", "text-alias")
    assert refused.value.status == 400
    assert refused.value.message == (
        "modelId: the model text lacks the capability text-to-image, which Text-to-Image needs; models that have it: painter"
    )


def test_a_named_model_that_cannot_where_none_can():
    with pytest.raises(
        NotCapable, match=r"lacks the capability image-to-image.*; no other model of the catalogue has it"
    ):
        chosen("Image-to-Image", "text")


@pytest.mark.parametrize("kind", PromptType)
def test_where_no_model_can_the_missing_capability_is_named(kind: PromptType):
    if kind.value in TEXT_TYPES:
        assert chosen(kind, models=(TEXT,), default=TEXT) == "text"
        return
    with pytest.raises(NotCapable) as refused:
        chosen(kind, models=(TEXT,), default=TEXT)
    assert refused.value.message == (
        f"type: no model of the catalogue has the capability {kind.capability}, which {kind} needs"
    )


def test_an_unknown_model():
    with pytest.raises(InvalidField, match="modelId: got 'gpt-9', allowed is one of text, text-alias"):
        chosen("Text-to-Text", "gpt-9", models=(TEXT,), default=TEXT)


def test_every_type_of_the_document_is_something_a_model_can_be_declared_to_do():
    document = [*TEXT_TYPES, *VISION_TYPES, "Text-to-Image", "Image-to-Image", "Unconditional Image Generation"]
    assert sorted(kind for capability in Capability for kind in capability.types) == sorted(document)


@pytest.mark.parametrize(
    ("images", "files", "right"),
    [
        (False, False, "Text-to-Text"),
        (True, False, "Text-to-Image"),
        (True, True, "Image-to-Image"),
        (False, True, "Image-Text-to-Text"),
    ],
)
def test_a_type_that_is_not_given_is_inferred(images: bool, files: bool, right: str):
    assert infer_type(image_parameters=images, has_files=files) == right


def test_a_model_writes_text_unless_it_says_otherwise_and_an_engine_does_what_it_can():
    assert model("m", engine="vllm").capabilities == (Capability.TEXT_GENERATION,)
    entry = {"id": "m", "source": "s", "capabilities": ["text-to-image"]}
    with pytest.raises(
        InvalidSettings, match=r"models.0: .*capabilities: got 'text-to-image', allowed for the engine 'vllm'"
    ):
        Settings.parse({"redis_url": "redis://x", "models": [entry]})
    with pytest.raises(InvalidSettings, match=r"models.0.capabilities.0: .*'flight'"):
        Settings.parse({"redis_url": "redis://x", "models": [{**entry, "capabilities": ["flight"]}]})
