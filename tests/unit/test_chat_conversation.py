"""One conversation of ``prompt-chat``: an answer comes whole, once and in order, whatever happens to the connection."""

from __future__ import annotations

from contextlib import closing

import httpx
import pytest

from clients.chat.conversation import Canceled, Conversation, Done, Event, Failed, Lost, Queued, Restarted, Text
from clients.chat.errors import Busy, ChatError, NotAllowed
from clients.chat.login import NameLogin, TokenLogin
from clients.chat.service import Service
from tests.unit.chat_service import TOKEN, FakeService, event

FIRST = event("1-1", type="progress", text="Hel", promptId="PROMPT")
SECOND = event("1-2", type="progress", text="lo", promptId="PROMPT")
DONE = event("1-3", type="done", text="!", promptId="PROMPT", messageId="m")
LOST = httpx.ReadError("[Errno 104] Connection reset by peer")


@pytest.fixture
def service() -> FakeService:
    return FakeService()


class Time:
    """A clock that only pauses move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def clock(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def conversation(
    service: FakeService, time: Time, *, thread: str | None = None, patience_s: float = 60
) -> Conversation:
    http = service.client()
    api = Service(http, TokenLogin(TOKEN, hint="log in"))
    return Conversation(api, thread=thread, patience_s=patience_s, pause=time.pause, clock=time.clock)


def asked(talk: Conversation, text: str = "Hi") -> list[Event]:
    return list(talk.ask(text))


def test_an_answer_comes_piece_by_piece(service: FakeService, time: Time):
    service.streams = [[b": subscribed\n\n", FIRST, SECOND, b": heartbeat\n\n", DONE]]
    assert asked(conversation(service, time)) == [Queued(1), Text("Hel"), Text("lo"), Text("!"), Done()]
    (body,) = service.submitted
    assert (body["threadId"], body["prompt"]) == ("thr-1", "Hi")
    # It listens from the very beginning before it asks: nothing can be missed.
    assert service.paths == [
        "POST /chat-svc/thread",
        "GET /prompt-svc/prompts/thr-1/responses/subscribe",
        "POST /prompt-svc/prompt",
    ]
    assert service.cursors == ["0-0"]


def test_a_lost_connection_is_taken_up_behind_the_last_event(service: FakeService, time: Time):
    service.streams = [[FIRST, LOST], [SECOND, DONE]]
    events = asked(conversation(service, time))
    assert events == [
        Queued(1),
        Text("Hel"),
        Lost("connection reset by peer"),
        Text("lo"),
        Text("!"),
        Done(),
    ]
    assert service.cursors == ["0-0", "1-1"]
    assert len(service.submitted) == 1, "it was asked twice"


def test_a_stream_that_the_service_closes_is_opened_again(service: FakeService, time: Time):
    service.streams = [[FIRST], [SECOND, DONE]]
    assert Lost("the service closed the connection") in asked(conversation(service, time))
    assert service.cursors == ["0-0", "1-1"]


def test_half_an_event_is_none(service: FakeService, time: Time):
    service.streams = [[FIRST, SECOND[:20], LOST], [SECOND, DONE]]
    texts = [event.text for event in asked(conversation(service, time)) if isinstance(event, Text)]
    assert texts == ["Hel", "lo", "!"]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_characters_that_end_a_line_elsewhere_end_none_of_a_stream(service: FakeService, time: Time, size: int):
    text = "a\u2028b\u2029c\x85d"
    sent = f'id: 1-1\r\ndata: {{"type": "done", "text": "{text}", "promptId": "PROMPT"}}\r\n\r\n'.encode()
    whole: list[bytes] = [sent]

    def pieces() -> bytes:
        named = whole[0].replace(b"PROMPT", service.submitted[-1]["id"].encode())
        whole[0] = named[size:]
        return named[:size]

    service.streams = [[pieces] * 300]
    assert asked(conversation(service, time)) == [Queued(1), Text(text), Done()]


def test_a_question_that_broke_off_is_asked_again_under_its_id(service: FakeService, time: Time):
    service.broken_submissions = 1
    service.streams = [[], [FIRST, DONE]]
    events = asked(conversation(service, time))
    assert events[-1] == Done()
    assert [len(service.submitted), len({body["id"] for body in service.submitted})] == [2, 1]


@pytest.mark.parametrize("status", [429, 503, 502])
def test_a_service_that_is_busy_is_asked_again(service: FakeService, time: Time, status: int):
    service.streams = [status, status, [FIRST, DONE]]
    events = asked(conversation(service, time))
    assert events[:3] == [Lost("busy"), Lost("busy"), Queued(1)]
    assert events[-1] == Done()
    assert time.pauses == [0.25, 0.5]


#: What Ray Serve's proxy says to every path while it has no route to the application.
NO_ROUTE = "Path '/' not found. Ping http://service/-/routes for available routes."


def test_a_service_that_is_restarted_is_asked_again(service: FakeService, time: Time):
    service.streams = [[b": subscribed\n\n", LOST], [b": subscribed\n\n"], [b": subscribed\n\n"]]
    service.prompt = {"status": "completed"}
    service.replies = [
        (path, httpx.Response(404, text=NO_ROUTE)) for path in ("/prompt-svc/prompts/", "/prompt-svc/prompt/")
    ]
    events = asked(conversation(service, time, thread="thr-9"))
    assert events[0] == Lost(NO_ROUTE)
    assert events[-2:] == [Text("the whole answer"), Done()]
    assert events.count(Lost(NO_ROUTE)) == 2


def test_a_thing_that_the_service_does_not_have_is_missing_for_good(service: FakeService, time: Time):
    service.replies = [("/prompt-svc/prompts/", httpx.Response(404, json={"error": "Not Found"}))]
    with pytest.raises(ChatError, match="404 Not Found"):
        asked(conversation(service, time, thread="thr-9"))
    assert time.pauses == []


def test_a_login_by_name_waits_for_a_service_that_is_restarted(service: FakeService):
    http = service.client()
    service.replies = [("/auth/callback", httpx.Response(404, text=NO_ROUTE))]
    login = NameLogin(http, "ada")
    with pytest.raises(Busy, match="not found"):
        login.token()
    assert login.token() == TOKEN


def test_patience_ends(service: FakeService, time: Time):
    service.streams = [503] * 1000
    with pytest.raises(ChatError, match="cannot be reached: busy"):
        asked(conversation(service, time, patience_s=30))
    assert 30 <= time.now < 40
    assert max(time.pauses) == 4


def test_patience_begins_anew_with_every_sign_of_life(service: FakeService, time: Time):
    lost = [[event(f"1-{i}", type="progress", text="x", promptId="PROMPT"), LOST] for i in range(1, 50)]
    service.streams = [*lost, [DONE]]
    assert asked(conversation(service, time, patience_s=1))[-1] == Done()
    assert set(time.pauses) == {0.25}


@pytest.mark.parametrize(
    ("last", "end"),
    [
        (event("1-2", type="error", text="the engine failed", promptId="PROMPT"), Failed("the engine failed")),
        (event("1-2", type="canceled", promptId="PROMPT"), Canceled()),
    ],
)
def test_other_ends_of_an_answer(service: FakeService, time: Time, last: bytes, end: Event):
    service.streams = [[FIRST, last]]
    assert asked(conversation(service, time)) == [Queued(1), Text("Hel"), end]


def test_an_answer_that_begins_anew(service: FakeService, time: Time):
    restart = event("1-2", type="restart", promptId="PROMPT")
    service.streams = [[FIRST, restart, event("1-3", type="done", text="Hello", promptId="PROMPT")]]
    assert asked(conversation(service, time)) == [Queued(1), Text("Hel"), Restarted(), Text("Hello"), Done()]


def test_what_is_said_to_others_of_the_thread_is_passed_over(service: FakeService, time: Time):
    other = event("1-9", type="done", text="not mine", promptId="prom-other")
    service.streams = [[other, event("2-1", type="done", text="mine", promptId="PROMPT")]]
    assert asked(conversation(service, time, thread="thr-9")) == [Queued(1), Text("mine"), Done()]


def test_the_next_question_goes_on_behind_the_last_answer(service: FakeService, time: Time):
    service.streams = [[FIRST, DONE], [event("2-1", type="done", text="x", promptId="PROMPT")]]
    talk = conversation(service, time)
    asked(talk)
    asked(talk, "And?")
    assert service.cursors == ["0-0", "1-3"]
    assert [body["threadId"] for body in service.submitted] == ["thr-1", "thr-1"]
    assert service.paths.count("POST /chat-svc/thread") == 1


@pytest.mark.parametrize(
    ("prompt", "end"),
    [
        ({"status": "completed"}, [Text("the whole answer"), Done()]),
        ({"status": "abandoned", "error": "the engine failed"}, [Failed("the engine failed")]),
        ({"status": "canceled"}, [Canceled()]),
    ],
)
def test_an_old_conversation_whose_answer_ended_while_the_connection_was_lost(
    service: FakeService, time: Time, prompt: dict[str, str], end: list[Event]
):
    # Nothing was heard yet, so there is no position to go on from.
    service.streams = [[b": subscribed\n\n", LOST], [b": subscribed\n\n"]]
    service.prompt = prompt
    events = asked(conversation(service, time, thread="thr-9"))
    assert service.cursors == [None, None]
    assert events == [Queued(1), Lost("connection reset by peer"), *end]


def test_an_old_conversation_whose_answer_ended_before_the_question_was_known_to_have_arrived(
    service: FakeService, time: Time
):
    service.broken_submissions = 1
    # The second subscription is behind the answer and would never say a word.
    service.streams = [[b": subscribed\n\n"], [b": subscribed\n\n", AssertionError("nothing comes any more")]]
    service.prompt = {"status": "completed"}
    events = asked(conversation(service, time, thread="thr-9"))
    assert events == [Lost("timed out"), Queued(1), Text("the whole answer"), Done()]


def test_an_answer_is_cancelled_unless_it_has_ended(service: FakeService, time: Time):
    service.streams = [[FIRST]]
    talk = conversation(service, time)
    with closing(talk.ask("Hi")) as events:
        assert [next(events), next(events)] == [Queued(1), Text("Hel")]
        talk.cancel()
    prompt_id = service.submitted[0]["id"]
    assert service.paths[-2:] == [f"GET /prompt-svc/prompt/{prompt_id}", f"DELETE /prompt-svc/prompt/{prompt_id}"]
    service.prompt = {"status": "completed"}
    talk.cancel()
    assert service.paths[-1] == f"GET /prompt-svc/prompt/{prompt_id}", "a finished answer would be erased"


def test_nothing_asked_is_nothing_to_cancel(service: FakeService, time: Time):
    conversation(service, time).cancel()
    assert service.requests == []


def test_what_the_service_refuses_is_an_error(service: FakeService, time: Time):
    service.replies = [("/chat-svc/thread", httpx.Response(400, json={"error": "title: too\nlong"}))]
    with pytest.raises(ChatError, match="POST /chat-svc/thread: 400 title: too long"):
        asked(conversation(service, time))


def test_something_else_at_the_address_is_an_error(service: FakeService, time: Time):
    service.replies = [("/chat-svc/thread", httpx.Response(200, text="<html>"))]
    with pytest.raises(ChatError, match="does not answer as a Prompt Svc"):
        asked(conversation(service, time))


def test_a_token_that_is_refused_is_an_error_with_a_hint(service: FakeService):
    api = Service(service.client(), TokenLogin("old", hint="log in again: oo login alice"))
    with pytest.raises(NotAllowed, match="oo login alice"):
        api.who()


def test_a_login_by_name_is_renewed_without_a_word(service: FakeService):
    http = service.client()
    api = Service(http, NameLogin(http, "ada"))
    assert api.who() == "alice"
    service.token = "ddd.eee.fff"
    assert api.who() == "alice"
    assert service.paths == [
        "GET /auth/callback/debug",
        "POST /user-svc/self",
        "POST /user-svc/self",
        "GET /auth/refresh",
        "POST /user-svc/self",
    ]
    assert service.requests[3].headers["refresh"] == "refresh"


@pytest.mark.parametrize(
    ("status", "said"),
    [(403, {"detail": "Debug auth is not allowed"}), (404, {"detail": "Not Found"}), (404, {"error": "Not Found"})],
)
def test_where_names_are_not_enough_it_says_what_is(service: FakeService, status: int, said: dict[str, str]):
    http = service.client()
    service.replies = [("/auth/callback", httpx.Response(status, json=said))]
    with pytest.raises(NotAllowed, match="oo login"):
        Service(http, NameLogin(http, "ada")).who()
