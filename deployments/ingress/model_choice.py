"""Which model runs a prompt: a function of the catalogue, the routing, the default, the prompt's type and the model it names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deployments.routing import Routing, pick
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The model of a prompt."""

    model: ModelSpec
    #: Runs it when ``model`` fails or has too many waiting; None: nobody else may.
    fallback: ModelSpec | None
    #: How it was chosen if not by its name (``pipeline.prompt.Prompt.routed``).
    routed: str = ""
    #: The models of the split that it was chosen from, itself among them; none if it was not.
    candidates: tuple[ModelSpec, ...] = ()


def route(
    models: Sequence[ModelSpec],
    routing: Routing,
    *,
    default: str,
    named: str | None,
    prompt_type: PromptType,
    key: str,
    auto_tools: bool = False,
) -> Choice:
    """The model that the prompt names, or that its split gives it to; without a name the default, which may be a split, too.

    Args:
        default: id, alias or split that runs prompts which name none.
        key: what a split goes by: the same model for the same key.
        auto_tools: the model calls tools of its own accord; a split gives it to one that can, if it has any.

    Raises:
        InvalidField: there is no model or split of that name.
        NotCapable: the named model lacks the capability, or every model does.
    """
    name = named or default
    weights = routing.splits.get(name)
    routed = ""
    candidates: tuple[ModelSpec, ...] = ()
    if weights is not None:
        able = [model for model in models if weights.get(model.id) and prompt_type.capability in model.capabilities]
        if auto_tools:
            # Where there is none, the door says so of the one that is chosen.
            able = [model for model in able if model.tool_parser is not None] or able
        if able:
            candidates = tuple(able)
            named, routed = pick({model.id: weights[model.id] for model in able}, key), f"split {name}"
        elif named:
            raise NotCapable(
                f"modelId: no model of {name} has the capability {prompt_type.capability}, which {prompt_type} needs"
            )
    if named and not routed and find_model(models, named) is None:
        known = sorted({name for model in models for name in (model.id, *model.aliases)} | set(routing.splits))
        raise InvalidField("modelId", named, f"one of {', '.join(known)}")
    model = choose_model(models, default=find_model(models, default) or models[0], named=named, prompt_type=prompt_type)
    rule = routing.fallbacks.get(model.id)
    return Choice(
        model=model,
        fallback=find_model(models, rule.model) if rule else None,
        routed=routed,
        candidates=candidates,
    )
