from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from emberq.config.environment import Environment
from emberq.config.runtime import RuntimeSettings, applies, is_secret, setting_fields, validate_setting
from emberq.errors import SettingInvalid


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [("rag_chunk_size", "300", 300), ("rag_hybrid", "false", False), ("job_timeout", 5, 5.0)],
)
def test_values_come_back_in_their_own_type(key: str, value: Any, expected: Any) -> None:
    assert validate_setting(key, value, RuntimeSettings()) == expected


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("no_such_setting", 1, "no setting"),
        ("rag_chunk_size", 3, "greater than or equal to 16"),
        ("rag_chunk_overlap", 150, "at most half"),
        ("rag_embedding_engine", "magic", "'local' or 'openai'"),
        ("rag_embedding_engine", "openai", "rag_embedding_api_base_url"),
    ],
)
def test_values_that_are_not_allowed_are_refused_with_the_reason(key: str, value: Any, reason: str) -> None:
    with pytest.raises(SettingInvalid, match=reason):
        validate_setting(key, value, RuntimeSettings())


def test_a_secret_is_checked_as_plain_text_and_never_printed() -> None:
    assert validate_setting("rag_embedding_api_key", "sk-123", RuntimeSettings()) == "sk-123"
    assert is_secret("rag_embedding_api_key")
    settings = RuntimeSettings(rag_embedding_api_key=SecretStr("sk-123"))
    assert "sk-123" not in repr(settings)


def test_every_setting_has_a_description_and_says_what_a_change_needs() -> None:
    for key, field in setting_fields().items():
        assert field.description, key
        assert applies(key), key


def test_the_usual_postgresql_urls_are_accepted() -> None:
    for url in ("postgres://u:p@h/d", "postgresql://u:p@h/d"):
        given = Environment(database_url=url)
        assert given.database_url is not None
        assert given.database_url.get_secret_value() == "postgresql+psycopg://u:p@h/d"
        assert "p@h" not in repr(given)
