from pathlib import Path

import pytest
from pydantic import BaseModel

from deployments.settings import ModelSpec, RetentionSpec, Settings
from scripts import settings_reference


def test_the_page_is_up_to_date():
    assert settings_reference.PAGE.read_text(encoding="utf-8") == settings_reference.page(), (
        "python -m scripts.settings_reference writes it"
    )


@pytest.mark.parametrize("model", [Settings, ModelSpec, RetentionSpec])
def test_every_setting_says_what_it_is(model: type[BaseModel]):
    said = settings_reference.comments(model)
    assert [name for name in model.model_fields if not said.get(name)] == []


def test_no_secret_has_a_default():
    assert "changeme" not in settings_reference.page()


def test_a_stale_page_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    stale = tmp_path / "settings.md"
    stale.write_text("old")
    monkeypatch.setattr(settings_reference, "PAGE", stale)
    assert settings_reference.main(["--check"]) == 1
    assert "out of date" in capsys.readouterr().err
    assert settings_reference.main([]) == 0
    assert settings_reference.main(["--check"]) == 0
