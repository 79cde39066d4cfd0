"""Schemathesis holds the running ingress against its OpenAPI document: every operation, all checks.

25 generated cases per operation beside its systematic ones, always the same; SCHEMATHESIS_CASES=200 makes more and others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from deployments.ingress.openapi import document
from tests.access_rows import ROWS, For
from tests.integration.schemathesis_formats import ENROLLS, FILES, USERS
from tests.integration.whole_app import IMAGE, WholeApp, running_app
from tests.unit.whole_table import own_routes

CASES = int(os.environ.get("SCHEMATHESIS_CASES", "25"))

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
        USERS.append(running.user_id("eve"))
        with running.client("root") as root:
            enrolls = {"enrolls": [{"role": "news-svc:editor", "userId": running.user_id("eve")}]}
            answer = root.put("/user-svc/enrolls", json=enrolls)
        ENROLLS.append(answer.json()["enrolls"][0]["id"])
        yield running


def caller(case: schemathesis.Case) -> str:
    """A user, or an admin where nobody else gets in, or sees what is there."""
    name = f"{case.operation.method.upper()} {case.operation.path}"
    return "root" if ROWS[name].audience is For.ADMIN or name == "DELETE /user-svc/tokens" else "alice"


@SCHEMA.parametrize()
@settings(
    max_examples=CASES,
    derandomize="SCHEMATHESIS_CASES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_it_does_what_its_document_says(case: schemathesis.Case, app: WholeApp) -> None:
    case.call_and_validate(base_url=app.url, headers={"Authorization": f"Bearer {app.token(caller(case))}"})
