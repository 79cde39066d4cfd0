"""vLLM's parsers of tool calls and reasoning behind ``deployments.engines.parsed``, by the names that its command line has for
them (``--tool-call-parser``, ``--reasoning-parser``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.parser.abstract_parser import DelegatingParser, Parser
from vllm.parser.parser_manager import ParserManager
from vllm.sampling_params import StructuredOutputsParams
from vllm.tool_parsers.abstract_tool_parser import ToolParser

from deployments.settings import InvalidSettings, ModelSpec
from pipeline.delta import Delta, DeltaKind, ToolPart
from pipeline.engine import SamplingParameters, TextRequest
from pipeline.errors import PermanentEngineError


class VllmParsers:
    """The parsers of one model."""

    def __init__(self, spec: ModelSpec, tokenizer: Any, model_config: Any = None) -> None:
        """
        Args:
            tokenizer: the model's, as transformers has it.
            model_config: vLLM's; some parsers go by it.

        Raises:
            InvalidSettings: vLLM has no parser of that name, or it cannot be used with the model's tokenizer.
        """
        self._model_id = spec.id
        self._reads_calls = spec.tool_parser is not None
        self._tokenizer = tokenizer
        self._model_config = model_config
        try:
            found = ParserManager.get_parser(
                tool_parser_name=spec.tool_parser,
                reasoning_parser_name=spec.reasoning_parser,
                enable_auto_tools=True,
                model_name=spec.id,
                tokenizer=tokenizer,
            )
        except TypeError as error:
            names = f"tool_parser={spec.tool_parser!r}, reasoning_parser={spec.reasoning_parser!r}"
            raise InvalidSettings(
                f"models: {spec.id}: got {names}, allowed are vLLM's parsers that fit the model ({error})"
            ) from None
        self._parser: type[Parser] = found or _with_json_calls(None)
        #: For calls that are forced where no parser is named: the grammar makes them plain JSON.
        self._forced: type[Parser] = (
            self._parser if spec.tool_parser else _with_json_calls(self._parser.reasoning_parser_cls)
        )

    def parser(self, request: TextRequest) -> VllmAnswerParser:
        parsing = request.sampling.parsing
        assert parsing is not None
        if parsing.auto_tools and not self._reads_calls:
            # Doors offer tools to other models only; this one has lost its parser since.
            raise PermanentEngineError(f"the model {self._model_id} has no tool_parser to read its calls of tools with")
        # The messages are in the prompt already; parsers ask for the tools and what may be done with them.
        asked: dict[str, Any] = {"messages": [], "chat_template_kwargs": dict(parsing.template_variables) or None}
        if parsing.tools:
            asked |= {
                "tools": [_strict(tool) for tool in parsing.tools]
                if parsing.tool_choice != "auto"
                else list(parsing.tools),
                "tool_choice": parsing.tool_choice,
                "parallel_tool_calls": parsing.parallel_tool_calls,
            }
        if request.sampling.json_schema is not None:
            asked["structured_outputs"] = StructuredOutputsParams(json=dict(request.sampling.json_schema))
        chat = ChatCompletionRequest(**asked)
        parser = (self._forced if parsing.tools else self._parser)(
            self._tokenizer,
            chat.tools,
            chat_template_kwargs=dict(parsing.template_variables),
            model_config=self._model_config,
        )
        try:
            chat = parser.adjust_request(chat)
        except ValueError as error:
            # Its message may quote the tools.
            raise PermanentEngineError(f"the tools cannot be called so ({type(error).__name__})") from None
        return VllmAnswerParser(parser, chat, request)


class VllmAnswerParser:
    """One answer; see ``deployments.engines.parsed.AnswerParser``."""

    def __init__(self, parser: Parser, chat: Any, request: TextRequest) -> None:
        self._parser = parser
        self._chat = chat
        self._prompt_token_ids = list(request.prompt_token_ids)
        parser.set_prompt_token_ids(self._prompt_token_ids)
        self.sampling = _adjusted(request.sampling, chat)

    def feed(self, text: str, token_ids: Sequence[int], *, finished: bool) -> list[Delta]:
        message = self._parser.parse_delta(text, list(token_ids), self._chat, self._prompt_token_ids, finished=finished)
        if message is None:
            return []
        pieces = []
        if message.reasoning:
            pieces.append(Delta(kind=DeltaKind.THINKING, text=message.reasoning))
        if message.content:
            pieces.append(Delta(text=message.content))
        for call in message.tool_calls:
            # The grammar sees to it only where vLLM knows the form that the model's calls have; elsewhere its server drops the
            # others, too.
            if call.index and self._chat.parallel_tool_calls is False:
                continue
            function = call.function
            name, arguments = (function.name, function.arguments) if function else (None, None)
            if name or arguments:
                part = ToolPart(index=call.index, id=call.id or "", name=name or "")
                pieces.append(Delta(kind=DeltaKind.TOOL, text=arguments or "", tool=part))
        return pieces


def _strict(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool whose arguments must fit its schema, unless the client says otherwise: where the grammar forces a call, it
    forces one that can be made."""
    return {**tool, "function": {"strict": True, **tool["function"]}}


def _with_json_calls(reasoning: Any) -> type[Parser]:
    class _JsonCalls(DelegatingParser):
        reasoning_parser_cls = reasoning
        tool_parser_cls = ToolParser

    return _JsonCalls


def _adjusted(sampling: SamplingParameters, chat: Any) -> SamplingParameters:
    """With the form of the answer that the parser asks the engine for."""
    form = chat.extract_structured_outputs()
    return replace(
        sampling,
        json_schema=None if form is None else form.json,
        structural_tag=None if form is None else form.structural_tag,
        skip_special_tokens=chat.skip_special_tokens,
        parsing=None,
    )
