"""A client that goes to the door as Open-Assistant's own text client does (contract A.8): the same requests, in the same order,
read with the same patience, and not a word more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import requests

#: What the text client sends with every message.
SAMPLING = {"top_p": 0.95, "top_k": 50, "repetition_penalty": 1.2, "temperature": 1.0}


class TextClient:
    """Its session. Statuses are looked at where the original looks at them, which is nearly nowhere."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = requests.Session()
        self.headers: dict[str, str] = {}
        #: Every reply, for who wants to see more of it than the client does.
        self.pending: list[dict[str, Any]] = []
        self.last: dict[str, Any] = {}
        self.chat_id = ""
        self.message_id: str | None = None
        self.models = self._models()

    def close(self) -> None:
        self._http.close()

    def login(self, name: str) -> None:
        answer = self._http.get(f"{self.url}/auth/callback/debug", params={"code": name}, timeout=10).json()
        token = answer["access_token"]
        assert token["token_type"] == "bearer"
        self.headers = {"Authorization": f"Bearer {token['access_token']}"}

    def create_chat(self) -> str:
        self.chat_id = self._post("/chats", {})["id"]
        self.message_id = None
        return self.chat_id

    def send_message(self, text: str, model: str) -> Iterator[str]:
        """The pieces of the answer. Raises ValueError for a model that is not listed, RuntimeError where the client gives up."""
        if model not in self._models():
            raise ValueError(f"Invalid model config name: {model}")
        prompter = {"parent_id": self.message_id, "content": text}
        prompter_id = self._post(f"/chats/{self.chat_id}/prompter_message", prompter)["id"]
        asked = {"parent_id": prompter_id, "model_config_name": model, "sampling_parameters": SAMPLING}
        self.message_id = self._post(f"/chats/{self.chat_id}/assistant_message", asked)["id"]
        yield from self.events(self.message_id)

    def send_message_in_one_step(self, text: str, model: str) -> Iterator[str]:
        """The same as before March 2023, and as the document has it."""
        body = {
            "parent_id": self.message_id,
            "content": text,
            "model_config_name": model,
            "sampling_parameters": SAMPLING,
        }
        self.message_id = self._post(f"/chats/{self.chat_id}/messages", body)["assistant_message"]["id"]
        yield from self.events(self.message_id)

    def events(self, message_id: str) -> Iterator[str]:
        """The text of an answer's events."""
        path = f"/chats/{self.chat_id}/messages/{message_id}"
        with self._http.get(
            f"{self.url}{path}/events",
            stream=True,
            headers={"Accept": "text/event-stream", **self.headers},
            timeout=60,
        ) as response:
            if response.status_code == 204:
                yield self._get(path)["content"]
                return
            response.raise_for_status()
            for name, data in server_sent_events(response):
                if name == "error":
                    raise RuntimeError(data)
                if name == "ping":
                    continue
                try:
                    event = json.loads(data)
                    kind = event["event_type"]
                except (json.JSONDecodeError, KeyError):
                    raise RuntimeError(f"Failed to decode {data!r}") from None
                if kind == "token":
                    yield event["text"]
                elif kind == "message":
                    self.last = event["message"]
                    return
                elif kind == "error":
                    raise RuntimeError(event["error"])
                elif kind == "pending":
                    self.pending.append(event)

    def _models(self) -> list[str]:
        return [model["name"] for model in self._get("/configs/model_configs")]

    def _get(self, path: str) -> Any:
        response = self._http.get(f"{self.url}{path}", headers=self.headers, timeout=10)
        response.raise_for_status()
        return response.json()

    def _post(self, path: str, body: Any) -> Any:
        response = self._http.post(f"{self.url}{path}", json=body, headers=self.headers, timeout=30)
        response.raise_for_status()
        return response.json()


def server_sent_events(response: requests.Response) -> Iterator[tuple[str, str]]:
    """Name and data of each event as sseclient-py reads them: cut at empty lines, lines of any kind, comments passed over."""
    buffer = b""
    for piece in response.iter_content(chunk_size=None):
        buffer += piece
        while (cut := buffer.replace(b"\r\n", b"\n").find(b"\n\n")) >= 0:
            whole = buffer.replace(b"\r\n", b"\n")
            frame, buffer = whole[:cut], whole[cut + 2 :]
            name, data = "message", []
            for line in frame.decode().splitlines():
                field, _, value = line.partition(":")
                if field == "event":
                    name = value.strip()
                elif field == "data":
                    data.append(value.removeprefix(" "))
            if data:
                yield name, "\n".join(data)
