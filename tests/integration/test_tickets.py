"""Stream tickets: what one opens, how often, for whom, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from deployments.ingress.principal import Principal
from deployments.ingress.tickets import Tickets
from pipeline.accounts import Account
from pipeline.errors import TooManyRequests, Unauthorized
from pipeline.store.keys import Keys
from pipeline.store.tickets import MOST_OPENINGS, MOST_PER_USER, REOPEN_S, UNUSED_S, TicketStore
from tests.integration.ingress_app import IngressApp, ingress_app, token

STREAM = "/prompt-svc/prompts/t/responses/subscribe"


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


async def ticket_of(replica: IngressApp, account: Account) -> str:
    answer = await replica.send("POST", "/user-svc/stream-ticket", as_=account)
    assert answer.status_code == 200, answer.text
    assert sorted(answer.json()) == ["expiresAt", "ticket"]
    assert answer.headers["cache-control"] == "no-store"
    return str(answer.json()["ticket"])


async def test_a_ticket_opens_a_stream_once_on_any_replica(replicas: list[IngressApp], alice: Account):
    one, two = replicas
    ticket = await ticket_of(one, alice)
    assert await two.opens(f"{STREAM}?ticket={ticket}") == 200
    assert await one.opens(f"{STREAM}?ticket={ticket}") == 401
    assert await two.opens(f"{STREAM}?ticket={ticket}") == 401


async def test_of_many_who_use_a_ticket_at_once_one_gets_in(replicas: list[IngressApp], alice: Account):
    ticket = await ticket_of(replicas[0], alice)
    answers = await asyncio.gather(*(replicas[i % 2].opens(f"{STREAM}?ticket={ticket}") for i in range(20)))
    assert sorted(answers) == [200] + [401] * 19


async def test_a_reconnect_that_says_where_it_was_opens_the_same_stream_again(
    replicas: list[IngressApp], alice: Account
):
    one, two = replicas
    ticket = await ticket_of(one, alice)
    assert await one.opens(f"{STREAM}?ticket={ticket}") == 200
    assert await two.opens(f"{STREAM}?ticket={ticket}", last_event_id="1-1") == 200
    assert await two.opens(f"{STREAM}?ticket={ticket}", last_event_id="1-1") == 200
    other = STREAM.replace("/t/", "/other/")
    assert await one.opens(f"{other}?ticket={ticket}", last_event_id="1-1") == 401


async def test_a_ticket_shows_its_holders_stream_alone(replicas: list[IngressApp], alice: Account):
    bob = await replicas[0].user("bob")
    holder = Principal.from_record(await _holder(replicas[0], bob))
    assert holder.user_id == bob.id


async def _holder(replica: IngressApp, account: Account) -> str:
    redis = replica.accounts.store._client  # type: ignore[attr-defined]
    store = TicketStore(redis, Keys("ps"))
    holder = await store.redeem(await ticket_of(replica, account), stream=STREAM, resumes=False)
    assert holder is not None
    return holder


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?ticket=",
        "?ticket=st-0000000000000000000000",
        "?ticket=st-../../x",
        "?ticket={ticket}&ticket={ticket}",
        "?Ticket={ticket}",
        "?ticket={jwt}",
        "?ticket=Bearer%20{jwt}",
        "?token={jwt}",
    ],
)
async def test_anything_else_in_the_url_opens_nothing(replicas: list[IngressApp], alice: Account, query: str):
    ticket = await ticket_of(replicas[0], alice)
    jwt = token(alice).removeprefix("Bearer ")
    assert await replicas[0].opens(STREAM + query.format(ticket=ticket, jwt=jwt)) == 401
    assert await replicas[0].opens(f"{STREAM}?ticket={ticket}") == 200


async def test_a_ticket_is_for_streams_only(replicas: list[IngressApp], alice: Account):
    ticket = await ticket_of(replicas[0], alice)
    for method, path in [
        ("POST", "/user-svc/self"),
        ("POST", "/user-svc/stream-ticket"),
        ("POST", "/prompt-svc/prompts"),
        ("GET", "/model-svc/default-model/status"),
        ("HEAD", STREAM),
    ]:
        assert (await replicas[0].send(method, f"{path}?ticket={ticket}")).status_code == 401
    # A ticket in the header is no token either.
    assert (await replicas[0].send("POST", "/user-svc/self", as_=f"Bearer {ticket}")).status_code == 401
    assert await replicas[0].opens(f"{STREAM}?ticket={ticket}") == 200


async def test_a_header_goes_before_a_ticket_which_stays_unused(replicas: list[IngressApp], alice: Account):
    ticket = await ticket_of(replicas[0], alice)
    assert await replicas[0].opens(f"{STREAM}?ticket={ticket}", as_="Bearer a.b.c") == 401
    assert await replicas[0].opens(f"{STREAM}?ticket={ticket}", as_=alice) == 200
    assert await replicas[0].opens(f"{STREAM}?ticket={ticket}") == 200


async def test_a_ticket_gives_no_permission_that_its_holder_lacks(redis_url: str):
    async with ingress_app(redis_url, default_grants=["prompt-svc:prompt:create"]) as replica:
        ticket = await ticket_of(replica, await replica.user("alice"))
        assert await replica.opens(f"{STREAM}?ticket={ticket}") == 401


async def test_the_store_keeps_no_ticket_only_its_digest_and_not_for_long(
    replicas: list[IngressApp], alice: Account, client: Redis
):
    ticket = await ticket_of(replicas[0], alice)
    (key,) = await client.keys("ps:ticket:*")
    assert 0 < await client.pttl(key) <= UNUSED_S * 1000
    everything = str(await client.keys("*")) + str(await client.hgetall(key))
    assert ticket not in everything
    assert ticket[3:] not in everything
    await replicas[0].opens(f"{STREAM}?ticket={ticket}")
    assert UNUSED_S * 1000 < await client.pttl(key) <= REOPEN_S * 1000


async def test_a_ticket_ends_with_its_time_and_with_its_token(client: Redis):
    now = [1_000_000.0]
    tickets = Tickets(TicketStore(client, Keys("ps")), clock=lambda: now[0])
    holder = Principal(
        user_id="u", slug="s", roles=("r",), app_id="a", device="", token_id="t", expires_at=1_000_100, app_host="h"
    )
    ticket = await tickets.issue(holder)
    assert await tickets.redeem(ticket, stream="/s", resumes=False) == holder
    now[0] = 1_000_099
    assert await tickets.redeem(ticket, stream="/s", resumes=True) == holder
    now[0] = 1_000_100
    with pytest.raises(Unauthorized):
        await tickets.redeem(ticket, stream="/s", resumes=True)
    unused = await tickets.issue(holder)
    (key,) = [key for key in await client.keys("ps:ticket:*") if not await client.hexists(key, "stream")]
    await client.pexpire(key, 0)
    with pytest.raises(Unauthorized):
        await tickets.redeem(unused, stream="/s", resumes=False)


async def test_a_stream_is_opened_again_only_so_often(client: Redis):
    store = TicketStore(client, Keys("ps"))
    await store.issue("x", user_id="u", holder="h")
    for _ in range(MOST_OPENINGS):
        assert await store.redeem("x", stream="/s", resumes=True) == "h"
    assert await store.redeem("x", stream="/s", resumes=True) is None


async def test_a_user_has_only_so_many_tickets_at_a_time(client: Redis):
    store = TicketStore(client, Keys("ps"))
    for number in range(MOST_PER_USER):
        await store.issue(str(number), user_id="u", holder="h")
    with pytest.raises(TooManyRequests) as refused:
        await store.issue("one more", user_id="u", holder="h")
    assert 0 < (refused.value.retry_after_s or 0) <= UNUSED_S
    await store.issue("theirs", user_id="v", holder="h")
    assert len(await client.keys("ps:ticket:*")) == MOST_PER_USER + 1
