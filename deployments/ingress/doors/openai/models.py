"""Models as requests of this API name them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from deployments.ingress.doors.openai.errors import model_not_found
from deployments.settings import ModelSpec

#: The model of a name, None if there is none (``PromptService.model_named``).
FindModel = Callable[[str], ModelSpec | None]


def named_model(find: FindModel, body: Mapping[str, Any]) -> ModelSpec | None:
    """The model that a request names, None if it names none.

    Raises:
        OpenAiError: 404, there is no model of that name.
    """
    name = body.get("model")
    if name is None or name == "":
        return None
    spec = find(name) if isinstance(name, str) else None
    if spec is None:
        raise model_not_found(name if isinstance(name, str) else "that is no string")
    return spec
