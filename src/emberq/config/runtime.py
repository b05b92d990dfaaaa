"""The run-time settings: names, types, defaults, and what a change of each one needs.

One source: the CLI, the API, the reference page and the workers all read this model.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo

from emberq.errors import SettingInvalid

__all__ = ["Applies", "RuntimeSettings", "applies", "is_secret", "setting_fields", "validate_setting"]


class Applies(StrEnum):
    """What it takes until a changed setting is in force."""

    NOW = "now"
    NEXT_JOB = "next_job"
    NEW_GENERATION = "new_generation"


def _setting(default: Any, description: str, *, applies: Applies = Applies.NEXT_JOB, **limits: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"applies": applies.value}, **limits)


class RuntimeSettings(BaseModel):
    """Settings kept in the table `settings`, changed by CLI, API or dashboard, per tenant or for all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rag_embedding_engine: Literal["local", "openai"] = _setting(
        "local", "Where vectors are made.", applies=Applies.NEW_GENERATION
    )
    rag_embedding_model: str = _setting(
        "all-MiniLM-L6-v2",
        "Embedding model of new collections.",
        applies=Applies.NEW_GENERATION,
        min_length=1,
        max_length=300,
    )
    rag_embedding_api_base_url: str = _setting(
        "", "Base URL of an OpenAI-compatible embeddings API.", applies=Applies.NEW_GENERATION
    )
    rag_embedding_api_key: SecretStr = _setting(SecretStr(""), "Key of that API.")
    rag_embedding_batch_size: int = _setting(32, "Most texts embedded in one batch.", ge=1, le=2048)
    rag_reranking_model: str = _setting(
        "", "Cross-encoder that reorders search results; none if empty.", applies=Applies.NEW_GENERATION
    )
    rag_chunk_size: int = _setting(200, "Longest chunk, in tokens of the embedding model.", ge=16, le=8192)
    rag_chunk_overlap: int = _setting(30, "Tokens a chunk shares with the one before it.", ge=0, le=4096)
    rag_top_k: int = _setting(5, "Results of a search that names no k.", applies=Applies.NOW, ge=1, le=1000)
    rag_hybrid: bool = _setting(True, "Search by vectors and words together.", applies=Applies.NOW)
    job_timeout: float = _setting(3600.0, "Seconds a job may run.", gt=0, le=7 * 86400)
    job_max_attempts: int = _setting(3, "Deliveries before a file is quarantined.", ge=1, le=100)
    job_retry_delay: float = _setting(
        60.0, "Seconds before the first retry; doubles each time.", ge=0, le=86400
    )
    stall_timeout: float = _setting(300.0, "Seconds without progress before a job is ended.", gt=0)
    max_file_size: int = _setting(
        200 * 1024 * 1024, "Largest upload, in bytes.", applies=Applies.NOW, ge=1, le=1 << 40
    )
    tenant_weight: float = _setting(
        1.0,
        "A tenant's share when several have jobs waiting: 2 runs twice as many as 1.",
        applies=Applies.NOW,
        ge=0.01,
        le=1000,
    )
    tenant_max_processing: int = _setting(
        0, "Most jobs of a tenant at work or next in line at once; 0 is no limit.", applies=Applies.NOW, ge=0
    )
    tenant_max_pending: int = _setting(
        100_000, "Most jobs of a tenant that wait; more are refused.", applies=Applies.NOW, ge=1
    )
    horse_max_jobs: int = _setting(1000, "Jobs a horse runs before it is replaced.", ge=1)
    horse_max_memory_growth: int = _setting(
        512 * 1024 * 1024, "Private bytes a horse may grow over its baseline.", ge=1024 * 1024
    )
    config_ttl: float = _setting(300.0, "Seconds a cached configuration is trusted at most.", ge=1)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.rag_chunk_overlap * 2 > self.rag_chunk_size:
            msg = "rag_chunk_overlap must be at most half of rag_chunk_size"
            raise ValueError(msg)
        if self.rag_embedding_engine == "openai" and not self.rag_embedding_api_base_url:
            msg = "rag_embedding_engine=openai needs rag_embedding_api_base_url to be set first"
            raise ValueError(msg)
        return self


def setting_fields() -> dict[str, FieldInfo]:
    """Return every setting's field by its name."""
    return dict(RuntimeSettings.model_fields)


def _field(key: str) -> FieldInfo:
    try:
        return RuntimeSettings.model_fields[key]
    except KeyError:
        raise SettingInvalid(f"There is no setting named {key!r}.") from None


def applies(key: str) -> Applies:
    """Return what a change of the setting needs to be in force.

    Raises:
        SettingInvalid: If there is no such setting.
    """
    extra = _field(key).json_schema_extra
    return Applies(str(extra["applies"])) if isinstance(extra, dict) else Applies.NEXT_JOB


def is_secret(key: str) -> bool:
    """Tell whether the setting's value is sealed in the database and never shown.

    Raises:
        SettingInvalid: If there is no such setting.
    """
    return _field(key).annotation is SecretStr


def validate_setting(key: str, value: Any, current: RuntimeSettings) -> Any:
    """Check one new value, together with the settings in force.

    Args:
        key: The setting's name.
        value: The new value; numbers and booleans may come as text.
        current: The settings it would join.

    Returns:
        The value in its own type; a secret as plain text, to be sealed by the caller.

    Raises:
        SettingInvalid: If there is no such setting, or the value is not allowed; says why.
    """
    _field(key)
    merged = {**{name: getattr(current, name) for name in RuntimeSettings.model_fields}, key: value}
    try:
        checked = getattr(RuntimeSettings.model_validate(merged), key)
    except ValidationError as exc:
        reasons = "; ".join(error["msg"].removeprefix("Value error, ") for error in exc.errors())
        raise SettingInvalid(f"{key}: {reasons}.") from None
    return checked.get_secret_value() if isinstance(checked, SecretStr) else checked
