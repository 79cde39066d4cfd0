"""Sessions of the SEMOSS door on a real store: cookies, credentials, and other sites."""

from __future__ import annotations

import base64

import pytest
from redis.asyncio import Redis

from tests.integration.ingress_app import IngressApp, ingress_app, token
from tests.integration.model_by_hand import ModelByHand
from tests.integration.semoss_client import ASK, BAD_SESSION, BASE, Browser, another, basic, content


async def test_credentials_begin_a_session_and_its_cookie_goes_on_with_it(replica: IngressApp):
    account = await replica.user("alice")
    async with another(replica) as browser:
        answer = await browser.log_in(account)
        assert answer.json()["loginDetails"]["NATIVE"]["name"] == "alice"
        assert answer.json()["csrf"] is False
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("JSESSIONID=")
        assert "Path=/Monolith" in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        again = await browser.http.get(f"{BASE}/config")
        assert again.json()["logins"] == {"NATIVE": "alice"}
        assert "set-cookie" not in again.headers


async def test_a_session_behind_tls_has_a_secure_cookie(replica: IngressApp):
    account = await replica.user("alice")
    headers = {"authorization": basic(account.slug), "x-forwarded-proto": "https"}
    async with another(replica) as browser:
        assert "Secure" in (await browser.http.get(f"{BASE}/config", headers=headers)).headers["set-cookie"]


async def test_without_credentials_the_config_says_that_nobody_is_logged_in(replica: IngressApp):
    async with another(replica) as browser:
        answer = await browser.http.get(f"{BASE}/config")
        assert (answer.status_code, answer.json()["loginDetails"], answer.json()["logins"]) == (200, {}, {})
        assert "set-cookie" not in answer.headers


async def test_a_wrong_password_begins_nothing_and_is_counted(replica: IngressApp):
    account = await replica.user("alice")
    async with another(replica) as browser:
        for _ in range(10):
            answer = await browser.log_in(account, "wrong")
            assert (answer.status_code, answer.json()) == (401, BAD_SESSION)
            assert "www-authenticate" not in answer.headers
        late = await browser.log_in(account)
        assert late.status_code == 429
        assert int(late.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"alice").decode(),
        "Bearer a.b.c",
        "Digest x",
        "Basic /w==",
    ],
)
async def test_bad_credentials_are_a_401_everywhere(replica: IngressApp, header: str):
    async with another(replica) as browser:
        for path in ("/config/fetchCsrf", "/config"):
            answer = await browser.http.get(BASE + path, headers={"authorization": header})
            assert (answer.status_code, answer.json()) == (401, BAD_SESSION)


async def test_an_access_token_is_good_with_and_without_a_session(replica: IngressApp, model: ModelByHand):
    account = await replica.user("alice")
    headers = {"authorization": token(account), "bearer-provider": "ours"}
    async with another(replica) as browser:
        job_id = (await browser.post("runPixelAsync", headers, expression=ASK)).json()["jobId"]
        assert "set-cookie" not in browser.http.headers
        await model.answer("Yes")
        polled = (await browser.post("pixelJobStreaming", headers, jobId=job_id)).json()
        assert polled["message"][0] == content("Yes")[0]
        await browser.http.get(f"{BASE}/config", headers=headers)
        assert (await browser.http.get(f"{BASE}/config")).json()["logins"] == {"NATIVE": "alice"}


async def test_basic_without_a_cookie_finds_its_jobs_again(replica: IngressApp):
    account = await replica.user("alice")
    headers = {"authorization": basic(account.slug)}
    async with another(replica) as browser:
        job_id = (await browser.post("runPixelAsync", headers, expression=ASK)).json()["jobId"]
        assert (await browser.post("status", headers, jobId=job_id)).json() == "Created"


async def test_a_session_ends_by_logging_out(replica: IngressApp, visitor: Browser, redis_url: str):
    job_id = await visitor.start(ASK)
    kept = dict(visitor.http.cookies)
    answer = await visitor.http.get(f"{BASE}/logout/all")
    assert answer.status_code == 200
    async with another(replica) as thief:
        thief.http.cookies.update(kept)
        answer = await thief.post("status", jobId=job_id)
        assert (answer.status_code, answer.json()) == (401, BAD_SESSION)
    async with Redis.from_url(redis_url) as client:
        assert await client.keys("ps:px-session:*") == []


async def test_a_session_ends_by_itself_and_the_store_holds_no_cookie(visitor: Browser, redis_url: str):
    await visitor.start(ASK)
    cookie = visitor.http.cookies["JSESSIONID"]
    async with Redis.from_url(redis_url) as client:
        (key,) = await client.keys("ps:px-session:*")
        assert cookie.encode() not in key + b"".join((await client.hgetall(key)).values())
        assert 1790 < await client.ttl(key) <= 1800
        await client.delete(key)
    assert (await visitor.post("runPixel", expression="META | true")).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
    ],
)
async def test_another_site_cannot_use_the_cookie(visitor: Browser, headers: dict[str, str]):
    answer = await visitor.post("runPixelAsync", headers, expression=ASK)
    assert answer.status_code == 403
    assert list(answer.json()) == ["errorMessage"]
    for own in ({"origin": "http://test"}, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}):
        assert (await visitor.post("runPixelAsync", own, expression=ASK)).status_code == 200


async def test_with_csrf_on_a_session_needs_its_token(redis_url: str):
    async with ingress_app(redis_url, semoss_csrf=True) as replica:
        account = await replica.user("alice")
        async with another(replica, account) as browser, another(replica, account) as second:
            refused = await browser.post("runPixel", expression="META | true")
            assert (refused.status_code, refused.headers["x-csrf-token"]) == (403, "Required")
            fetch = {"x-csrf-token": "fetch"}
            mine = (await browser.http.get(f"{BASE}/config/fetchCsrf", headers=fetch)).headers["x-csrf-token"]
            theirs = (await second.http.get(f"{BASE}/config/fetchCsrf", headers=fetch)).headers["x-csrf-token"]
            assert (await browser.http.get(f"{BASE}/config")).json()["X-CSRF-Token"] == mine
            for sent, status in ((mine, 200), (theirs, 403), ("", 403)):
                answer = await browser.post("runPixel", {"x-csrf-token": sent}, expression="META | true")
                assert answer.status_code == status


async def test_an_api_key_is_a_secret_key_and_a_bearer_token(replica: IngressApp):
    account, bob = await replica.user("alice"), await replica.user("bob")
    key = (await replica.send("POST", "/user-svc/api-key", {"name": "mine"}, as_=account)).json()["key"]
    async with another(replica) as browser:
        for header in (basic("alice", key), f"Bearer {key}"):
            answer = await browser.post("runPixel", {"authorization": header}, expression="META | true")
            assert answer.status_code == 200, answer.text
        refused = await browser.post("runPixel", {"authorization": basic(bob.slug, key)}, expression="META | true")
        assert refused.status_code == 401
        assert (await browser.log_in(account, key)).json()["logins"] == {"NATIVE": "alice"}
