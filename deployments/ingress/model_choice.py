"""Which model runs a prompt: a function of the catalogue, the default model, the prompt's type and the model it names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from deployments.settings import ModelSpec
from pipeline.errors import ClientError, InvalidField
from pipeline.prompt_type import PromptType


class NotCapable(ClientError):
    """No model of the catalogue can do this."""


def find_model(models: Iterable[ModelSpec], name: str) -> ModelSpec | None:
    """The model behind an id or alias."""
    return next((model for model in models if name == model.id or name in model.aliases), None)


def choose_model(
    models: Sequence[ModelSpec], *, default: ModelSpec, named: str | None, prompt_type: PromptType
) -> ModelSpec:
    """The named model; without a name the default one if it has the capability, else the first of the catalogue that has.

    Raises:
        InvalidField: there is no model of that name.
        NotCapable: the named model lacks the capability, or every model does.
    """
    needed = prompt_type.capability
    capable = [model for model in models if needed in model.capabilities]
    if not named:
        if not capable:
            raise NotCapable(f"type: no model of the catalogue has the capability {needed}, which {prompt_type} needs")
        return default if default in capable else capable[0]
    model = find_model(models, named)
    if model is None:
        known = sorted(name for model in models for name in (model.id, *model.aliases))
        raise InvalidField("modelId", named, f"one of {', '.join(known)}")
    if model not in capable:
        others = ", ".join(other.id for other in capable)
        raise NotCapable(
            f"modelId: the model {model.id} lacks the capability {needed}, which {prompt_type} needs; "
            + (f"models that have it: {others}" if others else "no other model of the catalogue has it")
        )
    return model
