"""Who may call each route, and what an id of somebody else's gets: one row per route, without which a route fails the tests.

A route that takes an id, in its path or body, says what its owner, another user and an admin get for an object of the owner's;
the objects are made in ``tests/integration/test_access_matrix.py``. Somebody else's and an unknown id must look the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class For(Enum):
    """The least a caller must be."""

    ANYONE = "anyone, without a token"
    TOKEN = "any token, whatever its roles"
    USER = "a registered user, by default"
    ADMIN = "an admin"


@dataclass(frozen=True, kw_only=True)
class Owned:
    """What becomes of a call about an object of the owner's."""

    #: Path and body; ``ID`` in them stands for the object's id.
    path: str
    body: Mapping[str, Any] | None = None
    #: What the object is: a key of ``MAKERS``.
    kind: str = "prompt"
    owner: int = 200
    other: int = 404
    #: An admin who does not say whose it is.
    admin: int = 404
    #: It answers with a stream that does not end, and an id is a name of the caller's own: others open an empty one.
    is_stream: bool = False
    #: It answers its owner with bytes.
    is_bytes: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """One route."""

    audience: For
    owned: Owned | None = None
    #: Why there is no owner of the id that its path takes.
    nobodys: str = ""


ROWS: dict[str, Row] = {
    "POST /prompt-svc/prompt": Row(audience=For.USER),
    "POST /prompt-svc/prompts": Row(audience=For.USER),
    "DELETE /prompt-svc/prompt/{prompt_id}": Row(audience=For.USER, owned=Owned(path="/prompt-svc/prompt/ID")),
    "POST /prompt-svc/remove": Row(audience=For.USER, owned=Owned(path="/prompt-svc/remove", body={"promptId": "ID"})),
    "GET /prompt-svc/prompts/{thread_id}/responses/subscribe": Row(
        audience=For.USER,
        owned=Owned(path="/prompt-svc/prompts/ID/responses/subscribe", other=200, admin=200, is_stream=True),
    ),
    "POST /prompt-svc/types": Row(audience=For.ANYONE),
    "GET /prompt-svc/prompt/{prompt_id}": Row(audience=For.USER, owned=Owned(path="/prompt-svc/prompt/ID")),
    "POST /prompt-svc/template": Row(audience=For.USER),
    "POST /prompt-svc/templates": Row(audience=For.USER),
    "DELETE /prompt-svc/template/{name}": Row(
        audience=For.USER, owned=Owned(path="/prompt-svc/template/ID", kind="template")
    ),
    "POST /chat-svc/thread": Row(audience=For.USER),
    "POST /chat-svc/threads": Row(audience=For.USER),
    "GET /chat-svc/thread/{thread_id}": Row(audience=For.USER, owned=Owned(path="/chat-svc/thread/ID", kind="thread")),
    "DELETE /chat-svc/thread/{thread_id}": Row(
        audience=For.USER, owned=Owned(path="/chat-svc/thread/ID", kind="thread")
    ),
    "POST /chat-svc/thread/{thread_id}/message": Row(
        audience=For.USER, owned=Owned(path="/chat-svc/thread/ID/message", body={"text": "hi"}, kind="thread")
    ),
    "GET /chat-svc/thread/{thread_id}/messages": Row(
        audience=For.USER, owned=Owned(path="/chat-svc/thread/ID/messages", kind="thread")
    ),
    "POST /chat-svc/thread/{thread_id}/messages": Row(
        audience=For.USER, owned=Owned(path="/chat-svc/thread/ID/messages", kind="thread")
    ),
    "POST /chat-svc/messages": Row(
        audience=For.USER,
        # One's own messages of a thread of that name, which there are none of.
        owned=Owned(path="/chat-svc/messages", body={"threadId": "ID"}, kind="thread", other=200, admin=200),
    ),
    "DELETE /chat-svc/message/{message_id}": Row(audience=For.USER, owned=Owned(path="/chat-svc/message/ID")),
    "GET /chat-svc/events": Row(audience=For.TOKEN),
    "GET /chat-svc/evens": Row(audience=For.TOKEN),
    "GET /firehose-svc/events/subscribe": Row(audience=For.TOKEN),
    "PUT /file-svc/upload": Row(audience=For.USER),
    "POST /file-svc/uploads": Row(audience=For.USER),
    "GET /file-svc/serve/upload/{file_id}": Row(
        audience=For.USER, owned=Owned(path="/file-svc/serve/upload/ID", kind="file", is_bytes=True)
    ),
    "DELETE /file-svc/upload/{file_id}": Row(audience=For.USER, owned=Owned(path="/file-svc/upload/ID", kind="file")),
    "PUT /file-svc/download": Row(audience=For.USER),
    "POST /file-svc/downloads": Row(audience=For.USER),
    "GET /file-svc/download/{url}": Row(audience=For.USER, nobodys="each user has downloads of their own by the URL"),
    "GET /file-svc/serve/download/{url}": Row(
        audience=For.USER, nobodys="each user has downloads of their own by the URL"
    ),
    "POST /model-svc/models": Row(audience=For.USER),
    "POST /model-svc/platforms": Row(audience=For.USER),
    "GET /model-svc/default-model/status": Row(audience=For.USER),
    "GET /model-svc/model/{model_id}": Row(audience=For.USER, nobodys="models are the service's"),
    "GET /model-svc/model/{model_id}/status": Row(audience=For.USER, nobodys="models are the service's"),
    "PUT /model-svc/default-model/start": Row(audience=For.ADMIN),
    "PUT /model-svc/model/{model_id}/start": Row(audience=For.ADMIN, nobodys="models are the service's"),
    "PUT /model-svc/model/{model_id}/make-default": Row(audience=For.ADMIN, nobodys="models are the service's"),
    "GET /": Row(audience=For.ANYONE),
    "GET /health": Row(audience=For.ANYONE),
    "GET /openapi.json": Row(audience=For.ANYONE),
    "POST /user-svc/login": Row(audience=For.ANYONE),
    "POST /user-svc/register": Row(audience=For.ANYONE),
    "GET /user-svc/public-key": Row(audience=For.ANYONE),
    "POST /user-svc/self": Row(audience=For.TOKEN),
    "POST /user-svc/refresh-token": Row(audience=For.TOKEN),
    "POST /user-svc/self/has/{permission}": Row(audience=For.TOKEN, nobodys="a permission is nobody's"),
    "POST /user-svc/change-password": Row(audience=For.TOKEN),
    "POST /user-svc/stream-ticket": Row(audience=For.TOKEN),
    "POST /user-svc/api-key": Row(audience=For.TOKEN),
    "POST /user-svc/api-keys": Row(audience=For.TOKEN),
    "DELETE /user-svc/api-keys": Row(
        audience=For.TOKEN, owned=Owned(path="/user-svc/api-keys", body={"id": "ID"}, kind="api-key")
    ),
    "PUT /user-svc/permits": Row(audience=For.ADMIN),
    "POST /user-svc/permits": Row(audience=For.ADMIN),
    "POST /user-svc/users": Row(audience=For.ADMIN),
    # Somebody else's need a permission (tests/integration/test_users.py).
    "DELETE /user-svc/tokens": Row(audience=For.TOKEN),
    "POST /user-svc/{user_id}/reset-password": Row(
        audience=For.ADMIN, nobodys="the permission decides, not whose account it is"
    ),
    "PUT /user-svc/enrolls": Row(audience=For.ADMIN),
    "POST /user-svc/enrolls": Row(audience=For.ADMIN),
    "DELETE /user-svc/enrolls": Row(audience=For.ADMIN),
    "PUT /policy-svc/instance/{instance_id}": Row(audience=For.ADMIN, nobodys="policies are the service's"),
    "DELETE /policy-svc/instance/{instance_id}": Row(audience=For.ADMIN, nobodys="policies are the service's"),
    "POST /policy-svc/instances": Row(audience=For.ADMIN),
    "POST /policy-svc/check": Row(audience=For.ADMIN),
    # Open-Assistant, whose refusals look otherwise: tests/integration/test_open_assistant_access.py.
    "GET /auth/callback/debug": Row(audience=For.ANYONE),
    "GET /auth/login/debug": Row(audience=For.ANYONE),
    "GET /auth/providers": Row(audience=For.ANYONE),
    "GET /auth/refresh": Row(audience=For.ANYONE),
    "POST /auth/trusted": Row(audience=For.ANYONE),
    "GET /auth/check": Row(audience=For.TOKEN),
    "DELETE /account/": Row(audience=For.TOKEN),
    "GET /configs/model_configs": Row(audience=For.ANYONE),
    "GET /configs/builtin_plugins": Row(audience=For.ANYONE),
    "POST /configs/plugin_config": Row(audience=For.ANYONE),
    "POST /chats": Row(audience=For.USER),
    "GET /chats": Row(audience=For.USER),
    "PUT /chats/hide_all": Row(audience=For.USER),
    **{
        f"{method} /chats/{{chat_id}}{rest}": Row(audience=For.USER, nobodys="the door has a matrix of its own")
        for method, rest in (
            ("GET", ""),
            ("PUT", ""),
            ("DELETE", ""),
            ("POST", "/prompter_message"),
            ("POST", "/assistant_message"),
            ("POST", "/messages"),
            ("GET", "/messages/{message_id}"),
            ("GET", "/messages/{message_id}/events"),
            ("POST", "/messages/{message_id}/votes"),
            ("POST", "/messages/{message_id}/message_evals"),
            ("POST", "/messages/{message_id}/reports"),
        )
    },
    # The SEMOSS door: ids of jobs and insights are in its forms, and a session's (tests/integration/test_semoss.py).
    "GET /Monolith/api/config": Row(audience=For.ANYONE),
    "GET /Monolith/api/config/fetchCsrf": Row(audience=For.TOKEN),
    "GET /Monolith/api/logout": Row(audience=For.ANYONE),
    "GET /Monolith/api/logout/all": Row(audience=For.ANYONE),
    "POST /Monolith/api/engine/runPixel": Row(audience=For.USER),
    "POST /Monolith/api/engine/runPixelAsync": Row(audience=For.USER),
    "POST /Monolith/api/engine/pixelJobStreaming": Row(audience=For.USER),
    "POST /Monolith/api/engine/partial": Row(audience=For.USER),
    "POST /Monolith/api/engine/result": Row(audience=For.USER),
    "POST /Monolith/api/engine/status": Row(audience=For.USER),
    "POST /Monolith/api/engine/console": Row(audience=For.USER),
    "POST /Monolith/api/engine/error": Row(audience=For.USER),
    "POST /Monolith/api/engine/terminate": Row(audience=For.USER),
    # Nobody's ids: each request is generated anew (tests/integration/test_llm_inference.py).
    "POST /api/generate-one": Row(audience=For.USER),
    "POST /api/generate-batch": Row(audience=For.USER),
    "GET /v1/models": Row(audience=For.USER),
    "GET /v1/models/{model_id:path}": Row(audience=For.USER, nobodys="models are the service's"),
    "POST /v1/chat/completions": Row(audience=For.USER),
    "GET /v1/chat/completions/{completion_id}": Row(
        audience=For.USER, owned=Owned(path="/v1/chat/completions/ID", kind="chat completion", owner=202)
    ),
    "DELETE /v1/chat/completions/{completion_id}": Row(
        audience=For.USER, owned=Owned(path="/v1/chat/completions/ID", kind="chat completion")
    ),
    "POST /v1/completions": Row(audience=For.USER),
    "POST /v1/embeddings": Row(audience=For.USER),
    "POST /v1/images/generations": Row(audience=For.USER),
    "POST /v1/images/edits": Row(audience=For.USER),
}
