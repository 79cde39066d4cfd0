"""policy-svc on two replicas: kept, checked, enforced on prompts, and in force everywhere at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deployments.ingress.fresh import MAX_AGE_S
from pipeline.accounts import Account
from pipeline.policy import MOST_INSTANCES
from tests.integration.ingress_app import IngressApp, ingress_app
from tests.waiting import until_true

PROMPT = "/prompt-svc/prompt"
PROMPTS_PER_MINUTE = {"maxRequests": 5, "timeWindow": "1m", "entity": "userId", "scope": "endpoint"}


def rate_limit(**parameters: Any) -> dict[str, Any]:
    limit = {**PROMPTS_PER_MINUTE, **parameters}
    return {"instance": {"endpoint": PROMPT, "templateId": "rate-limit", "parameters": {"rateLimit": limit}}}


def blocklist(*addresses: str, endpoint: str = "") -> dict[str, Any]:
    parameters = {"blocklist": {"blockedIPs": list(addresses)}}
    return {"instance": {"endpoint": endpoint, "templateId": "blocklist", "parameters": parameters}}


async def put(replica: IngressApp, admin: Account, policy_id: str, body: Any) -> None:
    answer = await replica.send("PUT", f"/policy-svc/instance/{policy_id}", body, as_=admin)
    assert (answer.status_code, answer.text) == (200, "{}")


async def submit(replica: IngressApp, account: Account, **options: str) -> tuple[int, str, str | None]:
    answer = await replica.send("POST", PROMPT, {"prompt": "hi"}, as_=account, **options)
    return answer.status_code, answer.json().get("error", ""), answer.headers.get("retry-after")


async def test_the_limit_holds_over_all_replicas_and_says_when_to_come_back(replicas: list[IngressApp], admin: Account):
    one, _ = replicas
    alice, bob = await one.user("alice"), await one.user("bob")
    await put(one, admin, "prompts", rate_limit(maxRequests=5))
    outcomes = await asyncio.gather(*(submit(replicas[i % 2], alice) for i in range(20)))
    refused = [outcome for outcome in outcomes if outcome[0] != 200]
    assert len(outcomes) - len(refused) == 5
    for status, error, retry_after in refused:
        assert status == 429
        assert error.startswith(
            "Too Many Requests: a policy allows 5 in 1m to /prompt-svc/prompt per user, try again in "
        )
        assert 50 <= int(retry_after or "") <= 61
    assert (await submit(one, bob))[0] == 200


async def test_the_wait_of_a_day_is_said_and_not_asked_for(replicas: list[IngressApp], admin: Account):
    alice = await replicas[0].user("alice")
    await put(replicas[0], admin, "prompts", rate_limit(maxRequests=1, timeWindow="1d"))
    assert (await submit(replicas[0], alice))[0] == 200
    status, error, retry_after = await submit(replicas[0], alice)
    assert (status, retry_after) == (429, "120")
    assert 86_000 < int(error.rsplit(" ", 2)[1]) <= 88_000


async def test_a_refused_prompt_is_not_stored(replicas: list[IngressApp], admin: Account):
    alice = await replicas[0].user("alice")
    await put(replicas[0], admin, "prompts", rate_limit(maxRequests=1))
    for _ in range(3):
        await submit(replicas[0], alice)
    query = {"query": {"count": True}}
    assert (await replicas[0].send("POST", "/prompt-svc/prompts", query, as_=alice)).json()["count"] == 1


async def test_saving_again_replaces_and_removing_ends_it(replicas: list[IngressApp], admin: Account):
    one, _ = replicas
    alice = await one.user("alice")
    await put(one, admin, "prompts", rate_limit(maxRequests=1))
    assert [(await submit(one, alice))[0] for _ in range(2)] == [200, 429]
    await put(one, admin, "prompts", rate_limit(maxRequests=2))
    assert [(await submit(one, alice))[0] for _ in range(2)] == [200, 429]
    removed = await one.send("DELETE", "/policy-svc/instance/prompts", as_=admin)
    assert (removed.status_code, removed.text) == (200, "{}")
    assert (await submit(one, alice))[0] == 200
    assert (await one.send("DELETE", "/policy-svc/instance/prompts", as_=admin)).status_code == 404


async def test_a_policy_is_in_force_on_every_replica_within_two_seconds(replicas: list[IngressApp], admin: Account):
    one, two = replicas
    alice = await one.user("alice")
    assert (await submit(two, alice, peer="198.51.100.9"))[0] == 200  # it has read that there is none
    await put(one, admin, "bad", blocklist("198.51.100.0/24"))

    async def blocked() -> bool:
        return (await submit(two, alice, peer="198.51.100.9"))[0] == 401

    assert MAX_AGE_S <= 1
    await until_true(blocked, timeout_s=2, what="the policy on the other replica")


async def test_a_blocked_address_is_refused_whoever_it_is(replicas: list[IngressApp], admin: Account):
    one, _ = replicas
    alice = await one.user("alice")
    await put(one, admin, "bad", blocklist("198.51.100.9", "2001:db8::/32"))
    for peer in ("198.51.100.9", "2001:db8::1", "::ffff:198.51.100.9"):
        assert (await submit(one, alice, peer=peer))[:2] == (401, "Blocked by a policy")
    assert (await submit(one, alice))[0] == 200
    # The header says what a client likes.
    assert (await submit(one, alice, peer="198.51.100.9", x_forwarded_for="192.0.2.9"))[0] == 401
    body = {"appHost": "unnamed", "slug": "carol", "password": "correct horse battery"}
    assert (await one.send("POST", "/user-svc/register", body, peer="198.51.100.9")).status_code == 401
    # Whoever shut themselves out can log in and take it back.
    login = {"appHost": "unnamed", "slug": "boss", "password": "correct horse battery"}
    assert (await one.send("POST", "/user-svc/login", login, peer="198.51.100.9")).status_code == 200
    answer = await one.send("DELETE", "/policy-svc/instance/bad", as_=admin, peer="198.51.100.9")
    assert answer.status_code == 200


async def test_behind_a_proxy_of_ones_own_the_header_says_who_calls(redis_url: str):
    async with ingress_app(redis_url, trusted_proxies=1) as replica:
        admin, alice = await replica.admin(), await replica.user("alice")
        await put(replica, admin, "bad", blocklist("198.51.100.9"))
        assert (await submit(replica, alice, x_forwarded_for="1.1.1.1, 198.51.100.9"))[0] == 401
        assert (await submit(replica, alice, x_forwarded_for="198.51.100.9, 1.1.1.1"))[0] == 200


async def test_addresses_are_counted_apart_from_users(replicas: list[IngressApp], admin: Account):
    one, _ = replicas
    alice, bob = await one.user("alice"), await one.user("bob")
    await put(one, admin, "prompts", rate_limit(maxRequests=2, entity="ip"))
    assert [(await submit(one, who))[0] for who in (alice, bob, alice)] == [200, 200, 429]
    assert (await submit(one, alice, peer="192.0.2.77"))[0] == 200


async def check(replica: IngressApp, admin: Account, **body: str) -> bool:
    answer = await replica.send("POST", "/policy-svc/check", body, as_=admin)
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == ["allowed"]
    return bool(answer.json()["allowed"])


async def test_a_check_counts_as_the_call_it_asks_about(replicas: list[IngressApp], admin: Account):
    one, two = replicas
    alice = await one.user("alice")
    await put(one, admin, "prompts", rate_limit(maxRequests=3))
    call = {"endpoint": PROMPT, "method": "POST", "userId": alice.id, "ip": "192.0.2.1"}
    assert [await check(one, admin, **call) for _ in range(2)] == [True, True]
    assert [(await submit(one, alice))[0] for _ in range(2)] == [200, 429]
    assert not await check(two, admin, **call)
    assert await check(one, admin, **{**call, "endpoint": "/other"})
    assert await check(one, admin, **{**call, "userId": "usr-other"})
    assert await check(one, admin, endpoint=PROMPT)


async def test_a_global_limit_counts_every_endpoint_together(replicas: list[IngressApp], admin: Account):
    one, _ = replicas
    await put(one, admin, "all", rate_limit(maxRequests=2, scope="global"))
    call = {"userId": "usr-1"}
    assert [await check(one, admin, endpoint=f"/{i}", **call) for i in range(3)] == [True, True, False]


async def test_a_check_of_a_blocked_address(replicas: list[IngressApp], admin: Account):
    await put(replicas[0], admin, "bad", blocklist("198.51.100.9", endpoint="/a"))
    assert not await check(replicas[0], admin, endpoint="/a", ip="198.51.100.9")
    assert await check(replicas[0], admin, endpoint="/b", ip="198.51.100.9")


async def test_policies_are_listed_as_they_were_put(replicas: list[IngressApp], admin: Account):
    one, two = replicas
    # As the command line sends it: numbers and lists as text, keys in any case.
    said = {
        "endpoint": PROMPT,
        "templateId": "rate-limit",
        "parameters": {"rateLimit": {"maxRequests": "5", "timeWindow": "1d", "entity": "user"}},
    }
    await put(one, admin, "b%2Fprompts", {"instance": {**said, "id": "ignored"}})
    await put(
        one, admin, "a", {"Instance": {**blocklist()["instance"], "parameters": {"blocklist": {"blockedips": "::1"}}}}
    )
    answer = await two.send("POST", "/policy-svc/instances", as_=admin)
    assert answer.json() == {
        "instances": [
            {
                "id": "a",
                "endpoint": "",
                "templateId": "blocklist",
                "parameters": {"blocklist": {"blockedIPs": ["::1"]}},
            },
            {
                "id": "b/prompts",
                "endpoint": PROMPT,
                "templateId": "rate-limit",
                "parameters": {
                    "rateLimit": {"maxRequests": 5, "timeWindow": "1d", "entity": "userId", "scope": "endpoint"}
                },
            },
        ]
    }


RATE = rate_limit()["instance"]
BAD: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "instance: got nothing"),
    "no object": ({"instance": [1]}, "instance: got an array"),
    "no template": ({"instance": {"parameters": {}}}, "instance.templateId: got nothing"),
    "unknown template": ({"instance": {**RATE, "templateId": "magic"}}, 'instance.templateId: got "magic"'),
    "no parameters": ({"instance": {"templateId": "rate-limit"}}, "instance.parameters: got nothing"),
    "the other parameters": ({"instance": {**RATE, "templateId": "blocklist"}}, "instance.parameters.blocklist"),
    "no limit": ({"instance": {**RATE, "parameters": {}}}, "instance.parameters.rateLimit: got nothing"),
    "no requests": (rate_limit(maxRequests=0), "instance.parameters.rateLimit.maxRequests: got 0"),
    "too many requests": (rate_limit(maxRequests=10**7), "instance.parameters.rateLimit.maxRequests"),
    "a word": (rate_limit(maxRequests="few"), "instance.parameters.rateLimit.maxRequests"),
    "no unit": (rate_limit(timeWindow=60), "instance.parameters.rateLimit.timeWindow: got '60'"),
    "a year": (rate_limit(timeWindow="365d"), "instance.parameters.rateLimit.timeWindow"),
    "milliseconds": (rate_limit(timeWindow="10ms"), "instance.parameters.rateLimit.timeWindow"),
    "unknown entity": (rate_limit(entity="org"), "instance.parameters.rateLimit.entity"),
    "unknown scope": (rate_limit(scope="moon"), "instance.parameters.rateLimit.scope"),
    "no address": (blocklist("example.com"), "instance.parameters.blocklist.blockedIPs: got 'example.com'"),
    "too many addresses": (blocklist(*["::1"] * 1025), "instance.parameters.blocklist.blockedIPs"),
    "a long endpoint": ({"instance": {**RATE, "endpoint": "/" * 257}}, "instance.endpoint"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_policy_is_named_and_not_kept(replicas: list[IngressApp], admin: Account, name: str):
    body, mention = BAD[name]
    answer = await replicas[0].send("PUT", "/policy-svc/instance/x", body, as_=admin)
    assert answer.status_code == 400, answer.text
    assert mention in answer.json()["error"]
    assert (await replicas[0].send("POST", "/policy-svc/instances", as_=admin)).json() == {"instances": []}


@pytest.mark.parametrize("policy_id", ["x" * 257, "a%0Ab"])
async def test_a_bad_id_is_refused(replicas: list[IngressApp], admin: Account, policy_id: str):
    answer = await replicas[0].send("PUT", f"/policy-svc/instance/{policy_id}", rate_limit(), as_=admin)
    assert answer.status_code == 400
    assert "instanceId" in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "mention"),
    [({"ip": "example.com"}, "ip"), ({"endpoint": "x" * 257}, "endpoint"), ({"userId": {"a": 1}}, "userId")],
)
async def test_a_bad_check_is_named(replicas: list[IngressApp], admin: Account, body: dict, mention: str):
    answer = await replicas[0].send("POST", "/policy-svc/check", body, as_=admin)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(mention)


async def test_there_are_only_so_many_policies(replicas: list[IngressApp], admin: Account):
    for number in range(MOST_INSTANCES):
        await put(replicas[0], admin, f"p{number}", rate_limit())
    answer = await replicas[0].send("PUT", "/policy-svc/instance/more", rate_limit(), as_=admin)
    assert (answer.status_code, answer.json()) == (409, {"error": "There are 100 of these already; remove some first"})
    await put(replicas[0], admin, "p7", rate_limit())


async def test_a_prompt_that_cannot_be_counted_is_not_taken(replicas: list[IngressApp], admin: Account, redis_url: str):
    async with ingress_app("redis://127.0.0.1:1/0") as away:
        answer = await away.send("POST", PROMPT, {"prompt": "hi"}, as_=admin)
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
