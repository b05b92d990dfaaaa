"""Run-time settings: names, types, defaults, and when a change of each one is in force.

The CLI, the API, the reference page and the workers all read this model.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic.fields import FieldInfo

from emberq.errors import SettingInvalid
from emberq.outbound.urls import check_url

#: The tenant under which the values for all tenants are stored.
ALL_TENANTS = ""


class Applies(StrEnum):
    """When a changed setting is in force.

    `now`: at the next request. `next_job`: for every job that starts after the change; a running job keeps
    the value that it started with. `new_generation`: workers read the setting when they start, so they are
    replaced one by one, between jobs, by a new generation that is preloaded beside the old one.
    """

    NOW = "now"
    NEXT_JOB = "next_job"
    NEW_GENERATION = "new_generation"


def _setting(
    default: Any,
    description: str,
    *,
    applies: Applies = Applies.NEXT_JOB,
    host_wide: bool = False,
    **limits: Any,
) -> Any:
    """Declare a setting; a `host_wide` setting is read once per host, so a tenant's value has no effect."""
    extra: dict[str, Any] = {"applies": applies.value, "host_wide": host_wide}
    return Field(default, description=description, json_schema_extra=extra, **limits)


class RuntimeSettings(BaseModel):
    """The settings in the table `settings`, changed by the CLI or the API for all tenants or for one."""

    # An error does not contain the value, which may be a secret.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    rag_embedding_engine: Literal["local", "openai"] = _setting(
        "local",
        "Engine that computes the vectors of Open WebUI's own pipeline in a warm worker. emberq's collections"
        " and `/v1/embeddings` use local models only.",
        applies=Applies.NEW_GENERATION,
    )
    rag_embedding_model: str = _setting(
        "all-MiniLM-L6-v2",
        "Embedding model of new collections.",
        applies=Applies.NEW_GENERATION,
        min_length=1,
        max_length=300,
    )
    rag_embedding_api_base_url: str = _setting(
        "",
        "Base URL of the OpenAI-compatible embeddings API that the engine `openai` calls.",
        applies=Applies.NEW_GENERATION,
    )
    rag_embedding_api_key: SecretStr = _setting(SecretStr(""), "API key for that API.")
    rag_embedding_batch_size: int = _setting(
        32, "Largest number of texts embedded in one batch.", ge=1, le=2048
    )
    rag_reranking_model: str = _setting(
        "",
        "Cross-encoder that scores the texts of `/v1/rerank` and reorders search results: a folder with"
        " `model.onnx` and `tokenizer.json`, as a path or as a name in `EMBERQ_MODELS_DIR`. Results are not"
        " reranked if empty.",
        applies=Applies.NEW_GENERATION,
        max_length=300,
    )
    rag_chunk_size: int = _setting(
        200, "Largest size of a chunk, in tokens of the embedding model.", ge=16, le=8192
    )
    rag_chunk_overlap: int = _setting(
        30, "Number of tokens that a chunk shares with the chunk before it.", ge=0, le=4096
    )
    rag_top_k: int = _setting(
        5, "Number of results of a search that does not set `k`.", applies=Applies.NOW, ge=1, le=1000
    )
    rag_hybrid: bool = _setting(True, "Search by vectors and by words together.", applies=Applies.NOW)
    job_timeout: float = _setting(3600.0, "Seconds a job may run.", gt=0, le=7 * 86400)
    job_max_attempts: int = _setting(
        3,
        "Attempts at a file. After the last one the job fails, or is quarantined if it ended its process. The"
        " second attempt that takes too much time or memory is the last one.",
        ge=1,
        le=100,
    )
    job_retry_delay: float = _setting(
        60.0, "Seconds before the first retry; each further delay is twice as long.", ge=0, le=86400
    )
    job_retention: float = _setting(
        7 * 86400.0,
        "Seconds for which ended jobs, tombstones of deleted files and idempotency keys are kept; 0 keeps"
        " them for ever.",
        applies=Applies.NOW,
        host_wide=True,
        ge=0,
        le=100 * 365 * 86400,
    )
    audit_retention: float = _setting(
        365 * 86400.0,
        "Seconds for which the entries of the audit log are kept; 0 keeps them for ever.",
        applies=Applies.NOW,
        host_wide=True,
        ge=0,
        le=100 * 365 * 86400,
    )
    extraction_ttl: float = _setting(
        86400.0,
        "Seconds for which the result of a conversion (`/process`, docling and Tika clients) is kept after"
        " its last use.",
        applies=Applies.NOW,
        host_wide=True,
        ge=60,
        le=365 * 86400,
    )
    embedding_cache_ttl: float = _setting(
        30 * 86400.0,
        "Seconds for which the vector of a text of `/v1/embeddings` is cached after its last use.",
        applies=Applies.NOW,
        host_wide=True,
        ge=60,
        le=100 * 365 * 86400,
    )
    embedding_cache_rows: int = _setting(
        200_000,
        "Largest number of cached vectors, of all tenants together; 0 switches the cache off.",
        applies=Applies.NOW,
        host_wide=True,
        ge=0,
        le=1_000_000_000,
    )
    stall_timeout: float = _setting(
        300.0,
        "Seconds without progress after which a job is ended.",
        applies=Applies.NEW_GENERATION,
        host_wide=True,
        gt=0,
    )
    job_memory_limit: int = _setting(
        0,
        "Bytes of address space a job may add to what its horse has; 0 means no limit.",
        applies=Applies.NEW_GENERATION,
        host_wide=True,
        ge=0,
        le=1 << 50,
    )
    job_cpu_limit: float = _setting(
        0.0,
        "Seconds of processor time a job may use; 0 means no limit.",
        applies=Applies.NEW_GENERATION,
        host_wide=True,
        ge=0,
        le=7 * 86400,
    )
    job_max_processes: int = _setting(
        64,
        "Processes a job may have at once, including its horse; 0 means no limit.",
        applies=Applies.NEW_GENERATION,
        host_wide=True,
        ge=0,
        le=65536,
    )
    max_file_size: int = _setting(
        200 * 1024 * 1024, "Largest size of an upload, in bytes.", applies=Applies.NOW, ge=1, le=1 << 40
    )
    file_budget: float = _setting(
        1.0,
        "Factor of each file's budget: processor time, memory, unpacked bytes, characters and chunks. What a"
        " file gets depends on its type and size.",
        ge=0.1,
        le=100,
    )
    ocr_enabled: bool = _setting(
        True,
        "Read pictures, and pages of PDFs without text, by OCR, where emberq[ocr] is installed.",
    )
    read_hidden: bool = _setting(True, "Read hidden sheets of workbooks and hidden slides too.")
    tenant_weight: float = _setting(
        1.0,
        "Share of a tenant while several tenants have jobs waiting: a tenant with weight 2 gets twice as many"
        " jobs started as a tenant with weight 1.",
        applies=Applies.NOW,
        ge=0.01,
        le=1000,
    )
    tenant_max_processing: int = _setting(
        0,
        "Jobs of a tenant that may be `queued` or `processing` at once; 0 means no limit.",
        applies=Applies.NOW,
        ge=0,
    )
    tenant_max_pending: int = _setting(
        100_000,
        "Jobs of a tenant that may wait at once; further uploads are refused.",
        applies=Applies.NOW,
        ge=1,
    )
    key_max_request_rate: float = _setting(
        2000.0,
        "Requests per second of one API key, to each process of the API; the requests of two seconds may come"
        " at once, and further ones are refused with 429. 0 means no limit.",
        applies=Applies.NOW,
        ge=0,
        le=1_000_000,
    )
    tenant_max_request_rate: float = _setting(
        4000.0,
        "Requests per second of all API keys of a tenant together, as `key_max_request_rate`.",
        applies=Applies.NOW,
        ge=0,
        le=1_000_000,
    )
    key_max_streams: int = _setting(
        100,
        "Event streams that one API key may have open at once in each process of the API.",
        applies=Applies.NOW,
        ge=0,
        le=100_000,
    )
    horse_max_jobs: int = _setting(
        1000,
        "Jobs a horse runs before it is replaced.",
        applies=Applies.NEW_GENERATION,
        host_wide=True,
        ge=1,
    )
    horse_max_memory_growth: int = _setting(
        512 * 1024 * 1024,
        "Bytes by which the private memory of a horse may grow after its first jobs before the horse is"
        " replaced.",
        applies=Applies.NEW_GENERATION,
        host_wide=True,
        ge=1024 * 1024,
    )
    shutdown_grace: float = _setting(
        30.0,
        "Seconds that running jobs get to end when a host is stopped.",
        applies=Applies.NOW,
        host_wide=True,
        ge=0,
        le=86400,
    )
    config_ttl: float = _setting(
        300.0,
        "Seconds for which a process trusts its configuration without a confirmation that it is the newest.",
        applies=Applies.NOW,
        host_wide=True,
        ge=1,
        le=86400,
    )

    @field_validator("rag_embedding_model", "rag_reranking_model", "rag_embedding_api_base_url")
    @classmethod
    def _check_text(cls, value: str) -> str:
        if not value.isprintable():
            msg = "must be one line of printable characters"
            raise ValueError(msg)
        return value

    @field_validator("rag_embedding_api_key")
    @classmethod
    def _check_secret(cls, value: SecretStr) -> SecretStr:
        cls._check_text(value.get_secret_value())
        return value

    @field_validator("rag_embedding_api_base_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        return check_url(value) if value else value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.rag_chunk_overlap * 2 > self.rag_chunk_size:
            msg = "rag_chunk_overlap must be at most half of rag_chunk_size"
            raise ValueError(msg)
        if self.rag_embedding_engine == "openai" and not self.rag_embedding_api_base_url:
            msg = "rag_embedding_engine=openai needs rag_embedding_api_base_url to be set first"
            raise ValueError(msg)
        return self


def _field(key: str) -> FieldInfo:
    try:
        return RuntimeSettings.model_fields[key]
    except KeyError:
        raise SettingInvalid(f"There is no setting named {key!r}.") from None


def require_setting(key: str) -> None:
    """Check that a setting exists.

    Raises:
        SettingInvalid: If there is no setting of this name.
    """
    _field(key)


def _declared(key: str, name: str) -> Any:
    extra = _field(key).json_schema_extra
    return extra[name] if isinstance(extra, dict) else None


def applies(key: str) -> Applies:
    """Return when a change of the setting is in force.

    Raises:
        SettingInvalid: If there is no such setting.
    """
    return Applies(_declared(key, "applies"))


def settings_that_apply(when: Applies) -> list[str]:
    """Return the names of the settings whose change is in force at this point."""
    return [key for key in RuntimeSettings.model_fields if applies(key) is when]


def is_host_wide(key: str) -> bool:
    """Tell whether the setting is read once per host, so that a tenant's value has no effect.

    Raises:
        SettingInvalid: If there is no such setting.
    """
    return bool(_declared(key, "host_wide"))


def is_secret(key: str) -> bool:
    """Tell whether the setting's value is encrypted in the database and never shown.

    Raises:
        SettingInvalid: If there is no such setting.
    """
    return _field(key).annotation is SecretStr
