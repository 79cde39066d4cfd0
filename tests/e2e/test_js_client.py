"""The published JavaScript client, version 0.9.18, makes every call of the contract's §10 against the running service."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service import ROOT, Service

FOLDER = Path(__file__).parent / "js"
OLDEST_NODE = 20
#: Where the packages are kept between runs.
CACHE = ROOT / "data" / "cache"
#: The original's default model, an alias of the embedded one here; its slashes are one encoded segment in a path.
MODEL = "huggingface/TheBloke/mistral-7b-instruct-v0.2.Q3_K_S.gguf"
SLUG = f"js-{secrets.token_hex(4)}"
UPLOADED = "seventeen bytes!!"

Check = Callable[[Any], bool]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of ``calls.mjs``."""

    #: What it puts on the wire.
    route: str
    #: Whether a value is what it should give.
    gives: Check | None = None
    #: The status it should fail with, its body being an error.
    fails: int | None = None


def _token(value: Any) -> bool:
    return set(value["token"]) == {
        "appId", "createdAt", "device", "expiresAt", "id", "token", "updatedAt", "userId"
    }  # fmt: skip


def _answered(value: Any) -> bool:
    prompt, message = value["prompt"], value["responseMessage"]
    return (
        prompt["status"] == "completed"
        and prompt["responseMessageId"] == message["id"]
        and message["threadId"] == prompt["threadId"]
        and len(message["text"]) > 0
    )


def _removed(value: Any) -> bool:
    """Erased, or cancelled on a machine so slow that the sync wait ran out."""
    return _nothing(value["removed"]) and all(prompt["status"] == "canceled" for prompt in value["left"]["prompts"])


def _streamed(value: Any) -> bool:
    chunks = value["chunks"]
    return (
        value["contentType"].startswith("text/event-stream")
        and chunks[-1]["type"] == "done"
        and {chunk["promptId"] for chunk in chunks} == {value["promptId"]}
        and all(chunk["text"] for chunk in chunks[:-1])
    )


def _status(value: Any) -> bool:
    return value["status"]["running"] is True and set(value["status"]) == {"assetsReady", "running", "address"}


def _nothing(value: Any) -> bool:
    return value in ({}, None)


#: In the order in which they are made: later ones use what earlier ones left.
CALLS: dict[str, Call] = {
    "user.register": Call(route="POST /user-svc/register", gives=_token),
    "user.login": Call(route="POST /user-svc/login", gives=_token),
    "user.login with a wrong password": Call(route="POST /user-svc/login", fails=401),
    "user.readSelf": Call(
        route="POST /user-svc/self", gives=lambda v: v["user"]["slug"] == SLUG and v["roles"] == ["user-svc:user"]
    ),
    "user.readSelf without a token": Call(route="POST /user-svc/self", fails=401),
    "user.refreshToken": Call(route="POST /user-svc/refresh-token", gives=_token),
    "user.getPublicKey": Call(
        route="GET /user-svc/public-key", gives=lambda v: v["publicKey"].startswith("-----BEGIN PUBLIC KEY-----")
    ),
    "user.hasPermission": Call(
        route="POST /user-svc/self/has/{}", gives=lambda v: v["authorized"] is True and v["user"]["slug"] == SLUG
    ),
    "user.savePermits": Call(
        route="PUT /user-svc/permits",
        gives=lambda v: [permit["permissions"] for permit in v["permits"]] == [["prompt-svc:prompt:view"]],
    ),
    "user.listUsers": Call(
        route="POST /user-svc/users",
        gives=lambda v: (
            (v["count"], [user["slug"] for user in v["users"]], v["users"][0]["roles"])
            == (1, [SLUG], ["user-svc:user"])
        ),
    ),
    "user.saveEnrolls": Call(
        route="PUT /user-svc/enrolls", gives=lambda v: [e["role"] for e in v["enrolls"]] == ["js-svc:reader"]
    ),
    "user.listEnrolls": Call(
        route="POST /user-svc/enrolls", gives=lambda v: [e["role"] for e in v["enrolls"]] == ["js-svc:reader"]
    ),
    "user.refreshToken with the role": Call(
        route="POST /user-svc/refresh-token", gives=lambda v: v["roles"] == ["user-svc:user", "js-svc:reader"]
    ),
    "prompt.prompt": Call(
        route="POST /prompt-svc/prompt", gives=lambda v: _answered(v) and v["prompt"]["threadId"] == f"{SLUG}-thread"
    ),
    "prompt.prompt with the documented parameters": Call(
        route="POST /prompt-svc/prompt",
        # Put so strangely, the model may well have nothing to say.
        gives=lambda v: (
            bool(v["responseMessage"]["id"])
            and (v["prompt"]["status"], v["prompt"]["id"], v["prompt"]["maxRetries"])
            == ("completed", f"{SLUG}-prompt", 2)
        ),
    ),
    "prompt.prompt that is bad": Call(route="POST /prompt-svc/prompt", fails=400),
    "prompt.listPrompts": Call(
        route="POST /prompt-svc/prompts", gives=lambda v: v["count"] == 0 and isinstance(v["prompts"], list)
    ),
    "prompt.listPrompts with a query": Call(
        route="POST /prompt-svc/prompts",
        gives=lambda v: (
            v["count"] == 2 == len(v["prompts"])
            and {p["status"] for p in v["prompts"]} == {"completed"}
            and v["prompts"][0]["id"] == f"{SLUG}-prompt"
        ),
    ),
    "prompt.subscribeToPromptResponses": Call(route="GET /prompt-svc/prompts/{}/responses/subscribe", gives=_streamed),
    "prompt.removePrompt": Call(route="POST /prompt-svc/remove", gives=_removed),
    "prompt.removePrompt of nothing": Call(route="POST /prompt-svc/remove", fails=404),
    "prompt.promptTypes": Call(route="POST /prompt-svc/types", gives=_nothing),
    "model.getDefaultModelStatus": Call(route="GET /model-svc/default-model/status", gives=_status),
    "model.getModelStatus": Call(route="GET /model-svc/model/{}/status", gives=_status),
    "model.getModel": Call(
        route="GET /model-svc/model/{}",
        # The client's own name for the key ``exists``.
        gives=lambda v: v["_exists"] is True and v["model"]["platformId"] == v["platform"]["id"],
    ),
    "model.getModel that is unknown": Call(route="GET /model-svc/model/{}", fails=404),
    "model.listModels": Call(
        route="POST /model-svc/models",
        gives=lambda v: len(v["models"]) > 0 and all({"id", "platformId", "name"} <= set(m) for m in v["models"]),
    ),
    "model.listPlatforms": Call(
        route="POST /model-svc/platforms",
        gives=lambda v: all(p["types"] for p in v["platforms"]) and v["platforms"] != [],
    ),
    "model.startModel": Call(route="PUT /model-svc/model/{}/start", gives=_nothing),
    "model.startDefaultModel": Call(route="PUT /model-svc/default-model/start", gives=_nothing),
    "model.makeDefault": Call(route="PUT /model-svc/model/{}/make-default", gives=_nothing),
    "chat.saveThread": Call(route="POST /chat-svc/thread", gives=lambda v: v["thread"]["title"] == "A talk"),
    "chat.listThreads": Call(
        route="POST /chat-svc/threads", gives=lambda v: "A talk" in [thread.get("title") for thread in v["threads"]]
    ),
    "chat.saveMessage": Call(route="POST /chat-svc/thread/{}/message", gives=_nothing),
    "chat.listMessages": Call(
        route="POST /chat-svc/messages", gives=lambda v: [m["text"] for m in v["messages"]] == ["Hello there"]
    ),
    "chat.deleteMessage": Call(
        route="DELETE /chat-svc/message/{}", gives=lambda v: _nothing(v["deleted"]) and not v["left"]["messages"]
    ),
    "chat.deleteThread": Call(
        route="DELETE /chat-svc/thread/{}", gives=lambda v: _nothing(v["deleted"]) and not v["left"]["threads"]
    ),
    "file.uploadFile": Call(
        route="PUT /file-svc/upload",
        gives=lambda v: v["upload"]["fileId"].startswith("file-") and v["upload"]["fileSize"] == len(UPLOADED),
    ),
    "file.listUploads": Call(route="POST /file-svc/uploads", gives=lambda v: len(v["uploads"]) == 1),
    "file.serveUpload": Call(
        route="GET /file-svc/serve/upload/{}", gives=lambda v: v == {"size": len(UPLOADED), "text": UPLOADED}
    ),
    "file.deleteUpload": Call(
        route="DELETE /file-svc/upload/{}", gives=lambda v: _nothing(v["deleted"]) and not v["left"].get("uploads")
    ),
    "policy.upsertInstance": Call(route="PUT /policy-svc/instance/{}", gives=_nothing),
    "policy.check": Call(
        route="POST /policy-svc/check", gives=lambda v: [answer["allowed"] for answer in v] == [True, False]
    ),
    # The last ones of the user, whose tokens end with them.
    "user.deleteEnrolls": Call(route="DELETE /user-svc/enrolls", gives=_nothing),
    "user.readSelf with a token that said otherwise": Call(route="POST /user-svc/self", fails=401),
    "user.resetPassword": Call(
        route="POST /user-svc/{}/reset-password", gives=lambda v: _nothing(v["reply"]) and _token(v)
    ),
    "user.revokeTokens": Call(route="DELETE /user-svc/tokens", gives=_nothing),
}


@pytest.fixture(scope="module")
def packages() -> Path:
    """A folder with the client installed as locked, kept for the next run."""
    npm = _needed("npm")
    version = subprocess.run([_needed("node"), "--version"], capture_output=True, text=True, check=True).stdout
    if int(re.findall(r"\d+", version)[0]) < OLDEST_NODE:
        pytest.fail(f"the published client is tested with node {OLDEST_NODE} or newer, this is {version.strip()}")
    lock = (FOLDER / "package-lock.json").read_bytes()
    folder = CACHE / f"js-client-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(FOLDER / name, folder)
        # No package's own scripts are run.
        installed = subprocess.run(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        if installed.returncode:
            pytest.fail(f"npm could not install the published client:\n{installed.stderr[-2000:]}")
        (folder / "complete").touch()
    shutil.copy(FOLDER / "calls.mjs", folder)
    return folder


def _needed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.fail(f"{program} is not installed; the test of the published JavaScript client needs node 20 and npm")
    return found


@pytest.fixture(scope="module")
def results(packages: Path, service: Service) -> dict[str, Any]:
    """What each call gave."""
    asked = {
        "url": service.url,
        "slug": SLUG,
        "admin": {"slug": "1backend", "password": "changeme"},
        "model": MODEL,
        "calls": list(CALLS),
    }
    ran = subprocess.run(
        [_needed("node"), "calls.mjs", json.dumps(asked)],
        cwd=packages,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    answers: dict[str, Any] = json.loads(ran.stdout)
    return answers


@pytest.mark.parametrize("name", CALLS)
def test_a_call_of_the_published_client(name: str, results: dict[str, Any]) -> None:
    call, result = CALLS[name], results[name]
    if call.fails is not None:
        assert result.get("status") == call.fails, result
        assert list(result["body"]) == ["error"]
    else:
        assert "value" in result, result
        assert call.gives is not None
        assert call.gives(result["value"]), result["value"]


async def test_what_the_calls_put_on_the_wire_is_mounted(anonymous: httpx.AsyncClient) -> None:
    paths = (await anonymous.get("/openapi.json")).json()["paths"]
    mounted = {f"{method.upper()} {re.sub('{.*?}', '{}', path)}" for path, item in paths.items() for method in item}
    assert {call.route for call in CALLS.values()} <= mounted


def test_the_lock_names_no_registry() -> None:
    assert "resolved" not in (FOLDER / "package-lock.json").read_text(encoding="utf-8")
