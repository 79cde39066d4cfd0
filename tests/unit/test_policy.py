"""What policies are and whom they concern; counting is the store's (tests/integration/test_rate_limits.py)."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from deployments.ingress.client_address import client_address
from deployments.ingress.policies import RateLimited
from pipeline.durations import parse_duration
from pipeline.errors import InvalidField
from pipeline.policy import Blocklist, Call, Entity, Policy, PolicyBook, RateLimit, Scope

DAY = 86_400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("1m", 60),
        ("1d", DAY),
        ("7d", 7 * DAY),
        ("1w", 7 * DAY),
        ("24h", DAY),
        ("1h30m", 5400),
        ("31d", 31 * DAY),
    ],
)
def test_a_duration(text: str, seconds: int):
    assert parse_duration(text, "timeWindow", longest_s=31 * DAY) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "1", "m", "0s", "-1m", "1.5h", "1 m", "1M", "1y", "500ms", "32d", "1d1s\n", "9999999999s", "1m" * 6, "١m"],
)
def test_what_is_no_duration_is_named(text: str):
    with pytest.raises(InvalidField) as refused:
        parse_duration(text, "timeWindow", longest_s=31 * DAY)
    assert refused.value.field == "timeWindow"
    assert "1s to 31d" in refused.value.message


def blocks(written: str, ip: str | None, endpoint: str = "", called: str = "/a") -> bool:
    book = PolicyBook([Policy(id="b", endpoint=endpoint, rule=Blocklist(blocked=(written,)))])
    return book.blocks(Call(endpoint=called, ip=ip, user_id=None))


@pytest.mark.parametrize(
    ("written", "ip", "blocked"),
    [
        ("203.0.113.7", "203.0.113.7", True),
        ("203.0.113.7", "203.0.113.8", False),
        ("203.0.113.0/24", "203.0.113.200", True),
        ("203.0.113.9/24", "203.0.113.200", True),
        ("203.0.113.7", "::ffff:203.0.113.7", True),
        ("::ffff:203.0.113.7", "203.0.113.7", True),
        ("2001:db8::/32", "2001:db8:1::5", True),
        ("2001:db8::5", "2001:0db8:0::5", True),
        ("fe80::1", "fe80::1%eth0", True),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("203.0.113.7", "testclient", False),
        ("203.0.113.7", None, False),
    ],
)
def test_a_blocklist_is_about_addresses_not_spellings(written: str, ip: str | None, blocked: bool):
    assert blocks(written, ip) is blocked


def test_a_blocklist_may_be_for_one_endpoint():
    assert blocks("::1", "::1", endpoint="/a", called="/a")
    assert not blocks("::1", "::1", endpoint="/a", called="/b")


def charged(ip: str) -> str:
    rule = RateLimit(max_requests=1, time_window="1m", window_s=60, entity=Entity.IP, scope=Scope.GLOBAL)
    (charge,) = PolicyBook([Policy(id="p", endpoint="", rule=rule)]).charges(Call(endpoint="/a", ip=ip, user_id=None))
    return charge.counter


def test_addresses_of_one_ipv6_network_are_one_caller():
    assert charged("2001:db8::1") == charged("2001:db8::ffff:2")
    assert charged("2001:db8::1") != charged("2001:db8:0:1::1")
    assert charged("::ffff:192.0.2.1") == charged("192.0.2.1")
    assert charged("192.0.2.1") != charged("192.0.2.2")


def test_another_window_begins_to_count_anew_and_another_number_does_not():
    def counter(most: int, window_s: int) -> str:
        rule = RateLimit(max_requests=most, time_window="", window_s=window_s, entity=Entity.USER, scope=Scope.GLOBAL)
        book = PolicyBook([Policy(id="p", endpoint="", rule=rule)])
        return book.charges(Call(endpoint="/a", ip=None, user_id="u"))[0].counter

    assert counter(1, 60) == counter(5, 60)
    assert counter(1, 60) != counter(1, 61)


@pytest.mark.parametrize(
    "policy",
    [
        Policy(id="a", endpoint="/a", rule=Blocklist(blocked=("::1", "10.0.0.0/8"))),
        Policy(
            id="b",
            endpoint="",
            rule=RateLimit(max_requests=5, time_window="1d", window_s=DAY, entity=Entity.IP, scope=Scope.ENDPOINT),
        ),
    ],
)
def test_a_policy_comes_back_from_its_record(policy: Policy):
    assert Policy.from_record(policy.id, policy.to_record()) == policy


def test_a_refusal_says_the_real_time_and_asks_for_a_shorter_one():
    rule = RateLimit(max_requests=5, time_window="1d", window_s=DAY, entity=Entity.USER, scope=Scope.ENDPOINT)
    book = PolicyBook([Policy(id="p", endpoint="", rule=rule)])
    error = RateLimited(book.charges(Call(endpoint="/a", ip=None, user_id="u"))[0], 86_000.2)
    assert error.message == "Too Many Requests: a policy allows 5 in 1d to /a per user, try again in 86001 s"
    assert (error.status, error.retry_after_s) == (429, 120)


def request(port: int, *forwarded: str) -> Request:
    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded]
    return Request({"type": "http", "client": ("198.51.100.1", port), "headers": headers})


@pytest.mark.parametrize(
    ("proxies", "port", "forwarded", "address"),
    [
        (0, 4711, (), "198.51.100.1"),
        (0, 4711, ("203.0.113.9",), "198.51.100.1"),
        # The web server has believed the header of a loopback peer: we have not.
        (0, 0, ("198.51.100.1",), "127.0.0.1"),
        (1, 4711, ("203.0.113.9",), "203.0.113.9"),
        (1, 4711, ("1.1.1.1, 203.0.113.9",), "203.0.113.9"),
        (1, 4711, ("1.1.1.1", "203.0.113.9"), "203.0.113.9"),
        (2, 4711, ("1.1.1.1, 203.0.113.9, 10.0.0.1",), "203.0.113.9"),
        (2, 4711, ("203.0.113.9",), "198.51.100.1"),
        (1, 4711, ("203.0.113.9:5555",), "203.0.113.9"),
        (1, 4711, ("[2001:db8::1]:5555",), "2001:db8::1"),
        (1, 4711, ("2001:db8::1",), "2001:db8::1"),
    ],
)
def test_a_header_says_where_a_request_comes_from_only_as_far_as_proxies_are_trusted(
    proxies: int, port: int, forwarded: tuple, address: str
):
    assert client_address(request(port, *forwarded), trusted_proxies=proxies) == address


def test_a_server_that_does_not_know_the_peer():
    assert client_address(Request({"type": "http", "client": None, "headers": []})) is None
