"""Schemathesis follows the links of the OpenAPI document: what was made can be read until it is deleted, and not after."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import use_after_free

import tests.integration.schemathesis_formats  # noqa: F401  # registers them
from deployments.ingress.openapi import document
from tests.integration.whole_app import WholeApp, running_app
from tests.unit.whole_table import routes

#: Chains of calls about one kind of thing, and the most calls of one.
CHAINS = int(os.environ.get("SCHEMATHESIS_CHAINS", "15"))
STEPS = 6

CONFIG = {
    # Wrong requests are the other test's; no string may hold NUL (tests/unit/test_body.py).
    "generation": {"mode": "positive", "allow-x00": False},
    # Without the links that Schemathesis makes up: ours are what is tested.
    "phases": {"stateful": {"inference": {"algorithms": []}}},
}
SCHEMA = schemathesis.openapi.from_dict(document(routes()), config=SchemathesisConfig.from_dict(CONFIG))


@SCHEMA.hook
def map_body(context: Any, body: Any) -> Any:
    """Ids are the service's choice: one of the caller's may be ``..``, which no client leaves as it is in a path."""
    if isinstance(body, dict):
        body = {key: value for key, value in body.items() if key.lower() not in ("id", "threadid")}
    return body


@pytest.fixture(scope="module")
def app(valkey: str, _database_numbers: Iterator[int]) -> Iterator[WholeApp]:
    url = f"{valkey.rsplit('/', 1)[0]}/{next(_database_numbers)}"
    with running_app(url) as running:
        yield running


@pytest.mark.parametrize("kind", ["/prompt-svc/prompt", "/prompt-svc/template", "/chat-svc/thread", "/file-svc/"])
def test_what_a_reply_leads_to_is_there_until_it_is_deleted(app: WholeApp, kind: str) -> None:
    token = app.token("alice")

    class Machine(SCHEMA.include(path_regex=f"^{kind}").as_state_machine()):  # type: ignore[misc]
        seen: ClassVar[Counter[tuple[str, int]]] = Counter()

        def get_call_kwargs(self, case: schemathesis.Case) -> dict[str, Any]:
            return {"base_url": app.url, "headers": {"Authorization": f"Bearer {token}"}}

        def validate_response(self, response: Response, case: schemathesis.Case, **kwargs: Any) -> None:
            self.seen[case.operation.label, response.status_code] += 1
            # DELETE cancels a prompt that has not ended, and nothing ends here: it is still there.
            excluded = [use_after_free] if case.operation.path.startswith("/prompt-svc/prompt") else []
            case.validate_response(
                response, excluded_checks=excluded, transport_kwargs=kwargs or None, recorder=self.recorder
            )

    Machine.run(
        settings=settings(
            max_examples=CHAINS,
            stateful_step_count=STEPS,
            phases=[Phase.generate],
            derandomize="SCHEMATHESIS_CHAINS" not in os.environ,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
    )
    # It has been everywhere, found what was made, and missed what was deleted.
    found = {name for name, status in Machine.seen if 200 <= status < 300}
    assert found == {name for name in (*LINKED, *LINKED.values()) if name.partition(" ")[2].startswith(kind)}
    assert kind.startswith("/prompt-svc") or any(status == 404 for _, status in Machine.seen)


def test_every_kind_of_thing_that_can_be_made_and_read_is_linked() -> None:
    assert len(LINKED) == 10


def linked_operations() -> dict[str, str]:
    """Every operation that a reply leads to, and one whose reply does."""
    operations = {
        f"{method.upper()} {path}": operation
        for path, item in document(routes())["paths"].items()
        for method, operation in item.items()
    }
    names = {operation["operationId"]: name for name, operation in operations.items()}
    return {
        names[link["operationId"]]: name
        for name, operation in operations.items()
        for link in operation["responses"]["200"].get("links", {}).values()
    }


LINKED = linked_operations()
