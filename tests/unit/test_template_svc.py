"""The endpoints of saved templates, around a store in memory."""

import re
from typing import Any

import httpx
import pytest

from deployments.ingress.auth import Gate, unguarded
from deployments.ingress.bearers import Bearers
from deployments.ingress.template_svc import TemplateSvc
from deployments.ingress.web import web_app
from deployments.settings import Settings
from pipeline.store.templates import MOST_CHARACTERS, SavedTemplate, TooManyTemplates
from tests.unit.known_tokens import KnownTokens
from tests.unit.snapshot import check_json

SETTINGS = Settings.parse(
    {"redis_url": "redis://none.invalid", "models": [{"id": "m", "engine": "scripted", "source": "none"}]}
)
QA = {"name": "qa", "template": r"Context: {context}\nQuestion: {prompt}\nAnswer {{so}}:"}


class Templates:
    def __init__(self) -> None:
        self.saved: dict[tuple[str, str], SavedTemplate] = {}

    async def save(self, user_id: str, name: str, template: str) -> SavedTemplate:
        if name == "one too many":
            raise TooManyTemplates
        at = 1_773_561_898_000_001
        self.saved[user_id, name] = SavedTemplate(
            name=name, template=template, created_us=at, updated_us=at + 1_000_000
        )
        return self.saved[user_id, name]

    async def all(self, user_id: str) -> list[SavedTemplate]:
        return [saved for (owner, _), saved in self.saved.items() if owner == user_id]

    async def delete(self, user_id: str, name: str) -> bool:
        return self.saved.pop((user_id, name), None) is not None


@pytest.fixture
def templates() -> Templates:
    return Templates()


@pytest.fixture
def client(templates: Templates) -> httpx.AsyncClient:
    store: Any = templates
    app = web_app(TemplateSvc(SETTINGS, store).routes(Gate(Bearers(KnownTokens()))))  # type: ignore[arg-type]
    assert not unguarded(app.routes)
    headers = {"Authorization": "Bearer user"}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://t", headers=headers)


async def test_saving_listing_and_deleting(client: httpx.AsyncClient, templates: Templates):
    saved = await client.post("/prompt-svc/template", json=QA)
    assert saved.status_code == 200
    check_json("template", saved.json())
    listed = await client.post("/prompt-svc/templates")
    assert listed.json() == {"templates": [saved.json()["template"]]}
    assert listed.json()["templates"][0]["template"] == QA["template"]
    deleted = await client.delete("/prompt-svc/template/qa")
    assert (deleted.status_code, deleted.text) == (200, "{}")
    assert (await client.post("/prompt-svc/templates", json={})).json() == {"templates": []}


async def test_a_name_may_hold_what_a_path_may_not(client: httpx.AsyncClient, templates: Templates):
    await client.post("/prompt-svc/template", json={**QA, "name": "my own/🙂"})
    assert (await client.delete("/prompt-svc/template/my%20own%2F%F0%9F%99%82")).status_code == 200
    assert templates.saved == {}


async def test_numbers_from_the_command_line_are_names_too(client: httpx.AsyncClient, templates: Templates):
    assert (await client.post("/prompt-svc/template", json={"name": 7, "TEMPLATE": "{prompt}"})).status_code == 200
    assert ("usr-1", "7") in templates.saved


async def test_another_users_template_is_like_one_that_is_not_there(client: httpx.AsyncClient, templates: Templates):
    await templates.save("usr-2", "theirs", "{prompt}")
    foreign = await client.delete("/prompt-svc/template/theirs")
    unknown = await client.delete("/prompt-svc/template/nobodys")
    assert (foreign.status_code, foreign.text) == (unknown.status_code, unknown.text) == (404, '{"error": "Not Found"}')
    assert ("usr-2", "theirs") in templates.saved
    assert (await client.post("/prompt-svc/templates")).json() == {"templates": []}


NAME = "a string of 1 to 64 characters without control characters, not blank"
TEMPLATE = f"a string of at most {MOST_CHARACTERS} characters that contains {{prompt}} or another variable"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"name": None}, f"name: got nothing, allowed is {NAME}"),
        ({"name": ""}, f'name: got "", allowed is {NAME}'),
        ({"name": " "}, f'name: got " ", allowed is {NAME}'),
        ({"name": "a\nb"}, f'name: got "a\\nb", allowed is {NAME}'),
        ({"name": "x" * 65}, f"name: got a string of 65 characters, allowed is {NAME}"),
        ({"name": ["qa"]}, f"name: got an array, allowed is {NAME}"),
        ({"template": None}, f"template: got nothing, allowed is {TEMPLATE}"),
        ({"template": ""}, f"template: got a string of 0 characters without one, allowed is {TEMPLATE}"),
        ({"template": "{} {0}"}, f"template: got a string of 6 characters without one, allowed is {TEMPLATE}"),
        ({"template": {"a": 1}}, f"template: got an object, allowed is {TEMPLATE}"),
        (
            {"template": "{prompt}" + "x" * (MOST_CHARACTERS - 7)},
            f"template: got a string of {MOST_CHARACTERS + 1} characters, allowed is {TEMPLATE}",
        ),
    ],
)
async def test_what_is_wrong_is_named(client: httpx.AsyncClient, templates: Templates, changes: dict, error: str):
    reply = await client.post("/prompt-svc/template", json={**QA, **changes})
    assert (reply.status_code, reply.json()) == (400, {"error": error})
    assert templates.saved == {}


async def test_one_template_too_many_is_409(client: httpx.AsyncClient, templates: Templates):
    reply = await client.post("/prompt-svc/template", json={**QA, "name": "one too many"})
    allowed = "You have as many saved templates as are allowed (100): delete one first"
    assert (reply.status_code, reply.json()) == (409, {"error": allowed})
    assert templates.saved == {}


@pytest.mark.parametrize("path", ["/prompt-svc/template", "/prompt-svc/templates"])
async def test_bodies_that_are_none_or_too_large(client: httpx.AsyncClient, path: str):
    assert (await client.post(path, content=b"[")).status_code == 400
    assert (await client.post(path, content=b"x" * 1_048_577)).status_code == 413


@pytest.mark.parametrize("token", ["", "Bearer expired", "expired", "Bearer nobody"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/prompt-svc/template"), ("POST", "/prompt-svc/templates"), ("DELETE", "/prompt-svc/template/qa")],
)
async def test_without_a_good_token_that_has_the_permission_nothing_is_done(
    client: httpx.AsyncClient, templates: Templates, method: str, path: str, token: str
):
    await templates.save("usr-1", "qa", "{prompt}")
    reply = await client.request(method, path, json=QA, headers={"Authorization": token})
    assert (reply.status_code, reply.text) == (401, '{"error": "Unauthorized"}')
    assert ("usr-1", "qa") in templates.saved


def test_the_number_in_the_refusal_is_the_number_allowed():
    from pipeline.store.templates import MOST_TEMPLATES

    assert re.findall(r"\d+", TooManyTemplates().message) == [str(MOST_TEMPLATES)]
