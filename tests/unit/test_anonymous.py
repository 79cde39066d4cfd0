"""When callers without a token are served, and who they are."""

import pytest

from deployments.settings import InvalidSettings, Settings
from pipeline.accounts import Role
from pipeline.anonymous import ANONYMOUS, AnonymousRefused, ensure_anonymous
from tests.unit.accounts_in_memory import memory_accounts

BASE = {"redis_url": "redis://none.invalid", "models": [{"id": "m", "engine": "scripted", "source": "none"}]}


@pytest.mark.parametrize(
    ("setting", "on_loopback", "elsewhere"), [("auto", True, False), ("on", True, True), ("off", False, False)]
)
def test_by_default_only_this_machine_needs_no_token(setting: str, on_loopback: bool, elsewhere: bool):
    settings = Settings.parse({**BASE, "llm_inference_anonymous": setting})
    assert settings.serves_anonymous(bound_to_loopback=True) is on_loopback
    assert settings.serves_anonymous(bound_to_loopback=False) is elsewhere


@pytest.mark.parametrize(
    "wrong",
    [{"llm_inference_anonymous": "yes"}, {"llm_inference_account": "No Slug"}, {"llm_inference_account": "a" * 65}],
)
def test_other_values_stop_the_start(wrong: dict[str, str]):
    with pytest.raises(InvalidSettings, match=next(iter(wrong))):
        Settings.parse({**BASE, **wrong})


async def test_the_account_is_made_once_with_a_role_that_nobody_registers_with():
    accounts = memory_accounts()
    made = await ensure_anonymous(accounts, "anonymous")
    assert made.roles == (Role.USER, ANONYMOUS)
    assert await ensure_anonymous(accounts, "anonymous") == made


async def test_an_account_of_somebodys_does_not_become_everybodys():
    accounts = memory_accounts()
    await accounts.register(slug="anonymous", password="correct horse")
    with pytest.raises(AnonymousRefused, match="PROMPT_SVC_LLM_INFERENCE_ACCOUNT"):
        await ensure_anonymous(accounts, "anonymous")
