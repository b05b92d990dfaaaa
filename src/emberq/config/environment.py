"""What the process is told by its environment (`EMBERQ_*`, `.env`); fixed for its lifetime."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Environment", "default_data_dir", "get_environment"]


def default_data_dir() -> Path:
    """Return `$XDG_DATA_HOME/emberq`, by default `~/.local/share/emberq`."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "emberq"


class Environment(BaseSettings):
    """Process settings; every field is read from `EMBERQ_` plus its name in upper case."""

    model_config = SettingsConfigDict(
        env_prefix="EMBERQ_", env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True
    )

    data_dir: Path = Field(default_factory=default_data_dir, description="Where files and engines keep data.")
    redis_url: str | None = Field(None, description="Redis or Valkey to use; embedded Valkey if unset.")
    database_url: SecretStr | None = Field(
        None, description="PostgreSQL 15+ with pgvector; embedded if unset."
    )
    blob_url: str | None = Field(
        None, description="Where file bytes lie: file:///path; in data_dir if unset."
    )
    secret_key: SecretStr | None = Field(
        None, description="Key that seals secret settings; comma-separated, newest first; made if unset."
    )
    workers: int = Field(2, ge=1, le=512, description="Worker slots of `up` and `worker`.")
    host: str = Field("127.0.0.1", description="Address the API and the metrics listen on.")
    port: int = Field(8040, ge=0, le=65535, description="Port the API listens on; 0 takes a free one.")
    log_format: Literal["json", "console"] = Field(
        "console", description="One JSON object a line, or for eyes."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity logged."
    )
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port each host's metrics are served on; 0 takes a free one, unset none.",
    )
    metrics_dir: Path | None = Field(
        None,
        description="Where the processes of a host count; a directory of each supervisor's own if unset.",
    )
    url: str = Field("http://127.0.0.1:8040", description="Where the command line finds the API.")
    api_key: SecretStr | None = Field(None, description="Key the command line sends.")
    openwebui_url: str = Field(
        "http://127.0.0.1:8080", description="Where `emberq openwebui` finds Open WebUI."
    )
    openwebui_api_key: SecretStr | None = Field(
        None, description="Open WebUI's API key, or a session's token, that `emberq openwebui` sends."
    )
    openwebui_email: str | None = Field(None, description="Account to sign in with in place of a key.")
    openwebui_password: SecretStr | None = Field(None, description="That account's password.")
    preload: str | None = Field(None, description="Modules with resources that workers load before forking.")
    openwebui_jwt_secret: SecretStr | None = Field(
        None,
        description="Secret that Open WebUI signs who its users are with"
        " (its FORWARD_USER_INFO_HEADER_JWT_SECRET); a wrong signature is then refused.",
    )
    embedding_threads: int = Field(
        0,
        ge=0,
        le=256,
        description="Threads of the API that embed texts for `/v1/embeddings`; half of the processors if 0."
        " Queries have one more of their own.",
    )
    db_pool_size: int = Field(4, ge=1, le=64, description="Connections kept open by one process.")

    @field_validator("database_url", mode="before")
    @classmethod
    def _use_psycopg(cls, value: object) -> object:
        """Accept the usual `postgres://` and `postgresql://` forms for the psycopg 3 driver."""
        if not isinstance(value, str):
            return value
        for prefix in ("postgres://", "postgresql://"):
            if value.startswith(prefix):
                return "postgresql+psycopg://" + value.removeprefix(prefix)
        return value

    @field_validator("data_dir", mode="after")
    @classmethod
    def _make_absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()


@lru_cache(maxsize=1)
def get_environment() -> Environment:
    """Return the process's environment settings, read once.

    Raises:
        pydantic.ValidationError: If a variable holds a value that is not allowed.
    """
    return Environment()
