"""Services for the chaos tests, one per configuration for the whole session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.config import SCRIPTED_MODEL, scripted_config
from tests.chaos.run import Chaos
from tests.service import running_service


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chaos]:
    """The graph as in production, on two replicas of the scripted engine."""
    folder = tmp_path_factory.mktemp("chaos")
    with running_service(folder / "data", config=scripted_config(folder)) as service:
        chaos = Chaos(service, SCRIPTED_MODEL)
        try:
            yield chaos
        finally:
            chaos.close()
