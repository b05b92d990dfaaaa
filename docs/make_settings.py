"""Write docs/reference/settings.md from the code: `python docs/make_settings.py`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from emberq.config.environment import OTHER_VARIABLES, Environment
from emberq.config.runtime import RuntimeSettings, applies, is_host_wide, is_secret
from emberq.worker.job.policy import HorsePolicy

__all__ = ["PAGE", "render"]

PAGE = Path(__file__).parent / "reference" / "settings.md"

#: Limits of a worker whose default depends on the command.
_UNSET_LIMITS = {"shutdown_grace": "`30.0` with `emberq worker`, no limit with `rq worker`"}

_LIMITS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "maxLength": "≤ {} characters"}

_HEAD = """\
# Settings

Written by `python docs/make_settings.py` from the code; a test keeps it up to date.

## Run-time settings

They can be changed while emberq runs, by `emberq config set` or the API, for all tenants or, with `--tenant`,
for one. [How a change travels](../explanation/configuration.md) explains what happens then. *Applies* says
when a change is in force:

- **now**: at the next request.
- **next_job**: for every job that starts after the change; a running job keeps the value it started with.
- **new_generation**: workers read the setting when they start, so they are replaced one by one, between jobs.

A *host* setting is read once per host, so a tenant's own value has no effect. A secret is encrypted in the
database and never shown.

| Setting | Default | Allowed | Applies | For | Meaning |
|---|---|---|---|---|---|
"""

_TOGETHER = """
Two rules combine settings: `rag_chunk_overlap` is at most half of `rag_chunk_size`, and the
`rag_embedding_engine` `openai` needs `rag_embedding_api_base_url`. A change that breaks a rule, for all
tenants or for a tenant with values of its own, is refused. `emberq config set KEY=VALUE KEY=VALUE` changes
several settings at once.

## Environment

A process reads these variables once, when it starts, also from the file `.env` in its working directory. An
option of the command line takes precedence.

| Variable | Default | Allowed | Meaning |
|---|---|---|---|
"""

_OTHER = """
These are read from the environment only, not from `.env`:

| Variable | Meaning |
|---|---|
"""

_LIMITS_OF_A_HORSE = """
## Limits of workers without the document service

`rq worker -w emberq.WarmWorker` and `emberq worker QUEUE` have no settings table. They read these limits from
the environment; a document worker uses the run-time settings of the same names instead.

| Variable | Default | Meaning |
|---|---|---|
"""


def render() -> str:
    """Return the page."""
    other = (_row(f"`{name}`", meaning) for name, meaning in OTHER_VARIABLES.items())
    parts = [_HEAD, *_runtime_rows(), _TOGETHER, *_environment_rows(), _OTHER, *other]
    return "".join([*parts, _LIMITS_OF_A_HORSE, *_horse_rows()])


def _runtime_rows() -> Iterator[str]:
    for key, field in RuntimeSettings.model_fields.items():
        scope = "host" if is_host_wide(key) else "tenant"
        allowed = "secret" if is_secret(key) else _allowed(RuntimeSettings, key)
        yield _row(f"`{key}`", _default(field), allowed, applies(key), scope, field.description)


def _environment_rows() -> Iterator[str]:
    for key, field in Environment.model_fields.items():
        allowed = _allowed(Environment, key)
        yield _row(f"`EMBERQ_{key.upper()}`", _default(field), allowed, field.description)


def _horse_rows() -> Iterator[str]:
    for field in fields(HorsePolicy):
        meaning = RuntimeSettings.model_fields[field.name].description
        default = f"`{field.default}`" if field.default else _UNSET_LIMITS.get(field.name, "no limit")
        yield _row(f"`EMBERQ_{field.name.upper()}`", default, meaning)


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
