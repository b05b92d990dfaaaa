"""Parts of the OpenAPI document that FastAPI cannot derive from a route's parameters."""

from __future__ import annotations

from typing import Any, NamedTuple

_BINARY = {"type": "string", "format": "binary"}


def request_body(media_type: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the description of a request's body; without a schema, the body is a file."""
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema or _BINARY}}}}


def form_body(file_part: str, fields: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the description of a multipart form with one file and optional fields.

    Args:
        file_part: The name of the file's part.
        fields: The schemas of the fields, by name.
    """
    schema = {"type": "object", "required": [file_part], "properties": {file_part: _BINARY, **fields}}
    return request_body("multipart/form-data", schema)


class ErrorBody(NamedTuple):
    """What an error response looks like."""

    description: str
    media_type: str
    schema: dict[str, Any]
