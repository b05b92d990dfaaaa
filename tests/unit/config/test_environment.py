from __future__ import annotations

from pathlib import Path

import pytest

from emberq.config.environment import OTHER_VARIABLES, Environment, default_data_dir, get_environment


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run where there is no `.env`."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_usual_postgresql_urls_are_accepted() -> None:
    for url in ("postgres://u:p@h/d", "postgresql://u:p@h/d"):
        given = Environment(database_url=url)
        assert given.database_url is not None
        assert given.database_url.get_secret_value() == "postgresql+psycopg://u:p@h/d"
        assert "p@h" not in repr(given)


def test_a_field_is_read_from_its_variable_and_an_empty_one_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBERQ_WORKERS", "7")
    monkeypatch.setenv("EMBERQ_PORT", "")
    assert (Environment().workers, Environment().port) == (7, 8040)


def test_the_file_env_is_read_and_a_variable_comes_first(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / ".env").write_text("EMBERQ_WORKERS=3\nEMBERQ_PORT=9000\n")
    monkeypatch.setenv("EMBERQ_PORT", "9001")
    assert (Environment().workers, Environment().port) == (3, 9001)


def test_secrets_are_read_from_files_and_a_variable_comes_first(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "EMBERQ_DATABASE_URL").write_text("postgresql://u:p@h/d\n")
    (directory / "EMBERQ_API_KEY").write_text("of the file")
    monkeypatch.setenv("EMBERQ_SECRETS_DIR", str(directory))
    monkeypatch.setenv("EMBERQ_API_KEY", "of the variable")
    get_environment.cache_clear()
    try:
        database_url, api_key = get_environment().database_url, get_environment().api_key
    finally:
        get_environment.cache_clear()
    assert database_url is not None
    assert database_url.get_secret_value() == "postgresql+psycopg://u:p@h/d"
    assert api_key is not None
    assert api_key.get_secret_value() == "of the variable"


def test_the_data_directory_is_absolute_and_by_default_where_xdg_says(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Environment(data_dir=Path("data")).data_dir == directory / "data"
    monkeypatch.setenv("XDG_DATA_HOME", str(directory))
    assert default_data_dir() == directory / "emberq"


def test_a_variable_is_described_once() -> None:
    assert not {name.removeprefix("EMBERQ_").lower() for name in OTHER_VARIABLES} & set(
        Environment.model_fields
    )


@pytest.mark.parametrize(
    "url",
    [
        *("foo", "localhost:8040", "http://", "http://:8040", "http://[::1", "http://h:0", "http://h:99999"),
        *(
            "http://h:x",
            "ftp://h",
            "http://a b",
            "http://a..b",
            "http://h/?q=1",
            "http://h\n",
            "http://\udcff",
        ),
        f"http://{'a' * 300}",
    ],
)
def test_a_malformed_url_is_refused_in_words(url: str) -> None:
    for given in ({"url": url}, {"openwebui_url": url}):
        with pytest.raises(ValueError, match=r"URL|space or a control character|query"):
            Environment.model_validate(given)


@pytest.mark.parametrize(
    "url", ["http://[::1]:8040", "https://docs.example/emberq/", "http://bücher.example"]
)
def test_the_url_of_a_server_is_accepted(url: str) -> None:
    assert Environment(url=url).url == url
