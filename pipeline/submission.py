"""A prompt as a client submits it, validated and free of any wire dialect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.engine import SamplingParameters
from pipeline.image_wish import ImageWish
from pipeline.priority import NORMAL
from pipeline.prompt_type import PromptType
from pipeline.template import fill, fill_all


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptSubmission:
    """What a client asked for. Which model runs it, and under which id, the ingress decides."""

    #: The user's text, not blank.
    prompt: str
    #: A whole chat in place of the prompt alone, as chat templates take it: mappings with ``role`` and ``content`` at least, the
    #: last of which says what ``prompt`` says. Nothing of the thread is put before it. None: the prompt is all there is.
    messages: tuple[Mapping[str, Any], ...] | None = None
    #: Token ids in place of all text; ``prompt`` is what they stand for. None: text is to be rendered.
    prompt_token_ids: tuple[int, ...] | None = None
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
    #: What it asks for; decides which models can run it.
    type: PromptType = PromptType.TEXT_TO_TEXT
    #: Files of file-svc that belong to the prompt.
    file_ids: tuple[str, ...] = ()
    #: How its picture is to be, of a type that makes one.
    image: ImageWish | None = None
    #: Of a picture on the internet that is to be one of the files; whoever accepts the prompt fetches it.
    image_url: str | None = None
    #: Higher runs first, ``LOWEST`` to ``HIGHEST`` of ``pipeline.priority``.
    priority: int = NORMAL
    #: Text with ``{prompt}`` in it, None for the model's own chat template.
    template: str | None = None
    #: Name of a saved template of the user, in place of ``template``.
    template_name: str | None = None
    #: Values of a template's other variables. None: the template has no variable but ``{prompt}``.
    variables: Mapping[str, str] | None = None
    sampling: SamplingParameters = field(default_factory=SamplingParameters)
    #: Whether the model gets what was said before in the thread; None leaves it to the thread.
    history: bool | None = None
    #: ``parameters`` as the client sent them, echoed in the Prompt object; None when absent.
    parameters: Mapping[str, Any] | None = None
    #: ``engineParameters`` as the client sent them, echoed in the Prompt object; None when absent.
    engine_parameters: Mapping[str, Any] | None = None

    @property
    def text(self) -> str | None:
        """The text for the engine when the client gave a template, None when the model's chat template applies.

        Raises:
            MissingVariable: the template has a variable without a value.
            InvalidField: the text would be longer than any may be.
        """
        if self.template is None:
            return None
        if self.variables is None:
            return fill(self.template, self.prompt)
        return fill_all(self.template, self.prompt, self.variables)

    @property
    def auto_tools(self) -> bool:
        """See ``Parsing.auto_tools``."""
        return self.sampling.parsing is not None and self.sampling.parsing.auto_tools

    @property
    def names_tokens(self) -> bool:
        """Whether it names tokens by their ids, which mean something else to a model with other tokens."""
        return self.prompt_token_ids is not None or bool(self.sampling.logit_bias)

    @property
    def characters(self) -> int:
        """Length of what is rendered. Raises as ``text`` does."""
        if self.prompt_token_ids is not None:
            return 0
        if self.messages is not None:
            return sum(len(str(message.get("content") or "")) for message in self.messages)
        text = self.text
        return len(self.prompt if text is None else text)
