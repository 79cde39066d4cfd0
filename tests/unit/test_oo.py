"""The command line, from words to what is sent, printed and kept. The service is a function here."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from clients.oo import api, main
from clients.oo.config import Config
from clients.oo.errors import OoError

TOKEN = "aaa.bbb.ccc"
Answer = Callable[[httpx.Request], httpx.Response]


class Terminal:
    """Runs ``oo`` with a configuration of its own and a made-up service behind it."""

    def __init__(self, config: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.config = config
        self.requests: list[httpx.Request] = []
        self.answer: Answer = lambda _request: httpx.Response(200, json={})
        self._capture = capture

    def oo(self, *words: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        with pytest.raises(SystemExit) as ended:
            main.main(words)
        printed = self._capture.readouterr()
        code = ended.value.code
        assert isinstance(code, int) or code is None
        return code or 0, printed.out, printed.err

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.answer(request)

    @property
    def body(self) -> Any:
        return json.loads(self.requests[-1].content)

    @property
    def kept(self) -> Any:
        return yaml.safe_load(self.config.read_text(encoding="utf-8"))


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    terminal = Terminal(tmp_path / ".1backend" / "cliConfig.yaml", capsys)
    monkeypatch.setenv("OO_CONFIG", str(terminal.config))
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    monkeypatch.setattr(
        api, "connect", lambda url: httpx.Client(base_url=url, transport=httpx.MockTransport(terminal.handle))
    )
    return terminal


@pytest.fixture
def user(terminal: Terminal) -> Terminal:
    """Somebody who has logged in."""
    terminal.answer = lambda _request: httpx.Response(200, json={"token": {"token": TOKEN, "userId": "usr-1"}})
    assert terminal.oo("login", "alice", "correct horse")[0] == 0
    terminal.answer = lambda _request: httpx.Response(200, json={})
    return terminal


# -- accounts -------------------------------------------------------------------------------------------------------------


def test_logging_in_keeps_the_token_and_shows_nothing_secret(terminal: Terminal):
    terminal.answer = lambda _request: httpx.Response(200, json={"token": {"token": TOKEN}})
    code, out, err = terminal.oo("login", "1backend", "changeme")
    assert (code, out) == (0, "")
    assert err == "logged in to local (http://127.0.0.1:11337) as 1backend\n"
    assert terminal.requests[0].url == "http://127.0.0.1:11337/user-svc/login"
    assert terminal.body == {"appHost": "unnamed", "device": "cli", "slug": "1backend", "password": "changeme"}
    assert "authorization" not in terminal.requests[0].headers
    assert terminal.kept == {
        "environments": {
            "local": {
                "url": "http://127.0.0.1:11337",
                "shortName": "local",
                "users": {
                    "1backend": {
                        "slug": "1backend",
                        "selectedAppHost": "unnamed",
                        "tokensByAppHost": {"unnamed": TOKEN},
                    }
                },
                "selectedUser": "1backend",
            }
        },
        "selectedEnvironment": "local",
    }
    assert "changeme" not in terminal.config.read_text(encoding="utf-8")
    assert stat.S_IMODE(terminal.config.stat().st_mode) == 0o600
    assert stat.S_IMODE(terminal.config.parent.stat().st_mode) == 0o700
    assert terminal.oo("token") == (0, f"{TOKEN}\n", "")


def test_a_password_comes_through_a_pipe(terminal: Terminal, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse\n"))
    terminal.answer = lambda _request: httpx.Response(200, json={"token": {"token": TOKEN}})
    assert terminal.oo("register", "alice")[0] == 0
    assert terminal.requests[0].url.path == "/user-svc/register"
    assert terminal.body["password"] == "correct horse"


def test_on_a_terminal_the_password_is_asked_for_without_echo(terminal: Terminal, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[str, bool]] = []

    def prompt(text: str, *, hide_input: bool = False, err: bool) -> str:
        asked.append((text, hide_input))
        return f"my {text}"

    tty = io.StringIO()
    tty.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", tty)
    monkeypatch.setattr("typer.prompt", prompt)
    terminal.answer = lambda _request: httpx.Response(200, json={"token": {"token": TOKEN}})
    assert terminal.oo("login")[0] == 0
    assert asked == [("slug", False), ("password", True)]
    assert (terminal.body["slug"], terminal.body["password"]) == ("my slug", "my password")


@pytest.mark.parametrize(("words", "missing"), [(["login"], "slug"), (["login", "alice"], "password")])
def test_nobody_there_to_ask(terminal: Terminal, words: list[str], missing: str):
    code, out, err = terminal.oo(*words)
    assert (code, out, terminal.requests) == (1, "", [])
    assert err.startswith(f"oo: the {missing} is missing")


def test_a_wrong_password(terminal: Terminal):
    terminal.answer = lambda _request: httpx.Response(401, json={"error": "Invalid Password"})
    assert terminal.oo("login", "alice", "wrong") == (1, "", "oo: POST /user-svc/login: 401 Invalid Password\n")
    assert not terminal.config.exists()


def test_who_am_i_and_a_token_from_elsewhere(terminal: Terminal):
    me = {"user": {"slug": "carol"}, "roles": ["user-svc:user"]}
    terminal.answer = lambda _request: httpx.Response(200, json=me)
    assert terminal.oo("set-token", TOKEN) == (0, "", "logged in to local (http://127.0.0.1:11337) as carol\n")
    assert terminal.requests[-1].headers["authorization"] == f"Bearer {TOKEN}"
    code, out, _ = terminal.oo("whoami")
    assert (code, json.loads(out)) == (0, me)


def test_a_token_that_the_service_refuses_is_not_kept(terminal: Terminal):
    terminal.answer = lambda _request: httpx.Response(401, json={"error": "Unauthorized"})
    code, _, err = terminal.oo("set-token", TOKEN)
    assert code == 1
    assert TOKEN not in err
    assert not terminal.config.exists()


def test_switching_between_users(user: Terminal):
    user.answer = lambda _request: httpx.Response(200, json={"token": {"token": "of.bob"}})
    user.oo("login", "bob", "correct horse")
    assert user.oo("token")[1] == "of.bob\n"
    assert user.oo("su", "alice")[0] == 0
    assert user.oo("token")[1] == f"{TOKEN}\n"
    code, _, err = user.oo("su", "eve")
    assert code == 1
    assert err == "oo: eve has not logged in to local: oo login eve (known are alice, bob)\n"


@pytest.mark.parametrize("command", ["token", "whoami"])
def test_who_has_not_logged_in_is_told_how(terminal: Terminal, command: str):
    code, out, err = terminal.oo(command)
    assert (code, out, terminal.requests) == (1, "", [])
    assert "oo login" in err


# -- requests -------------------------------------------------------------------------------------------------------------


def test_a_prompt_is_sent_and_its_answer_indented(user: Terminal):
    user.answer = lambda _request: httpx.Response(
        200, text='{"prompt":{"id":"p","b":1.50,"a":"ü<"},"n":[]}', headers=JSON
    )
    code, out, err = user.oo("post", "/prompt-svc/prompt", "--prompt=What is 2+2?", "--sync=true")
    assert (code, err) == (0, "")
    assert out == '{\n  "prompt": {\n    "id": "p",\n    "b": 1.5,\n    "a": "ü<"\n  },\n  "n": []\n}\n'
    request = user.requests[-1]
    assert (request.method, request.url.path) == ("POST", "/prompt-svc/prompt")
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["content-type"] == "application/json"
    assert user.body == {"prompt": "What is 2+2?", "sync": True}


JSON = {"content-type": "application/json"}


def test_a_list_without_flags_has_an_empty_object_as_body(user: Terminal):
    assert user.oo("post", "/prompt-svc/prompts") == (0, "{}\n", "")
    assert user.body == {}


@pytest.mark.parametrize(
    ("words", "method", "target", "body"),
    [
        (["delete", "/prompt-svc/prompt/prom_12345"], "DELETE", b"/prompt-svc/prompt/prom_12345", b""),
        (["delete", "/p/x", "--userId=7"], "DELETE", b"/p/x", b'{"userId": "7"}'),
        (["put", "/model-svc/default-model/start"], "PUT", b"/model-svc/default-model/start", b"{}"),
        (["get", "/model-svc/model/a%2Fb.gguf/status"], "GET", b"/model-svc/model/a%2Fb.gguf/status", b""),
        (["get", "/t/a b#c"], "GET", b"/t/a%20b%23c", b""),
        (["get", "/x", "--a.b=1", "--q=y z"], "GET", b"/x?a.b=1&q=y+z", b""),
    ],
)
def test_each_method_on_the_wire(user: Terminal, words: list[str], method: str, target: bytes, body: bytes):
    assert user.oo(*words)[0] == 0
    request = user.requests[-1]
    assert (request.method, request.url.raw_path, request.content) == (method, target, body)


def test_an_error_is_one_line_on_stderr(user: Terminal):
    said = "prompt: got nothing, allowed is a string that is not blank"
    user.answer = lambda _request: httpx.Response(400, json={"error": said})
    assert user.oo("post", "/prompt-svc/prompt") == (1, "", f"oo: POST /prompt-svc/prompt: 400 {said}\n")


def test_an_error_that_says_when_to_come_back(user: Terminal):
    user.answer = lambda _request: httpx.Response(
        429, json={"error": "Too Many Requests"}, headers={"Retry-After": "9"}
    )
    assert user.oo("post", "/p")[2] == "oo: POST /p: 429 Too Many Requests (try again in 9 s)\n"


@pytest.mark.parametrize("body", [b"", b"no\ninstances\n", b"[1]", b'{"error"', b"\xff" * 1000])
def test_an_error_that_is_not_the_services(user: Terminal, body: bytes):
    user.answer = lambda _request: httpx.Response(502, content=body)
    code, out, err = user.oo("post", "/p")
    assert (code, out) == (1, "")
    assert err.startswith("oo: POST /p: 502 ")
    assert err.count("\n") == 1
    assert len(err) < 300


def test_a_redirect_does_not_get_the_token(user: Terminal):
    user.answer = lambda _request: httpx.Response(302, headers={"Location": "http://elsewhere.example/"})
    sent = len(user.requests)
    assert user.oo("post", "/p")[0] == 1
    assert len(user.requests) == sent + 1


def test_without_a_token_public_routes_work_and_the_others_say_how_to_log_in(terminal: Terminal):
    assert terminal.oo("get", "/health")[0] == 0
    terminal.answer = lambda _request: httpx.Response(401, json={"error": "Unauthorized"})
    code, _, err = terminal.oo("post", "/prompt-svc/prompts")
    assert code == 1
    assert "not logged in" in err
    assert "oo login" in err


def test_a_service_that_is_not_there(user: Terminal):
    def refuse(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("[Errno 111] Connection refused")

    user.answer = refuse
    code, out, err = user.oo("post", "/prompt-svc/prompts")
    assert (code, out) == (1, "")
    assert err == (
        "oo: cannot reach http://127.0.0.1:11337 (environment local): connection refused. "
        "Start the service with `make serve`, or choose another one: oo env ls\n"
    )


def test_events_are_printed_as_they_come(user: Terminal, capsys: pytest.CaptureFixture[str]):
    frames = [": subscribed\n\n", 'id: 1-1\ndata: {"text":"a"}\n\n', 'id: 1-2\ndata: {"text":"b"}\n\n']
    seen: list[str] = []

    def body() -> Iterator[bytes]:
        for frame in frames:
            yield frame.encode()
            seen.append(capsys.readouterr().out)

    user.answer = lambda _request: httpx.Response(200, content=body(), headers={"content-type": "text/event-stream"})
    assert user.oo("get", "/prompt-svc/prompts/t/responses/subscribe")[0] == 0
    assert seen == frames


def test_a_file_goes_into_a_pipe_as_it_is(user: Terminal, monkeypatch: pytest.MonkeyPatch):
    pipe = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(pipe))
    user.answer = lambda _request: httpx.Response(
        200, content=b"\x89PNG\x00\xff", headers={"content-type": "image/png"}
    )
    assert user.oo("get", "/file-svc/serve/upload/file-1")[0] == 0
    assert pipe.getvalue() == b"\x89PNG\x00\xff"


def test_a_file_does_not_go_to_a_terminal(user: Terminal, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    user.answer = lambda _request: httpx.Response(200, content=b"\x89PNG", headers={"content-type": "image/png"})
    code, out, err = user.oo("get", "/file-svc/serve/upload/file-1")
    assert (code, out, err) == (1, "", "oo: the answer is a file (image/png): send it to one with > FILE\n")


def test_no_proxy_is_asked_for_this_machine():
    assert not api.connect("http://127.0.0.1:1").trust_env
    assert api.connect("http://prompts.example").trust_env


# -- environments and the file --------------------------------------------------------------------------------------------


def test_environments(terminal: Terminal):
    assert terminal.oo("env", "current") == (0, "local\n", "")
    assert (
        terminal.oo("env", "add", "lab", "https://lab.example/", "the lab")[2] == "selected lab (https://lab.example)\n"
    )
    assert terminal.oo("env", "current")[1] == "lab\n"
    terminal.oo("post", "/p")
    assert terminal.requests[-1].url == "https://lab.example/p"
    terminal.oo("-e", "local", "post", "/p")
    assert terminal.requests[-1].url == "http://127.0.0.1:11337/p"
    assert terminal.oo("env", "select", "local")[0] == 0
    assert terminal.oo("env", "rm", "lab")[0] == 0
    assert list(terminal.kept["environments"]) == ["local"]
    code, _, err = terminal.oo("env", "rm", "local")
    assert (code, err) == (1, "oo: local is the only environment; add another one first: oo env add NAME URL\n")


def test_the_list_of_environments(user: Terminal):
    user.oo("env", "add", "nowhere", "http://127.0.0.1:1")
    rows = json.loads(user.oo("env", "ls")[1])
    assert json.loads(user.oo("env", "list")[1]) == rows
    assert [(row["name"], row["user"], row["selected"]) for row in rows] == [
        ("local", "alice", False),
        ("nowhere", "", True),
    ]
    assert rows[1]["reachable"] is False


def test_a_new_address_does_not_get_the_old_ones_token(user: Terminal):
    user.oo("env", "add", "local", "http://127.0.0.1:11337/", "the same")
    assert user.oo("token")[0] == 0
    user.oo("env", "add", "local", "http://other.example")
    assert user.oo("token")[0] == 1
    assert TOKEN not in user.config.read_text(encoding="utf-8")


@pytest.mark.parametrize("url", ["localhost:11337", "ftp://h", "http://", "http://h?x=1", "h"])
def test_a_wrong_address_is_refused(terminal: Terminal, url: str):
    code, _, err = terminal.oo("env", "add", "x", url)
    assert code == 1
    assert err == f"oo: url: got {url}, allowed is http://HOST[:PORT] or https://HOST[:PORT]\n"


@pytest.mark.parametrize("command", [["env", "select", "x"], ["env", "rm", "x"], ["-e", "x", "token"]])
def test_an_unknown_environment(terminal: Terminal, command: list[str]):
    code, _, err = terminal.oo(*command)
    assert (code, err) == (1, "oo: no environment x; known are local (oo env add NAME URL)\n")


def test_what_another_program_keeps_in_the_file_stays(user: Terminal):
    kept = user.kept | {"theirs": [1]}
    kept["environments"]["local"]["theirs"] = "too"
    user.config.write_text(yaml.safe_dump(kept), encoding="utf-8")
    user.config.chmod(0o644)
    user.oo("env", "add", "lab", "http://lab.example")
    assert user.kept["theirs"] == [1]
    assert user.kept["environments"]["local"]["theirs"] == "too"
    assert stat.S_IMODE(user.config.stat().st_mode) == 0o600
    assert [path.name for path in user.config.parent.iterdir()] == [user.config.name]


@pytest.mark.parametrize(
    "content",
    [
        "a: [",
        "- 1",
        "environments: 5",
        "environments: {local: 5}",
        "environments: {local: {}}",
        "environments: {local: {url: 5}}",
        "environments: {local: {url: 'http://h', selectedUser: [1]}}",
        "environments: {local: {url: 'http://h', selectedUser: a, users: {a: {tokensByAppHost: {unnamed: [secret]}}}}}",
        "\x00",
    ],
)
def test_a_broken_file_is_refused_without_showing_it(tmp_path: Path, content: str):
    path = tmp_path / "c.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(OoError, match="repair it or move it away") as raised:
        Config.load(path)
    assert "secret" not in str(raised.value)


def test_a_file_that_cannot_be_written_is_an_error_and_stays_as_it_was(tmp_path: Path):
    folder = tmp_path / "f"
    folder.write_text("not a folder")
    config = Config.load(tmp_path / "c.yaml")
    config._path = folder / "c.yaml"
    with pytest.raises(OoError, match="cannot be written"):
        config.save()


# -- help -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--help"], ["make serve", "oo login 1backend", "post", "whoami", "env"]),
        (["post", "--help"], ["--sync=true", "--query.filters=", "subscribe"]),
        (["env", "--help"], ["add", "select", "ls", "current", "rm"]),
        (["login", "-h"], ["1backend", "without echo"]),
    ],
)
def test_help_shows_examples(terminal: Terminal, words: list[str], shown: list[str]):
    code, out, _ = terminal.oo(*words)
    assert code == 0
    assert [text for text in shown if text not in out] == []


@pytest.mark.parametrize("words", [["frobnicate"], ["env", "add"], ["--verbose"]])
def test_wrong_usage_is_an_error_like_any_other(terminal: Terminal, words: list[str]):
    code, out, err = terminal.oo(*words)
    assert (code, out) == (1, "")
    assert "Usage: oo" in err
