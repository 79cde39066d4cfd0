"""A prompt as a client submits it, validated and free of any wire dialect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.engine import SamplingParameters
from pipeline.template import fill


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptSubmission:
    """What a client asked for. Which model runs it, and under which id, the ingress decides."""

    #: The user's text, not blank.
    prompt: str
    #: The caller's own id (idempotency key), None to have one made.
    id: str | None = None
    #: Whether the caller waits for the answer.
    sync: bool = False
    #: Thread of the answer, None for a thread of its own.
    thread_id: str | None = None
    #: Catalogue id or alias as the client wrote it, None for the default model.
    model_id: str | None = None
    #: Attempts after the first one that fails, 0..100; None for the default.
    max_retries: int | None = None
    #: Text with ``{prompt}`` in it, None for the model's own chat template.
    template: str | None = None
    sampling: SamplingParameters = field(default_factory=SamplingParameters)
    #: Ids of the user's files that go with the prompt, at most 16, each once.
    file_ids: tuple[str, ...] = ()
    #: ``parameters`` as the client sent them, echoed in the Prompt object; None when absent.
    parameters: Mapping[str, Any] | None = None
    #: ``engineParameters`` as the client sent them, echoed in the Prompt object; None when absent.
    engine_parameters: Mapping[str, Any] | None = None

    @property
    def text(self) -> str | None:
        """The text for the engine when the client gave a template, None when the model's chat template applies."""
        return None if self.template is None else fill(self.template, self.prompt)
