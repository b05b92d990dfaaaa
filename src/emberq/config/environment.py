"""Environment variables (`EMBERQ_*`, also from `.env`): the settings of a process, read once at its start."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from emberq.outbound.addresses import AllowedTargets
from emberq.visible import visible

#: Variables that are read outside `Environment`: model files are found and downloaded without any settings,
#: and a host names itself to its own children.
OTHER_VARIABLES: Final = {
    "EMBERQ_MODELS_DIR": "Folder of the downloaded models; `$XDG_CACHE_HOME/emberq/models` if unset,"
    " by default `~/.cache/emberq/models`.",
    "EMBERQ_OFFLINE": "`1` forbids the download of models; `HF_HUB_OFFLINE` does the same.",
    "EMBERQ_SECRETS_DIR": "Folder of files that are named as these variables and hold their values, such as"
    " `/run/secrets/EMBERQ_SECRET_KEY`; `/run/secrets` if unset. A variable that is set takes precedence.",
    "EMBERQ_HOST_ID": "Do not set it: the document service sets it for its workers, to the id of the host.",
}


#: Where containers find their secrets as files.
_SECRETS_DIR = "/run/secrets"


#: The variables that contain secrets, and those of URLs, which may.
SECRET_VARIABLES: Final = frozenset(
    {
        "EMBERQ_API_KEY",
        "EMBERQ_DATABASE_URL",
        "EMBERQ_OPENWEBUI_API_KEY",
        "EMBERQ_OPENWEBUI_EMAIL",
        "EMBERQ_OPENWEBUI_JWT_SECRET",
        "EMBERQ_OPENWEBUI_PASSWORD",
        "EMBERQ_REDIS_URL",
        "EMBERQ_SECRET_KEY",
    }
)


def default_data_dir() -> Path:
    """Return `$XDG_DATA_HOME/emberq`; `~/.local/share/emberq` if that variable is unset."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "emberq"


def check_http_url(url: str) -> None:
    """Refuse what is not the address of an HTTP server.

    Raises:
        ValueError: With what is wrong, in words.
    """
    if not url.isprintable() or " " in url:
        raise ValueError(f"{visible(url)!r} has a space or a control character")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        # Not only long or empty labels: a name that cannot be encoded would break the look-up.
        host.encode("idna")
    except ValueError as exc:
        raise ValueError(f"{url!r} is not a URL: {exc}") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ValueError(f"{url!r} is not the URL of a server, such as http://127.0.0.1:8040")
    if parts.query or parts.fragment:
        raise ValueError(f"{url!r} has a query or a fragment; give only the server's address")


class Environment(BaseSettings):
    """The settings of a process; each field is read from `EMBERQ_` plus its name in upper case."""

    model_config = SettingsConfigDict(
        env_prefix="EMBERQ_", env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True
    )

    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Folder of the stored files and of the embedded PostgreSQL and Valkey.",
    )
    redis_url: str | None = Field(
        None, description="URL of Redis or Valkey; an embedded Valkey is started if unset."
    )
    database_url: SecretStr | None = Field(
        None,
        description="URL of PostgreSQL 15 or newer with pgvector; an embedded one is started if unset.",
    )
    blob_url: str | None = Field(
        None,
        description="Folder of the bytes of uploaded files, as `file:///path`; a folder in `EMBERQ_DATA_DIR`"
        " if unset.",
    )
    secret_key: SecretStr | None = Field(
        None,
        description="Fernet key that encrypts secret settings in the database; several keys are"
        " separated by commas, the newest first. If unset, a key is made and kept in `EMBERQ_DATA_DIR`.",
    )
    workers: int = Field(2, ge=1, le=512, description="Worker slots of `emberq up` and `emberq worker`.")
    host: str = Field("127.0.0.1", description="Address on which the API and the metrics listen.")
    port: int = Field(8040, ge=0, le=65535, description="Port of the API; 0 takes a free port.")
    log_format: Literal["json", "console"] = Field(
        "console", description="`json` writes one JSON object per line, `console` text for people."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The lowest severity that is logged."
    )
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port of each host's `/metrics`; 0 takes a free port. No port is opened if unset.",
    )
    metrics_key: SecretStr | None = Field(
        None,
        description="Key that `/metrics` of the API asks for, as `Authorization: Bearer`. If unset, everyone"
        " who reaches the API reads the sums of all tenants there.",
    )
    metrics_dir: Path | None = Field(
        None,
        description="Folder in which all processes of a host count their metrics; if unset, each supervisor"
        " makes its own.",
    )
    sandbox: Literal["auto", "require"] = Field(
        "auto",
        description="`require` refuses to start document workers where the system cannot fully confine the"
        " processes that read files: with Landlock, a seccomp filter and, as root, a user id of their own."
        " `auto` uses what there is and logs what is missing.",
    )
    url: str = Field("http://127.0.0.1:8040", description="URL of the API that the command line calls.")
    api_key: SecretStr | None = Field(
        None,
        description="API key that the command line sends. If unset, an API on this machine is sent the first"
        " key of `EMBERQ_DATA_DIR`.",
    )
    openwebui_url: str = Field(
        "http://127.0.0.1:8080", description="URL of the Open WebUI that `emberq openwebui` calls."
    )
    openwebui_api_key: SecretStr | None = Field(
        None, description="API key or session token of Open WebUI that `emberq openwebui` sends."
    )
    openwebui_email: str | None = Field(
        None, description="Account of Open WebUI that `emberq openwebui` signs in with if there is no key."
    )
    openwebui_password: SecretStr | None = Field(None, description="Password of that account.")
    allow: str | None = Field(
        None,
        description="Functions that RQ jobs and their callbacks may name: dotted names, with commas between"
        " them; `my_package.tasks.*` stands for all that this module defines. If unset, workers of documents"
        " run those of emberq only, and workers of other queues all, as RQ's do.",
    )
    preload: str | None = Field(
        None,
        description="Modules whose resources workers load before they fork: dotted names, with commas"
        " between them.",
    )
    openwebui_jwt_secret: SecretStr | None = Field(
        None,
        description="Secret with which Open WebUI signs its users' data (its"
        " `FORWARD_USER_INFO_HEADER_JWT_SECRET`). If set, a request with a wrong signature is refused.",
    )
    max_connections_per_address: int = Field(
        10_000,
        ge=1,
        description="Connections of one address to the API at once. Behind a proxy, all clients have the"
        " proxy's address.",
    )
    allowed_models: str | None = Field(
        None,
        description="Embedding models that requests and new collections may name, with commas between them;"
        " if unset, those that were downloaded. The model of the settings is always allowed.",
    )
    embedding_threads: int = Field(
        0,
        ge=0,
        le=256,
        description="Threads of the API that embed the texts of `/v1/embeddings`; 0 means one thread for"
        " every second processor. Search queries and reranking have one thread each in addition.",
    )
    db_pool_size: int = Field(
        4,
        ge=1,
        le=64,
        description="Connections to PostgreSQL that each process keeps open; under load it opens as many"
        " again.",
    )
    outbound_allow_private: str = Field(
        "",
        description="Servers without a public address that tenants' embedding settings and redirects may"
        " lead to: `true` for all private networks, or networks (`10.2.0.0/16`), addresses and host names,"
        " with commas between them. None if unset.",
    )

    @property
    def outbound_targets(self) -> AllowedTargets:
        """The targets of outgoing requests that are allowed besides public addresses."""
        return AllowedTargets.parse(self.outbound_allow_private)

    @field_validator("outbound_allow_private", mode="after")
    @classmethod
    def _check_targets(cls, value: str) -> str:
        AllowedTargets.parse(value)
        return value

    @field_validator("url", "openwebui_url", mode="after")
    @classmethod
    def _check_url(cls, value: str) -> str:
        check_http_url(value)
        return value

    @field_validator("database_url", mode="before")
    @classmethod
    def _use_psycopg(cls, value: object) -> object:
        """Select the psycopg 3 driver for URLs that begin with `postgres://` or `postgresql://`."""
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
    """Return the settings of this process; the first call reads the environment.

    Raises:
        pydantic.ValidationError: If a variable holds a value that is not allowed.
    """
    secrets = Path(os.environ.get("EMBERQ_SECRETS_DIR", _SECRETS_DIR))
    # A folder that does not exist would be warned of.
    return Environment(_secrets_dir=secrets if secrets.is_dir() else None)
