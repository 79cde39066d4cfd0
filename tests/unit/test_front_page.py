"""What is at the root, for browsers and for everybody else."""

from __future__ import annotations

import html
import re
from pathlib import Path

import httpx
import pytest

from deployments.ingress.auth import Gate
from deployments.ingress.bearers import Bearers
from deployments.ingress.front_page import COMMANDS, FrontPage
from deployments.ingress.web import web_app
from tests.unit.whole_table import routes

ROOT = Path(__file__).resolve().parent.parent.parent
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.fixture
async def client():
    app = web_app(FrontPage().routes(Gate(Bearers(None))))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        yield client


@pytest.mark.parametrize("accept", ["*/*", "application/json", "", "text/plain, application/json;q=0.5"])
async def test_a_client_gets_json(client: httpx.AsyncClient, accept: str):
    answer = await client.get("/", headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert list(answer.json()) == ["name", "about", "openapi", "health"]
    assert {part.strip() for part in answer.headers["vary"].split(",")} == {"Accept", "Origin"}


async def test_a_browser_gets_a_page_that_fetches_nothing(client: httpx.AsyncClient):
    answer = await client.get("/", headers={"Accept": BROWSER})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r"<(script|img|link|iframe)|\bsrc=|url\(|https?://", answer.text)
    assert {part.strip() for part in answer.headers["vary"].split(",")} == {"Accept", "Origin"}


async def test_its_links_lead_to_routes_that_anybody_may_use(client: httpx.AsyncClient):
    page = (await client.get("/", headers={"Accept": BROWSER})).text
    public = {route.path for route in routes() if route.method == "GET" and route.access == "public"}
    links = re.findall(r'href="([^"]+)"', page)
    assert len(links) == 2
    assert {f"/{link}" for link in links} <= public


async def test_its_commands_are_the_readmes(client: httpx.AsyncClient):
    page = html.unescape((await client.get("/", headers={"Accept": BROWSER})).text)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert command in page
        assert command in readme
