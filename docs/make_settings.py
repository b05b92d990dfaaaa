"""Write docs/reference/settings.md from the code: `python docs/make_settings.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from emberq.config.environment import Environment
from emberq.config.runtime import RuntimeSettings, applies, is_host_wide, is_secret

__all__ = ["PAGE", "render"]

PAGE = Path(__file__).parent / "reference" / "settings.md"

_LIMITS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "maxLength": "≤ {} characters"}

_HEAD = """\
# Settings

Written by `python docs/make_settings.py` from the code; a test keeps it up to date.

## Run-time settings

Changed while emberq runs, by `emberq config set`, the API or the dashboard, for everybody or, with
`--tenant`, for one tenant. [How a change travels](../explanation/configuration.md) tells what happens
then. *Applies* says what a change needs:

- **now**: nothing; the next request uses it.
- **next_job**: every job that starts from now on uses it; a running one keeps what it started with.
- **new_generation**: workers read it when they start, so they are replaced one by one, between jobs.

A *host* setting is read once per host, so a tenant's own value changes nothing. A secret is sealed in the
database and never shown.

| Setting | Default | Allowed | Applies | For | Meaning |
|---|---|---|---|---|---|
"""

_TOGETHER = """
Together: `rag_chunk_overlap` is at most half of `rag_chunk_size`, and `rag_embedding_engine` `openai` needs
`rag_embedding_api_base_url`. A change that would break this, for everybody or for a tenant with values of
its own, is refused; `emberq config set KEY=VALUE KEY=VALUE` changes several at once.

## Environment

Read once when a process starts, also from `.env`; the command line's options come first.

| Variable | Default | Allowed | Meaning |
|---|---|---|---|
"""


def render() -> str:
    """Return the page."""
    return _HEAD + "".join(_runtime_rows()) + _TOGETHER + "".join(_environment_rows())


def _runtime_rows() -> Iterator[str]:
    for key, field in RuntimeSettings.model_fields.items():
        scope = "host" if is_host_wide(key) else "tenant"
        allowed = "secret" if is_secret(key) else _allowed(RuntimeSettings, key)
        yield _row(f"`{key}`", _default(field), allowed, applies(key), scope, field.description)


def _environment_rows() -> Iterator[str]:
    for key, field in Environment.model_fields.items():
        allowed = _allowed(Environment, key)
        yield _row(f"`EMBERQ_{key.upper()}`", _default(field), allowed, field.description)


def _row(*cells: str | None) -> str:
    return "| " + " | ".join((cell or "").replace("|", "\\|") for cell in cells) + " |\n"


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "`~/.local/share/emberq`"
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value in (None, ""):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _allowed(model: type[BaseModel], key: str) -> str:
    schema: dict[str, Any] = model.model_json_schema()["properties"][key]
    kinds = schema.get("anyOf", [schema])
    kind = next(one for one in kinds if one.get("type") != "null")
    if "enum" in kind:
        return ", ".join(f"`{one}`" for one in kind["enum"])
    if kind["type"] == "boolean":
        return "`true`, `false`"
    names = {"integer": "whole number", "number": "number", "string": "text"}
    limits = [text.format(_number(kind[name])) for name, text in _LIMITS.items() if name in kind]
    return ", ".join([names[kind["type"]], *limits])


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
