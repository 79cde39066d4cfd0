"""A store that is made a replica of another: who is connected to it goes over to the new primary, or waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from deployments.local.valkey import EmbeddedValkey
from deployments.replica import persist as module
from deployments.replica.persist import persist
from pipeline.errors import StoreUnavailable
from pipeline.prompt import NewPrompt
from pipeline.store.connection import connect_impatient, connect_patient, translated_errors
from pipeline.store.keys import Keys
from pipeline.store.prompts import PromptStore
from tests.waiting import until, wait_for


class Address:
    """What clients connect to. Who is connected already stays where they are when it leads elsewhere."""

    def __init__(self, port: int) -> None:
        self.leads_to = port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_store, to_store = await asyncio.open_connection("127.0.0.1", self.leads_to)
        requests = asyncio.create_task(_pass_on(reader, to_store))
        try:
            await _pass_on(from_store, writer)
        finally:
            requests.cancel()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


class Pair:
    """A primary and its replica, with one password."""

    def __init__(self, primary: EmbeddedValkey, replica: EmbeddedValkey) -> None:
        password = urlsplit(primary.url).password
        self.address = Address(primary.port)
        self._servers = (primary, replica)
        self._clients = tuple(server.client() for server in self._servers)
        for client in self._clients:
            client.config_set("repl-diskless-sync-delay", 0)
            client.config_set("masterauth", password)
        self._clients[1].config_set("requirepass", password)
        self._clients[1].auth(password)
        self._follow(replica=1, primary=0)

    def _follow(self, *, replica: int, primary: int) -> None:
        self._clients[replica].replicaof("127.0.0.1", self._servers[primary].port)
        wait_for(lambda: self._info(replica)["master_link_status"] == "up", what="the replica is in step")

    def _info(self, server: int) -> Any:
        return self._clients[server].info("replication")

    def fail_over(self) -> None:
        self._clients[1].replicaof("NO", "ONE")
        self._follow(replica=0, primary=1)
        self.address.leads_to = self._servers[1].port

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with (
        EmbeddedValkey(tmp_path / "a", appendfsync="everysec") as a,
        EmbeddedValkey(tmp_path / "b", appendfsync="everysec") as b,
    ):
        pair = Pair(a, b)
        yield pair
        pair.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A store of the test's own."""
    with EmbeddedValkey(tmp_path, appendfsync="everysec") as server:
        yield server


@asynccontextmanager
async def through(pair: Pair, server_url: str, connect: Callable[[str], Redis]) -> AsyncIterator[Redis]:
    listener = await asyncio.start_server(pair.address.serve, "127.0.0.1", 0)
    async with listener:
        parts = urlsplit(server_url)
        port = listener.sockets[0].getsockname()[1]
        client = connect(parts._replace(netloc=f":{parts.password}@127.0.0.1:{port}").geturl())
        yield client
        await client.aclose()


def new(name: str) -> NewPrompt:
    return NewPrompt(id=name, user_id="u", thread_id=name, model_id="m", prompt="x", prompt_token_ids=(1,))


@pytest.mark.parametrize("connect", [connect_impatient, connect_patient])
@pytest.mark.parametrize("together", [1, 8])
async def test_whoever_is_connected_to_the_old_primary_goes_over_to_the_new_one(
    pair: Pair, connect: Callable[[str], Redis], together: int
) -> None:
    async with through(pair, pair._servers[0].url, connect) as client:
        prompts = PromptStore(client, Keys("ps"))

        async def accept(names: str) -> list[bool]:
            # The first goes alone, what comes meanwhile shares a pipeline: two connections.
            accepted = await asyncio.gather(*(prompts.accept(new(f"{names}{n}")) for n in range(together)))
            return [one.is_new for one in accepted]

        assert all(await accept("before"))
        await asyncio.to_thread(pair.fail_over)
        assert all(await accept("after"))
        assert not any(await accept("before"))
        assert len(await client.zrange(Keys("ps").all(), 0, -1)) == 2 * together


@pytest.mark.parametrize("serve_stale", ["yes", "no"])
async def test_without_a_primary_clients_are_refused_and_replicas_wait(
    server: EmbeddedValkey, serve_stale: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0)
    ingress, replica = connect_impatient(server.url), connect_impatient(server.url)
    calls = 0

    async def accept() -> bool:
        nonlocal calls
        calls += 1
        return (await PromptStore(replica, Keys("ps")).accept(new("b"))).is_new

    with server.client() as admin:
        admin.config_set("replica-serve-stale-data", serve_stale)
        await PromptStore(ingress, Keys("ps")).accept(new("a"))
        admin.replicaof("127.0.0.1", "1")
        with pytest.raises(StoreUnavailable), translated_errors():
            await PromptStore(ingress, Keys("ps")).accept(new("c"))
        waiting = asyncio.create_task(persist(accept))
        await until(lambda: calls >= 3 or waiting.done())
        assert not waiting.done()
        admin.replicaof("NO", "ONE")
        assert await asyncio.wait_for(waiting, 10)
    await ingress.aclose()
    await replica.aclose()
