"""Open-Assistant's text client against the real service and the real model, and the events of an answer over real connections."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.e2e.conftest import SLOW_PERMITS
from tests.e2e.open_assistant_client import TextClient
from tests.service import Service
from tests.waiting import wait_for

MODEL = "distilgpt2"
_numbers = itertools.count()


@pytest.fixture
def client_for(service: Service) -> Iterator[Callable[[str | None], TextClient]]:
    clients: list[TextClient] = []

    def make(name: str | None = None) -> TextClient:
        client = TextClient(service.url)
        clients.append(client)
        client.login(name or f"user {next(_numbers)} {secrets.token_hex(3)}")
        return client

    yield make
    for client in clients:
        client.close()


def test_the_text_client_chats(client_for: Callable[..., TextClient], service: Service):
    client = client_for()
    chat = client.create_chat()
    said = []
    for text in ("What is the capital of France?", "And of Italy?"):
        pieces = list(client.send_message(text, MODEL))
        assert len(pieces) > 1, "it came at once"
        assert client.last["state"] == "complete"
        assert "".join(pieces) == client.last["content"]
        said += [text, client.last["content"]]
        # Who comes back reads what is there.
        assert client.message_id is not None
        assert list(client.events(client.message_id)) == said[-1:]
    with httpx.Client(base_url=service.url, headers=client.headers) as http:
        read = http.get(f"/chats/{chat}").json()
        assert [message["content"] for message in read["messages"]] == said
        assert read["title"] == said[0]
        parameters = read["messages"][1]["work_parameters"]
        assert parameters["model_config"]["model_id"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
        # Each answer was given the chat so far; prompt-svc lists it as a prompt of the chat's thread.
        thread = http.post(f"/chat-svc/thread/{chat}/messages", json={}).json()["messages"]
        tokens = [message["meta"]["promptTokens"] for message in thread if "userId" not in message]
        assert tokens[1] > tokens[0] + 20


def test_the_text_client_of_the_document_chats_in_one_step(client_for: Callable[..., TextClient]):
    client = client_for()
    client.create_chat()
    # Its first two attempts fail, which a client does not notice.
    assert "".join(client.send_message_in_one_step("Hello", "test/flaky")) == client.last["content"] != ""
    assert client.pending


def test_a_model_that_breaks_is_an_error(client_for: Callable[..., TextClient]):
    client = client_for()
    client.create_chat()
    with pytest.raises(RuntimeError, match="Aborted due to worker error"):
        list(client.send_message("Hello", "test/broken"))


def test_waiting_is_told_and_words_come_as_they_are_written(client_for: Callable[..., TextClient], service: Service):
    client, crowd = client_for(), client_for()
    running = []
    for _ in range(SLOW_PERMITS):
        # Each in a chat of its own: they run beside each other.
        crowd.create_chat()
        events = crowd.send_message("Hello", "test/slow")
        next(events)
        running.append((crowd.chat_id, events))
    client.create_chat()
    events = client.send_message("Hello", "test/slow")
    with httpx.Client(base_url=service.url, headers=crowd.headers) as http:
        reading = _background(lambda: next(events))
        _until(lambda: len(client.pending) >= 2)
        assert client.pending[0] == {"event_type": "pending", "queue_position": 1, "queue_size": 1}
        for chat, waiting in running:
            waiting.close()
            assert http.delete(f"/chats/{chat}").status_code == 200
    assert reading()
    # One token a second: the second word is not there before its time, and comes by itself.
    began = time.monotonic()
    next(events)
    assert 0.2 < time.monotonic() - began < 3
    events.close()
    with httpx.Client(base_url=service.url, headers=client.headers) as http:
        assert http.delete(f"/chats/{client.chat_id}").status_code == 200


def _background(work: Callable[[], str]) -> Callable[[], str]:
    """Begin with it; the function that is returned waits for its result."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return lambda: future.result(60)


def _until(condition: Callable[[], bool]) -> None:
    wait_for(condition, timeout_s=20)
