from __future__ import annotations

import pytest
from pydantic import SecretStr

from emberq.config.runtime import (
    Applies,
    RuntimeSettings,
    applies,
    is_host_wide,
    is_secret,
    require_setting,
    settings_that_apply,
)
from emberq.errors import SettingInvalid


def test_a_secret_is_never_printed() -> None:
    assert is_secret("rag_embedding_api_key")
    assert not is_secret("rag_embedding_model")
    settings = RuntimeSettings(rag_embedding_api_key=SecretStr("sk-123"))
    assert "sk-123" not in repr(settings)


def test_every_setting_has_a_description_and_says_what_a_change_needs() -> None:
    for key, field in RuntimeSettings.model_fields.items():
        assert field.description, key
        assert applies(key), key
        assert isinstance(is_host_wide(key), bool), key
    sorted_out = [key for when in Applies for key in settings_that_apply(when)]
    assert sorted(sorted_out) == sorted(RuntimeSettings.model_fields)


def test_an_unknown_setting_is_refused_by_its_name() -> None:
    for asking in (require_setting, applies, is_secret, is_host_wide):
        with pytest.raises(SettingInvalid, match="no setting named 'magic'"):
            asking("magic")


def test_the_defaults_are_allowed() -> None:
    assert RuntimeSettings.model_validate(RuntimeSettings().model_dump()) == RuntimeSettings()
