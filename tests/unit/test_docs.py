"""The guides, held against the code and against each other."""

import re
from pathlib import Path

import pytest
import yaml

from tests.unit.whole_table import routes

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("deploy/*.md")),
]
PROMISE = (
    "an acknowledged prompt is not lost as long as the store keeps its data; execution is at least once; "
    "the recorded result is exactly once"
)

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_ROUTE = re.compile(r"^## (GET|POST|PUT|DELETE) (/\S+)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    headings = _HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_route_is_documented_and_none_that_does_not_exist():
    said = _ROUTE.findall((ROOT / "docs" / "http-api.md").read_text(encoding="utf-8"))
    own = [route for route in routes() if route.door is None]
    exist = [(method, route.path) for route in own for method in route.methods or () if method != "HEAD"]
    assert sorted(said) == sorted(exist)


@pytest.mark.parametrize("name", ["README.md", "docs/how-it-works.md"])
def test_the_promise_is_worded_as_in_the_design(name: str):
    text = " ".join((ROOT / name).read_text(encoding="utf-8").replace("**", "").split())
    assert PROMISE in text


def test_the_layout_names_what_is_there():
    layout = (ROOT / "README.md").read_text(encoding="utf-8").split("## In here")[1]
    named = re.findall(r"^\| `([^`]+)` \|", layout, re.MULTILINE)
    assert len(named) == 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_picture_is_an_svg_on_a_light_ground():
    text = (ROOT / "docs" / "graph.svg").read_text(encoding="utf-8")
    import xml.etree.ElementTree as ET

    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert '<rect width="960" height="470" fill="#f8fafc"/>' in text


def test_defaults_named_in_the_guides_are_those_of_the_code():
    from deployments.settings import Settings

    text = (ROOT / "docs" / "http-api.md").read_text(encoding="utf-8")
    fields = Settings.model_fields
    assert f"{fields['sync_wait_s'].default} s at most" in text
    assert f"a comment every {fields['sse_heartbeat_s'].default} s" in text
    assert f"good for {fields['access_token_hours'].default} hours" in text
    port = yaml.safe_load((ROOT / "serve_config.yaml").read_text(encoding="utf-8"))["http_options"]["port"]
    assert f"localhost:${{PORT:-{port}}}" in (ROOT / "README.md").read_text(encoding="utf-8")
