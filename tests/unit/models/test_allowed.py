from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from emberq.config.environment import get_environment
from emberq.errors import EmbeddingUnavailable, ModelNotFound
from emberq.models.allowed import allowed_models, choose_model
from emberq.models.files import find_model
from emberq.models.pins import DEFAULT_MODEL

HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(autouse=True)
def fresh_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("EMBERQ_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("EMBERQ_ALLOWED_MODELS", "org/one, /srv/secret-place/two")
    get_environment.cache_clear()
    yield
    get_environment.cache_clear()


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ("", DEFAULT_MODEL),
        (DEFAULT_MODEL, DEFAULT_MODEL),
        (HUB_NAME, DEFAULT_MODEL),
        ("org/one", "org/one"),
        ("/srv/secret-place/two", "/srv/secret-place/two"),
    ],
)
def test_the_default_and_what_the_operator_allows_is_chosen(asked: str, chosen: str) -> None:
    assert choose_model(asked, HUB_NAME) == chosen


@pytest.mark.parametrize("asked", ["/etc", "../..", "~", "./x", "org/other", "/srv/secret-place", "\0"])
def test_anything_else_is_refused_without_a_word_of_the_servers_folders(asked: str) -> None:
    with pytest.raises(ModelNotFound) as refused:
        choose_model(asked, "/srv/secret-place/default")
    shown = f"{refused.value.message} {refused.value.hint}".replace(asked, "")
    assert "secret-place" not in shown
    assert "default, org/one, two" in shown


def test_by_default_the_downloaded_models_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMBERQ_ALLOWED_MODELS")
    get_environment.cache_clear()
    assert allowed_models() == []


def test_a_model_that_is_missing_is_named_without_its_folder() -> None:
    with pytest.raises(EmbeddingUnavailable) as missing:
        find_model("/srv/secret-place/two")
    assert "secret-place" not in f"{missing.value.message} {missing.value.hint}"
