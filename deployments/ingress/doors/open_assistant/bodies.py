"""What clients send (contract A.3, A.4). Unknown keys are ignored; what is wrong is said in pydantic 1's words."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.requests import Request

from deployments.ingress.body import read_body
from deployments.ingress.doors.open_assistant.errors import invalid, invalid_request
from pipeline.chat_tree import ReportType
from pipeline.engine import SamplingParameters
from pipeline.json_text import parse

#: Tokens of an answer where nothing else is said.
DEFAULT_NEW_TOKENS = 1024
#: Above every context and every vocabulary; the engine's tensors hold 32 bits.
_MOST = 1_000_000


def _default_for_null(value: object) -> object:
    # The web client's types allow null here, the original's server does not.
    return DEFAULT_NEW_TOKENS if value is None else value


class _Sent(BaseModel):
    """An object that a client sends. Numbers stand for texts as in pydantic 1."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, coerce_numbers_to_str=True, hide_input_in_errors=True, protected_namespaces=()
    )


class Body(_Sent):
    @classmethod
    async def read(cls, request: Request, *, max_bytes: int) -> Self:
        """The object in a request's body.

        Raises:
            InvalidRequest: it is missing, no object, or a field is wrong.
            ClientError: it is too large, compressed, or not JSON.
        """
        raw = await read_body(request, max_bytes=max_bytes)
        if not raw:
            raise invalid("body", None, "field required", "value_error.missing")
        value = parse(raw)
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise invalid_request("body", error) from None


class Sampling(_Sent):
    """SamplingParameters. The original has no ranges: what its workers do not take fails there later. Here it is refused at once,
    within vLLM's ranges (``SamplingParams._verify_args``)."""

    top_k: Annotated[int, Field(ge=-1, le=_MOST)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    #: Taken and shown; vLLM has nothing like it.
    typical_p: Annotated[float, Field(gt=0, le=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | None = None
    max_new_tokens: Annotated[int, Field(ge=1, le=_MOST), BeforeValidator(_default_for_null)] = DEFAULT_NEW_TOKENS

    def for_engine(self, *, seed: int) -> SamplingParameters:
        """The same for an engine. What is not set is off, as in the original's workers."""
        return SamplingParameters(
            max_tokens=self.max_new_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=max(0, self.top_k or 0),
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            seed=seed,
        )


class Plugin(_Sent):
    """PluginEntry."""

    url: str
    enabled: bool = True
    plugin_config: dict[str, Any] | None = None
    trusted: bool | None = False


class PrompterMessage(Body):
    parent_id: str | None = None
    content: str


class AssistantMessage(Body):
    parent_id: str
    model_config_name: str
    sampling_parameters: Sampling = Sampling()
    system_prompt: str | None = None
    user_profile: str | None = None
    user_response_instructions: str | None = None
    plugins: Annotated[tuple[Plugin, ...], Field(max_length=16)] = ()


class Messages(Body):
    """Both in one step: the API before 2023-03-26, which the document describes."""

    parent_id: str | None = None
    content: str
    model_config_name: str
    sampling_parameters: Sampling = Sampling()


class ChatChange(Body):
    title: Annotated[str, Field(max_length=100)] | None = None
    hidden: bool | None = None
    allow_data_use: bool | None = None
    active_thread_tail_message_id: str | None = None


class Vote(Body):
    score: int


class Evaluation(Body):
    inferior_message_ids: Annotated[tuple[str, ...], Field(max_length=100)]


class ReportOf(Body):
    report_type: ReportType
    reason: Annotated[str, Field(max_length=10_000)]


class ChatsQuery(_Sent):
    """The query of GET /chats. Cursors are left as they are."""

    include_hidden: bool = False
    limit: Annotated[int, Field(ge=1, le=100)] = 10
    after: str | None = None
    before: str | None = None

    @classmethod
    def of(cls, request: Request) -> Self:
        """Raises InvalidRequest."""
        try:
            return cls.model_validate(dict(request.query_params))
        except ValidationError as error:
            raise invalid_request("query", error) from None
