"""The command ``prompt-chat``: what it prints where, what it remembers, and how it ends. The service is a function here."""

from __future__ import annotations

import io
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from clients.chat import main
from clients.chat.line_input import LineInput, history_path
from clients.chat.screen import Screen, printable
from tests.unit.chat_service import TOKEN, FakeService, Step, event

DONE = event("1-1", type="done", text="Hello", promptId="PROMPT")


class Terminal:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str], config: Path) -> None:
        self.service = FakeService()
        self.urls: list[str] = []
        self.config = config
        self._monkeypatch = monkeypatch
        self._capture = capture
        monkeypatch.setenv("OO_CONFIG", str(config))
        monkeypatch.delenv("PROMPT_CHAT_TOKEN", raising=False)

        def connect(url: str) -> httpx.Client:
            self.urls.append(url)
            return self.service.client()

        monkeypatch.setattr(main, "_connect", connect)

    def chat(self, *words: str, stdin: str = "", streams: list[list[Step] | int] | None = None) -> tuple[int, str, str]:
        """Exit code, stdout and stderr, as at the end of a pipe."""
        self.service.streams = [[DONE]] if streams is None else streams
        self._monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main.main(words)
        printed = self._capture.readouterr()
        code = ended.value.code
        assert isinstance(code, int) or code is None
        return code or 0, printed.out, printed.err


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Terminal:
    return Terminal(monkeypatch, capsys, tmp_path / "oo.yaml")


def test_a_question_is_answered(terminal: Terminal):
    assert terminal.chat("What", "is it?") == (0, "Hello\n", "")
    (body,) = terminal.service.submitted
    assert body == {"id": body["id"], "threadId": "thr-1", "prompt": "What is it?"}
    assert terminal.urls == ["http://127.0.0.1:11337"]


def test_every_line_of_a_pipe_is_a_message_of_one_conversation(terminal: Terminal):
    second = event("2-1", type="done", text="Ada", promptId="PROMPT")
    code, out, err = terminal.chat(stdin="I am Ada.\n\n  \n/who am I?\n", streams=[[DONE], [second]])
    assert (code, out, err) == (0, "Hello\nAda\n", "")
    # A slash begins a command for people only.
    assert [body["prompt"] for body in terminal.service.submitted] == ["I am Ada.", "/who am I?"]
    assert {body["threadId"] for body in terminal.service.submitted} == {"thr-1"}


def test_a_dash_asks_all_of_stdin(terminal: Terminal):
    assert terminal.chat("-", stdin="two\nlines\n")[0] == 0
    assert terminal.service.submitted[0]["prompt"] == "two\nlines\n"


def test_lines_between_fences_are_one_message(terminal: Terminal):
    terminal.chat(stdin='"""\none\ntwo\n"""\n')
    assert terminal.service.submitted[0]["prompt"] == "one\ntwo"
    terminal.service.requests.clear()
    terminal.chat(stdin='"""one\ntwo"""')
    assert terminal.service.submitted[0]["prompt"] == "one\ntwo"
    terminal.service.requests.clear()
    terminal.chat(stdin='"""never\nended')
    assert terminal.service.submitted[0]["prompt"] == "never\nended"


def test_options_of_the_answer(terminal: Terminal):
    terminal.chat("-m", "org/small", "--temperature", "0", "--max-tokens", "7", "Hi")
    assert terminal.service.submitted[0]["modelId"] == "org/small"
    assert terminal.service.submitted[0]["parameters"] == {"textToText": {"temperature": 0.0, "maxTokens": 7}}


def test_an_old_conversation_goes_on(terminal: Terminal):
    terminal.chat("--thread", "thr-9", "Hi")
    assert terminal.service.submitted[0]["threadId"] == "thr-9"
    terminal.service.replies = [("/chat-svc/thread/thr-8", httpx.Response(404, json={"error": "Not Found"}))]
    code, _, err = terminal.chat("--thread", "thr-8", "Hi")
    assert (code, err) == (1, "prompt-chat: --thread: you have no conversation thr-8\n")


@pytest.mark.parametrize(
    ("last", "note"),
    [
        (event("1-1", type="error", text="the engine failed", promptId="PROMPT"), "no answer: the engine failed\n"),
        (event("1-1", type="canceled", promptId="PROMPT"), "cancelled\n"),
    ],
)
def test_no_answer_is_a_3(terminal: Terminal, last: bytes, note: str):
    assert terminal.chat("Hi", streams=[[last]]) == (3, "", note)
    assert terminal.chat(stdin="Hi\n", streams=[[last]]) == (3, "", note)


def test_ctrl_c_cancels_and_is_a_130(terminal: Terminal):
    part = event("1-1", type="progress", text="Hel", promptId="PROMPT")
    code, out, err = terminal.chat("Hi", streams=[[part, KeyboardInterrupt()]])
    assert (code, out, err) == (130, "Hel\n", "cancelled\n")
    assert terminal.service.paths[-1].startswith("DELETE /prompt-svc/prompt/prom-")


def test_a_service_that_is_not_there_is_one_line(terminal: Terminal):
    terminal.service.replies = [("/auth/callback", httpx.ConnectError("[Errno 111] Connection refused"))]
    code, out, err = terminal.chat("--url", "http://127.0.0.1:1", "Hi")
    assert (code, out) == (1, "")
    assert err == (
        "prompt-chat: cannot reach http://127.0.0.1:1: connection refused. Start the service with `make serve`\n"
    )


@pytest.mark.parametrize("words", [("--url", "ftp://x", "Hi"), ("--temperature", "3", "Hi"), ("--unknown",)])
def test_wrong_usage_is_a_1(terminal: Terminal, words: tuple[str, ...]):
    code, out, err = terminal.chat(*words)
    assert (code, out) == (1, "")
    assert err
    assert terminal.service.requests == []


def test_who_one_is(terminal: Terminal, monkeypatch: pytest.MonkeyPatch):
    def login(*words: str) -> str:
        terminal.service.requests.clear()
        terminal.chat(*words, "Hi")
        first = terminal.service.requests[0]
        return str(first.url.params.get("code") or first.headers["authorization"])

    monkeypatch.setenv("LOGNAME", "somebody")
    assert login() == "somebody"
    assert login("--user", "ada") == "ada"
    assert login("--token", TOKEN) == f"Bearer {TOKEN}"
    monkeypatch.setenv("PROMPT_CHAT_TOKEN", TOKEN)
    assert login() == f"Bearer {TOKEN}"


def test_the_token_of_oo_is_for_its_service_alone(terminal: Terminal):
    environment: dict[str, Any] = {
        "url": "http://lab:1",
        "selectedUser": "alice",
        "users": {"alice": {"tokensByAppHost": {"unnamed": TOKEN}}},
    }
    document = {"environments": {"lab": environment}, "selectedEnvironment": "lab"}
    terminal.config.write_text(yaml.safe_dump(document))
    terminal.chat("Hi")
    terminal.chat("--url", "http://lab:1/", "Hi")
    assert terminal.urls == ["http://lab:1", "http://lab:1"]
    assert "/auth/callback/debug" not in " ".join(terminal.service.paths)
    terminal.service.requests.clear()
    terminal.chat("--url", "http://elsewhere:1", "Hi")
    assert terminal.service.paths[0] == "GET /auth/callback/debug"
    environment["users"]["alice"]["tokensByAppHost"]["unnamed"] = "old"
    terminal.config.write_text(yaml.safe_dump(document))
    code, _, err = terminal.chat("Hi")
    assert (code, "oo login alice" in err) == (1, True)


def test_a_model_does_not_steer_the_terminal(terminal: Terminal):
    hostile = event("1-1", type="done", text="\x1b]0;title\x07\x1b[2Jok\r\n\t[bold]x\x9b", promptId="PROMPT")
    assert terminal.chat("Hi", streams=[[hostile]])[1] == "]0;title[2Jok\n\t[bold]x\n"
    assert printable("\ud800a\x00\x7f\u2028") == "a\u2028"


def test_lines_are_remembered_for_their_user_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    path = tmp_path / "state" / "history"
    screen = Screen()
    screen.is_terminal = True
    typed = iter(["first", "second"])
    monkeypatch.setattr("builtins.input", lambda _sign: next(typed))
    lines = LineInput(screen, history=path)
    import readline

    readline.clear_history()
    assert [lines.message(), lines.message()] == ["first", "second"]
    readline.add_history("first")
    readline.add_history("second")
    lines.keep()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    readline.clear_history()
    LineInput(screen, history=path)
    assert [readline.get_history_item(i) for i in (1, 2)] == ["first", "second"]
    readline.clear_history()
    assert history_path({"PROMPT_CHAT_HISTORY": "/x"}) == Path("/x")
    assert history_path({"XDG_STATE_HOME": "/s"}) == Path("/s/prompt-chat/history")
