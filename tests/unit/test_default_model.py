from typing import Any

import pytest
from redis.exceptions import ConnectionError

from deployments.ingress.default_model import REFRESH_S, DefaultModel
from deployments.settings import ModelSpec, Settings
from pipeline.errors import StoreUnavailable
from tests.unit.chosen_default import ChosenDefault

MODELS = [ModelSpec(id=name, engine="scripted", source="none") for name in ("a", "b", "c")]
SETTINGS = Settings.parse({"redis_url": "redis://none.invalid", "models": MODELS, "default_model": "b"})


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> ChosenDefault:
    return ChosenDefault()


@pytest.fixture
def default(store: ChosenDefault, clock: Clock) -> DefaultModel:
    kept: Any = store
    return DefaultModel(SETTINGS, kept, clock=clock)


async def test_the_settings_decide_until_somebody_chooses(default: DefaultModel):
    assert (await default.get()).id == "b"


async def test_a_choice_of_another_replica_counts_within_a_second(
    default: DefaultModel, store: ChosenDefault, clock: Clock
):
    await default.get()
    store.model_id = "c"
    assert (await default.get()).id == "b"
    assert store.reads == 1
    clock.now += REFRESH_S
    assert (await default.get()).id == "c"
    assert REFRESH_S <= 1


async def test_ones_own_choice_counts_at_once(default: DefaultModel, store: ChosenDefault):
    await default.set(MODELS[2])
    assert store.model_id == "c"
    assert (await default.get()).id == "c"
    assert store.reads == 0


async def test_a_model_that_has_left_the_catalogue_is_as_if_none_had_been_chosen(
    default: DefaultModel, store: ChosenDefault
):
    store.model_id = "gone"
    assert (await default.get()).id == "b"


async def test_while_the_store_is_away_what_was_last_read_stays(
    default: DefaultModel, store: ChosenDefault, clock: Clock
):
    store.model_id = "c"
    await default.get()
    store.failing = ConnectionError("refused")
    clock.now += REFRESH_S
    assert (await default.get()).id == "c"
    with pytest.raises(StoreUnavailable):
        await default.set(MODELS[0])
    assert (await default.get()).id == "c"
