from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.ingress.prompt_request import parse_prompt_request
from pipeline.engine import SamplingParameters
from pipeline.errors import ClientError, InvalidField
from pipeline.prompt_type import PromptType
from pipeline.submission import PromptSubmission

CANARY = "canary-7f3a"


def submit(**body: Any) -> PromptSubmission:
    return parse_prompt_request({"prompt": "Hi", **body})


def vllm(**parameters: Any) -> SamplingParameters:
    return submit(engineParameters={"vllm": parameters}).sampling


def refusal(**body: Any) -> str:
    with pytest.raises(InvalidField) as refused:
        parse_prompt_request({"prompt": "Hi", **body})
    assert refused.value.status == 400
    return refused.value.message


def test_a_prompt_alone_gets_the_defaults():
    assert submit() == PromptSubmission(prompt="Hi")
    assert submit().sampling == SamplingParameters(max_tokens=512, temperature=0.7)
    assert submit().text is None


def test_everything_the_document_sends():
    submission = submit(
        id="prom_custom_12345",
        sync=True,
        threadId="ai_research_summary",
        modelId="huggingface/TheBloke/mistral-7b-instruct-v0.2.Q4_K_M.gguf",
        maxRetries=5,
        parameters={"textToText": {"template": "[INST] {prompt} [/INST]"}},
        fileIds='["file-1"]',
    )
    assert submission == PromptSubmission(
        prompt="Hi",
        id="prom_custom_12345",
        sync=True,
        thread_id="ai_research_summary",
        model_id="huggingface/TheBloke/mistral-7b-instruct-v0.2.Q4_K_M.gguf",
        max_retries=5,
        type=PromptType.IMAGE_TEXT_TO_TEXT,
        template="[INST] {prompt} [/INST]",
        file_ids=("file-1",),
        parameters={"textToText": {"template": "[INST] {prompt} [/INST]"}},
    )
    assert submission.text == "[INST] Hi [/INST]"


@pytest.mark.parametrize(
    ("sent", "text"),
    [(42, "42"), (True, "true"), (False, "false"), (7.5, "7.5"), (-0.0, "-0.0")],
)
def test_numbers_and_booleans_become_text_in_string_fields(sent: object, text: str):
    submission = parse_prompt_request({"prompt": sent, "id": sent, "threadId": sent})
    assert (submission.prompt, submission.id, submission.thread_id) == (text, text, text)


@pytest.mark.parametrize(("sent", "read"), [("true", True), ("false", False), ("True", True), (1, True), (0, False)])
def test_words_become_booleans(sent: object, read: bool):
    assert submit(sync=sent).sync is read


@pytest.mark.parametrize(("sent", "read"), [(True, True), ("false", False), (None, None)])
def test_history_is_asked_for_refused_or_left_to_the_thread(sent: object, read: bool | None):
    assert submit(history=sent).history is read


def test_history_is_true_or_false():
    assert refusal(history="all") == 'history: got "all", allowed is true or false'


@pytest.mark.parametrize(("sent", "read"), [("3", 3), ("+3", 3), ("007", 7), (3.0, 3), (0, 0), ("0", 0)])
def test_numeric_strings_become_integers(sent: object, read: int):
    assert submit(maxRetries=sent).max_retries == read


@pytest.mark.parametrize(("sent", "read"), [("0.5", 0.5), (".5", 0.5), ("1", 1.0), ("5e-1", 0.5), (1, 1.0)])
def test_numeric_strings_become_floats(sent: object, read: float):
    assert vllm(temperature=sent).temperature == read


def test_json_text_becomes_objects_and_lists():
    submission = submit(
        parameters='{"textToText": "{\\"topP\\": \\"0.25\\"}"}',
        engineParameters={"vllm": {"stop": '["a", "b"]', "guided_json": '{"type": "object"}'}},
    )
    assert submission.sampling == SamplingParameters(top_p=0.25, stop=("a", "b"), json_schema={"type": "object"})
    assert submission.parameters == {"textToText": '{"topP": "0.25"}'}


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("###", ("###",)),
        (["a", "b"], ("a", "b")),
        ("[", ("[",)),
        ("[1]", ("[1]",)),
        ([1], ("1",)),
        ([], ()),
        (5, ("5",)),
    ],
)
def test_stop_is_a_string_or_a_list(sent: object, read: tuple[str, ...]):
    assert vllm(stop=sent).stop == read


def test_keys_match_in_any_case_and_the_exact_one_wins():
    submission = parse_prompt_request({"PROMPT": "a", "prompt": "b", "threadid": "t", "MaxRetries": 1})
    assert (submission.prompt, submission.thread_id, submission.max_retries) == ("b", "t", 1)


def test_null_is_absent_everywhere():
    submission = submit(
        id=None,
        sync=None,
        maxRetries=None,
        parameters={"textToText": None, "textToImage": None},
        engineParameters={"vllm": {"seed": None}, "llamaCpp": {"template": None}},
    )
    assert (submission.id, submission.sync, submission.max_retries) == (None, False, None)
    assert submission.sampling == SamplingParameters()


def test_empty_names_are_absent():
    assert submit(id="", threadId="", modelId="") == PromptSubmission(prompt="Hi")


@pytest.mark.parametrize("key", ["llamaCpp", "llamaCppParameters"])
def test_both_names_of_the_llama_template(key: str):
    submission = submit(engineParameters={key: {"template": r"### HUMAN:\n{prompt}\n"}})
    assert submission.text == "### HUMAN:\nHi\n"


@pytest.mark.parametrize(
    ("text_to_text", "template"),
    [
        ({"template": "A {prompt}"}, "A {prompt}"),
        ({"template": ""}, None),  # the model's own, not the engine's (contract §1.1)
        ({}, None),
        ({"temperature": 0}, "B {prompt}"),
        (None, "B {prompt}"),
    ],
)
def test_template_precedence(text_to_text: dict | None, template: str | None):
    submission = submit(
        parameters={"textToText": text_to_text}, engineParameters={"llamaCpp": {"template": "B {prompt}"}}
    )
    assert submission.template == template


def test_engine_parameters_go_before_neutral_ones():
    submission = submit(
        parameters={"textToText": {"temperature": 1, "topP": 0.5, "maxTokens": 9, "topK": 7, "seed": 3}},
        engineParameters={"vllm": {"temperature": 0, "top_k": -1}},
    )
    assert submission.sampling == SamplingParameters(temperature=0, top_p=0.5, max_tokens=9, top_k=0, seed=3)


def test_everything_vllm_takes():
    assert vllm(
        temperature=2,
        top_p=1,
        top_k=50,
        max_tokens=1,
        stop="x",
        seed=-(2**63),
        presence_penalty=-2,
        frequency_penalty=2,
        structured_outputs={"json": {"type": "object"}},
    ) == SamplingParameters(
        temperature=2,
        top_p=1,
        top_k=50,
        max_tokens=1,
        stop=("x",),
        seed=-(2**63),
        presence_penalty=-2,
        frequency_penalty=2,
        json_schema={"type": "object"},
    )


RETRIES = "an integer from 0 to 100"
BLANK = "a string that is not blank"
ID = "a string of 1 to 256 characters without control characters"
TEMPLATE = "got a string of 11 characters without it, allowed is a string that contains {prompt}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"prompt": ""}, f"prompt: got a string of 0 characters, allowed is {BLANK}"),
        ({"prompt": " \n\u3000"}, f"prompt: got a string of 3 characters, allowed is {BLANK}"),
        ({"prompt": None}, f"prompt: got nothing, allowed is {BLANK}"),
        ({"prompt": [CANARY]}, f"prompt: got an array, allowed is {BLANK}"),
        ({"prompt": {"a": CANARY}}, f"prompt: got an object, allowed is {BLANK}"),
        ({"sync": "maybe"}, 'sync: got "maybe", allowed is true or false'),
        ({"sync": 2}, "sync: got 2, allowed is true or false"),
        ({"sync": []}, "sync: got an array, allowed is true or false"),
        ({"maxRetries": -1}, f"maxRetries: got -1, allowed is {RETRIES}"),
        ({"maxRetries": 101}, f"maxRetries: got 101, allowed is {RETRIES}"),
        ({"maxRetries": 1.5}, f"maxRetries: got 1.5, allowed is {RETRIES}"),
        ({"maxRetries": True}, f"maxRetries: got true, allowed is {RETRIES}"),
        ({"maxRetries": "many"}, f'maxRetries: got "many", allowed is {RETRIES}'),
        ({"maxRetries": "1_0"}, f'maxRetries: got "1_0", allowed is {RETRIES}'),
        ({"id": "a\nb"}, f'id: got "a\\nb", allowed is {ID}'),
        ({"threadId": "t" * 257}, f"threadId: got a string of 257 characters, allowed is {ID}"),
        ({"parameters": 5}, "parameters: got 5, allowed is an object"),
        ({"parameters": {"textToText": []}}, "parameters.textToText: got an array, allowed is an object"),
        ({"engineParameters": "{bad"}, 'engineParameters: got "{bad", allowed is an object'),
        (
            {"parameters": {"textToText": {"template": CANARY}}},
            f"parameters.textToText.template: {TEMPLATE}",
        ),
        (
            {"engineParameters": {"llamaCppParameters": {"template": CANARY}}},
            f"engineParameters.llamaCppParameters.template: {TEMPLATE}",
        ),
        (
            {"parameters": {"textToText": {"temperature": "hot"}}},
            'parameters.textToText.temperature: got "hot", allowed is a number from 0 to 2',
        ),
        (
            {"parameters": {"textToText": {"jsonSchema": [CANARY]}}},
            "parameters.textToText.jsonSchema: got an array, "
            "allowed is a valid JSON schema: an object of at most 32768 bytes and 32 levels",
        ),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(body: dict, message: str):
    assert refusal(**body) == message


@pytest.mark.parametrize(
    "parameters",
    [
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"temperature": "nan"},
        {"temperature": "1e999"},
        {"temperature": True},
        {"temperature": float("inf")},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": -2},
        {"top_k": 2**31},
        {"top_k": 1.5},
        {"max_tokens": 0},
        {"max_tokens": 2**40},
        {"seed": 2**63},
        {"seed": -(2**63) - 1},
        {"seed": float(-(2**63) - 1)},  # as JSON's integers beyond 64 bits arrive
        {"seed": 2.0**60},
        {"seed": "x"},
        {"presence_penalty": 2.5},
        {"frequency_penalty": -2.5},
        {"stop": [""]},
        {"stop": ["x"] * 17},
        {"stop": "x" * 257},
        {"stop": [{}]},
        {"stop": {"a": "b"}},
        {"guided_json": "not json"},
        {"guided_json": True},
        {"guided_json": {"d": "x" * 33_000}},
        {"structured_outputs": 1},
        {"structured_outputs": {"json": 1}},
        {"structured_outputs": {"regex": "(a+)+"}},
        {"structured_outputs": {"grammar": "x"}},
        {"n": 10_000},
        {"best_of": 2},
        {"prompt_embeds": "x"},
        {"extra_args": {}},
        {"topP": 0.5},
    ],
    ids=lambda parameters: str(parameters)[:40],
)
def test_what_the_engine_must_not_get_is_refused_by_name(parameters: dict):
    (name,) = parameters
    assert refusal(engineParameters={"vllm": parameters}).startswith(f"engineParameters.vllm.{name}")


def test_an_unknown_engine_key_is_told_what_there_is():
    assert refusal(engineParameters={"vllm": {"n": 2}}) == (
        "engineParameters.vllm.n: got an unknown key, allowed is one of frequency_penalty, guided_json, "
        "max_tokens, presence_penalty, seed, stop, structured_outputs, temperature, top_k, top_p"
    )


@pytest.mark.parametrize("schema", [{}, {"enum": [None], "default": None}, {"properties": {"TITLE": {}}}])
def test_a_schema_reaches_the_engine_unchanged(schema: dict):
    assert vllm(structured_outputs={"json": schema}).json_schema == schema
    assert vllm(guided_json=schema).json_schema == schema
    assert submit(parameters={"textToText": {"jsonSchema": schema}}).sampling.json_schema == schema


def test_the_engines_schema_goes_first():
    both = submit(
        parameters={"textToText": {"jsonSchema": {"a": 1}}},
        engineParameters={"vllm": {"structured_outputs": {"json": {"b": 1}}, "guided_json": {"c": 1}}},
    )
    assert both.sampling.json_schema == {"b": 1}


@pytest.mark.parametrize("schema", [{"$schema": 1}, {"$schema": {}}, {"pattern": "a{4294967295}"}])
def test_a_schema_that_is_none_is_refused_by_field(schema: dict[str, Any]):
    for path, body in {
        "parameters.textToText.jsonSchema": {"parameters": {"textToText": {"jsonSchema": schema}}},
        "engineParameters.vllm.guided_json": {"engineParameters": {"vllm": {"guided_json": schema}}},
        "engineParameters.vllm.structured_outputs.json": {
            "engineParameters": {"vllm": {"structured_outputs": {"json": schema}}}
        },
    }.items():
        assert refusal(**body).startswith(f"{path}: got an object, allowed is a valid JSON schema")


def test_a_schema_too_deep_is_refused():
    schema: dict[str, Any] = {}
    for _ in range(33):
        schema = {"a": schema}
    assert "32 levels" in refusal(parameters={"textToText": {"jsonSchema": schema}})


def test_unknown_keys_elsewhere_change_nothing():
    submission = submit(userId="usr-1", status="completed", runCount=9, createdAt="now", parameters={"x": 1})
    assert submission == PromptSubmission(prompt="Hi", parameters={"x": 1})


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"parameters": {"textToImage": {"width": 512}}}, "parameters.textToImage"),
        ({"engineParameters": {"stableDiffusion": {"txt2Img": {}}}}, "engineParameters.stableDiffusion"),
    ],
)
def test_image_parameters_under_a_type_that_makes_text_are_refused(body: dict, path: str):
    assert submit(**body).type == "Text-to-Image"
    assert refusal(type="Translation", **body) == f"{path}: got an object, allowed is none with the type Translation"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(CANARY * 10),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(["id", "sync", "threadId", "modelId", "maxRetries", "parameters", "engineParameters"])
insides = st.dictionaries(st.sampled_from(["template", "stop", "seed", "topP", "top_p"]), values)
objects = st.dictionaries(st.sampled_from(["textToText", "llamaCpp", "vllm"]), insides)


@given(st.dictionaries(names, values | objects), values)
def test_any_body_gives_a_submission_or_a_client_error_without_prompt_text(body: dict, prompt: object):
    try:
        parse_prompt_request({**body, "prompt": prompt})
    except ClientError as error:
        refused = error
    else:
        return
    assert refused.status == 400
    assert CANARY * 10 not in refused.message


@given(st.text(min_size=1).filter(str.strip))
def test_prompts_and_templates_never_show_in_errors(text: str):
    secret = f"{CANARY}{text}"
    for body in (
        {"prompt": secret, "sync": "x"},
        {"prompt": {secret: 1}},
        {"prompt": "a", "parameters": {"textToText": {"template": secret.replace("{prompt}", "")}}},
        {"prompt": "a", "parameters": {"textToText": {"stop": [secret * 300]}}},
    ):
        with pytest.raises(ClientError) as refused:
            parse_prompt_request(body)
        assert CANARY not in refused.value.message


def test_a_prompt_sent_as_a_huge_integer_is_its_digits():
    assert parse_prompt_request({"prompt": -(2**63) - 1}).prompt == "-9223372036854775809"


def test_a_wrong_template_is_refused_even_where_another_goes_before_it():
    body = {
        "prompt": "x",
        "parameters": {"textToText": {"template": "{prompt}!"}},
        "engineParameters": {"llamaCpp": {"template": "{prompt}?"}, "llamaCppParameters": {"template": "no place"}},
    }
    with pytest.raises(InvalidField, match=r"engineParameters\.llamaCppParameters\.template: got a string of 8 char"):
        parse_prompt_request(body)
