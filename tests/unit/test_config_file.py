"""serve_config.yaml is read strictly: what is wrong is named with its full path and with what is allowed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.config_file import InvalidConfigFile, InvalidPort, main, problems, read

FILE = Path(__file__).resolve().parents[2] / "serve_config.yaml"
PRODUCT_MODELS = {
    "huggingface/TheBloke/codellama-7b.Q4_K_M.gguf",
    "huggingface/TheBloke/mistral-7b-instruct-v0.2.Q3_K_S.gguf",
    "huggingface/TheBloke/mistral-7b-instruct-v0.2.Q4_K_M.gguf",
    "huggingface/TheBloke/mistral-7b-instruct-v0.2.Q5_K_M.gguf",
    "huggingface/TheBloke/tinyllama-1.1b-chat-v1.0.Q4_K_S.gguf",
    # The default of Open-Assistant's text client.
    "distilgpt2",
    # The engine of SEMOSS's streaming example.
    "b0d18f4b-ff2c-4563-8f9d-57efbff53d60",
}


@pytest.fixture
def document() -> dict[str, Any]:
    return copy.deepcopy(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def test_the_file_of_the_repository_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(FILE)]) == 0
    assert capsys.readouterr().out == f"{FILE}: OK\n"


def test_the_documented_model_ids_run_on_the_embedded_model(document: dict[str, Any]) -> None:
    embedded = document["applications"][0]["args"]["models"][0]
    assert set(embedded["aliases"]) == PRODUCT_MODELS


def _rename(mapping: dict[str, Any], old: str, new: str) -> None:
    mapping[new] = mapping.pop(old)


APP = "applications[0]"
TYPOS: list[tuple[Callable[[dict[str, Any]], None], str, str]] = [
    (lambda d: _rename(d, "http_options", "http_option"), "http_option: unknown key", "http_options"),
    (lambda d: _rename(d["http_options"], "port", "prot"), "http_options.prot: unknown key", "port"),
    (lambda d: _rename(d["applications"][0], "args", "arg"), f"{APP}.arg: unknown key", "args"),
    (
        lambda d: _rename(d["applications"][0]["args"]["models"][0], "permits", "permit"),
        f"{APP}.args.models[0].permit: unknown key",
        "permits",
    ),
    (
        lambda d: d["applications"][0]["args"].update(lease=10),
        f"{APP}.args.lease: unknown key",
        "lease_s",
    ),
    (
        lambda d: _rename(d["applications"][0]["deployments"][1], "health_check_period_s", "health_period_s"),
        f"{APP}.deployments[1].health_period_s: unknown key",
        "health_check_period_s",
    ),
    (
        lambda d: _rename(d["applications"][0]["deployments"][2]["ray_actor_options"], "num_cpus", "cpus"),
        f"{APP}.deployments[2].ray_actor_options.cpus: unknown key",
        "num_cpus",
    ),
    (
        lambda d: _rename(
            d["applications"][0]["deployments"][2]["ray_actor_options"]["runtime_env"], "env_vars", "env_var"
        ),
        f"{APP}.deployments[2].ray_actor_options.runtime_env.env_var: unknown key",
        "env_vars",
    ),
    (
        lambda d: d["applications"][0]["deployments"][2].update(autoscaling_config={"max_replica": 3}),
        f"{APP}.deployments[2].autoscaling_config.max_replica: unknown key",
        "max_replicas",
    ),
    (
        lambda d: d["applications"][0].update(autoscaling_policy={"policy_func": "a:b"}),
        f"{APP}.autoscaling_policy.policy_func: unknown key",
        "policy_function",
    ),
    (
        lambda d: d["applications"][0]["deployments"][1].update(name="Rooter"),
        f"{APP}.deployments[1].name: unknown deployment 'Rooter'",
        "Router",
    ),
]


@pytest.mark.parametrize(("break_it", "named", "allowed"), TYPOS, ids=[named for _, named, _ in TYPOS])
def test_a_typo_is_named_with_its_path_and_what_is_allowed(
    document: dict[str, Any], break_it: Callable[[dict[str, Any]], None], named: str, allowed: str
) -> None:
    break_it(document)
    (problem,) = [line for line in problems(document) if line.startswith(named)]
    assert allowed in problem


def test_a_wrong_value_is_named(document: dict[str, Any]) -> None:
    document["applications"][0]["args"]["models"][0]["permits"] = 0
    document["http_options"]["port"] = "many"
    found = problems(document)
    assert any(line.startswith("applications[0].args.models.0.permits: ") and "got 0" in line for line in found)
    assert any(line.startswith("http_options.port: ") and "got 'many'" in line for line in found)


@pytest.mark.parametrize(
    ("timings", "named"),
    [
        ({"lease_s": 2}, "lease_s: got 2, allowed is 3 x heartbeat_s (9) or more"),
        ({"heartbeat_s": 10}, "lease_s: got 10, allowed is 3 x heartbeat_s (30) or more"),
        # A prompt that must run alone is kept granted from a third of the lease on.
        ({"lease_s": 30}, "claim_s: got 5, allowed is lease_s / 2 (15) or more"),
        ({"claim_s": 1}, "claim_s: got 1, allowed is lease_s / 2 (5) or more"),
    ],
)
def test_a_lease_outlives_its_heartbeats_and_a_grant_its_renewal(
    document: dict[str, Any], timings: dict[str, float], named: str
) -> None:
    document["applications"][0]["args"].update(timings)
    assert problems(document) == [f"{APP}.args.{named}"]


def test_timings_that_shrink_together_are_allowed(document: dict[str, Any]) -> None:
    document["applications"][0]["args"].update(lease_s=0.3, heartbeat_s=0.1, claim_s=0.15)
    assert problems(document) == []


def _scaled(document: dict[str, Any]) -> dict[str, Any]:
    """The application, with a model that is scaled."""
    (model,) = (d for d in document["applications"][0]["deployments"] if d["name"].startswith("LLM-"))
    del model["num_replicas"]
    model["autoscaling_config"] = {"min_replicas": 0, "initial_replicas": 0, "max_replicas": 2}
    application: dict[str, Any] = document["applications"][0]
    return application


def test_a_model_that_is_scaled_needs_the_policy_and_the_routers_reports(document: dict[str, Any]) -> None:
    application = _scaled(document)
    assert problems(document) == []
    router = next(d for d in application["deployments"] if d["name"] == "Router")
    reports = router.pop("autoscaling_config")
    # The painter is scaled, too.
    assert problems(document) == [
        f"{APP}.deployments[{number}].autoscaling_config: needs one for the Router, too: what waits is reported by it"
        for number in (2, 3)
    ]
    router["autoscaling_config"] = reports
    del application["autoscaling_policy"]
    for number, problem in zip((2, 3), problems(document), strict=True):
        needs = "autoscaling_config: needs the application's autoscaling_policy"
        assert problem.startswith(f"{APP}.deployments[{number}].{needs}")


def test_a_replica_has_the_time_to_drain(document: dict[str, Any]) -> None:
    document["applications"][0]["args"]["models"][0]["drain_s"] = 13
    (problem,) = problems(document)
    assert problem.startswith(f"{APP}.deployments[2].graceful_shutdown_timeout_s: got 15, allowed is 16 or more")


def test_ingress_and_router_go_by_the_same_routing(document: dict[str, Any]) -> None:
    ingress, router, *_ = document["applications"][0]["deployments"]
    model = document["applications"][0]["args"]["models"][0]["id"]
    ingress["user_config"] = {"splits": {"chat": {model: 1}}}
    (problem,) = problems(document)
    assert problem.startswith(f"{APP}.deployments: the user_config of Ingress and Router differ")
    router["user_config"] = ingress["user_config"]
    assert problems(document) == []


def test_a_wrong_routing_is_named(document: dict[str, Any]) -> None:
    for deployment in document["applications"][0]["deployments"][:2]:
        deployment["user_config"] = {"splits": {"chat": {"none": 1}}}
    found = problems(document)
    assert [line.partition(": ")[0] for line in found] == [
        f"{APP}.deployments[{i}].user_config.splits.chat" for i in (0, 1)
    ]
    for deployment in document["applications"][0]["deployments"][:2]:
        deployment["user_config"] = {"split": {}}
    assert [line.partition(";")[0] for line in problems(document)] == [
        f"{APP}.deployments[{i}].user_config.split: unknown key (did you mean 'splits'?)" for i in (0, 1)
    ]


@pytest.mark.parametrize(
    "source", ["models/x.Q4_K_M.gguf", "org/Model-GGUF", "org/Model-GGUF:Q4_K_M", "org/model:IQ3_M", "a/b-gguf/c"]
)
def test_a_gguf_source_is_refused_with_the_reason(document: dict[str, Any], source: str) -> None:
    document["applications"][0]["args"]["models"][0]["source"] = source
    problem = problems(document)[0]
    assert problem.startswith(
        f"{APP}.args.models.0: Value error, source: got {source!r}, a GGUF file, which vLLM does not load"
    )


def test_a_gguf_id_is_a_name_like_any_other(document: dict[str, Any]) -> None:
    document["applications"][0]["args"]["models"][0]["id"] = "huggingface/org/model.Q4_K_M.gguf"
    (model,) = (d for d in document["applications"][0]["deployments"] if d["name"].startswith("LLM-"))
    model["name"] = "LLM-model-q4-k-m-gguf"
    assert problems(document) == []


def test_free_form_values_are_not_searched_for_keys(document: dict[str, Any]) -> None:
    options = document["applications"][0]["deployments"][2]
    options["user_config"] = {"anything": {"goes": 1}}
    options["ray_actor_options"]["runtime_env"]["env_vars"]["MY_OWN"] = "1"
    assert problems(document) == []


def test_every_problem_is_a_line_and_the_exit_status_says_so(
    tmp_path: Path, document: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    document["htp_options"] = {}
    document["applications"][0]["nam"] = "x"
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(document))
    assert main([str(path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{path}: ") for line in lines)


def test_a_file_that_is_not_yaml_or_not_there_is_one_problem(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("applications: [")
    for path, message in ((broken, "is not YAML"), (tmp_path / "none.yaml", "cannot be read")):
        with pytest.raises(InvalidConfigFile, match=message):
            read(path)


def test_port_of_the_environment_replaces_the_ports_value() -> None:
    assert read(FILE, {}).http_options.port == 11337
    assert read(FILE, {"PORT": "8123"}).http_options.port == 8123
    assert read(FILE, {"PORT": ""}).http_options.port == 11337


@pytest.mark.parametrize("port", ["abc", "0", "99999", "-1", "8 080", "8080.0", "٣", "9" * 5000])
def test_a_port_that_is_none_is_the_environments_fault_and_not_the_files(
    port: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidPort) as refused:
        read(FILE, {"PORT": port})
    assert refused.value.message.startswith(f"PORT: got {port[:3]!r}"[:-1])
    assert refused.value.message.endswith(", allowed is 1 to 65535")
    monkeypatch.setenv("PORT", port)
    assert main([str(FILE)]) == 1
    assert capsys.readouterr().err == f"{refused.value.message}\n"


def test_a_variable_that_is_no_json_is_the_environments_fault_and_not_the_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PROMPT_SVC_RETENTION", "completed: 30")
    assert main([str(FILE)]) == 1
    assert capsys.readouterr().err == "PROMPT_SVC_RETENTION: allowed is a JSON object (docs/settings.md)\n"
