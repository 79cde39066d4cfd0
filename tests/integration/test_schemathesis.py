"""Schemathesis holds the running ingress against its OpenAPI document: every operation, all checks.

25 generated cases per operation beside its systematic ones, always the same; SCHEMATHESIS_CASES=200 makes more and others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig

from deployments.ingress.openapi import document
from tests.access_rows import ROWS, For
from tests.integration.whole_app import IMAGE, WholeApp, running_app
from tests.unit.whole_table import own_routes

CASES = int(os.environ.get("SCHEMATHESIS_CASES", "25"))

# What the document calls the text of a value; of numbers one that is within every field's bounds.
schemathesis.openapi.format("json-object", st.sampled_from(["{}", " {}"]))
schemathesis.openapi.format("json-array", st.just("[]"))
schemathesis.openapi.format("number", st.sampled_from(["1", "1.0", "+1", "1e0", ".5", "0.25"]))
schemathesis.openapi.format("integer", st.sampled_from(["1", "+1", "001"]))
schemathesis.openapi.format("byte-range", st.sampled_from(["bytes=0-9", "bytes=0-", "bytes=-5", "bytes=0-99999"]))
schemathesis.openapi.format("time-window", st.sampled_from(["30s", "1m", "1h30m", "31d"]))
schemathesis.openapi.format("https-url", st.sampled_from(["https://images.example/a.png", "https://images.example"]))
# Ids are random: the one of a file that is there.
FILES: list[str] = []
schemathesis.openapi.format("file-id", st.builds(lambda: FILES[-1] if FILES else "file-none"))

SCHEMA = schemathesis.openapi.from_dict(document(own_routes()), config=SchemathesisConfig())
# Neither NUL nor lone surrogates are sent: no string may hold them (tests/unit/test_body.py).
SCHEMA.config.generation.allow_x00 = False


@pytest.fixture(scope="module")
def app(valkey: str, _database_numbers: Iterator[int]) -> Iterator[WholeApp]:
    url = f"{valkey.rsplit('/', 1)[0]}/{next(_database_numbers)}"
    with running_app(url) as running:
        with running.client("alice") as alice:
            answer = alice.put("/file-svc/upload", files={"file": ("a.png", IMAGE)})
        FILES.append(answer.json()["upload"]["fileId"])
        yield running


def caller(case: schemathesis.Case) -> str:
    """A user, or an admin where nobody else gets in."""
    row = ROWS[f"{case.operation.method.upper()} {case.operation.path}"]
    return "root" if row.audience is For.ADMIN else "alice"


@SCHEMA.parametrize()
@settings(
    max_examples=CASES,
    derandomize="SCHEMATHESIS_CASES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_it_does_what_its_document_says(case: schemathesis.Case, app: WholeApp) -> None:
    case.call_and_validate(base_url=app.url, headers={"Authorization": f"Bearer {app.token(caller(case))}"})
