"""Models as requests of this API name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deployments.ingress.doors.openai.errors import model_not_found
from deployments.ingress.model_choice import find_model
from deployments.settings import ModelSpec


def named_model(models: Sequence[ModelSpec], body: Mapping[str, Any]) -> ModelSpec | None:
    """The model that a request names by its id or an alias, None if it names none.

    Raises:
        OpenAiError: 404, there is no model of that name.
    """
    name = body.get("model")
    if name is None or name == "":
        return None
    spec = find_model(models, name) if isinstance(name, str) else None
    if spec is None:
        raise model_not_found(name if isinstance(name, str) else "that is no string")
    return spec
