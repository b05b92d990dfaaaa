"""`PUT /tika`, `PUT /rmeta`: the part of Apache Tika's server API that its clients need to read a file."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

import anyio.to_thread
from fastapi import APIRouter, Request, Response, Security
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from python_multipart.multipart import parse_options_header

from emberq.api.conversions import BINARY_BODY, clean_name, convert_body
from emberq.api.plain_errors import PlainErrorRoute
from emberq.store.files.extractions import Extraction

router = APIRouter(tags=["tika"], route_class=PlainErrorRoute)

_Key = Annotated[
    HTTPAuthorizationCredentials | None,
    Security(
        HTTPBearer(
            auto_error=False,
            description="An API key, `eq_…`; or use the address `http://any:KEY@host`.",
        )
    ),
]
#: The name of a file whose sender gives none.
_UNNAMED: Final = "document"


@router.get("/tika", response_class=PlainTextResponse)
def greet() -> PlainTextResponse:
    """Answer with a greeting; clients send this request to see whether a server is there."""
    return PlainTextResponse("This is emberq's Tika-compatible endpoint. Please PUT a file.\n")


@router.put("/tika", response_class=PlainTextResponse, openapi_extra=BINARY_BODY)
async def read_plain(request: Request, _key: _Key) -> Response:
    """Read a file and answer with its text."""
    extraction, _name = await _read(request)
    return PlainTextResponse(extraction.text)


@router.put("/tika/text", response_model=dict[str, Any], openapi_extra=BINARY_BODY)
async def read_text(request: Request, _key: _Key) -> Response:
    """Read a file and answer with its text as `X-TIKA:content`."""
    return await _answer_json(request, "X-TIKA:content", in_list=False)


@router.put("/tika/json/md", response_model=dict[str, Any], openapi_extra=BINARY_BODY)
async def read_markdown(request: Request, _key: _Key) -> Response:
    """Read a file and answer with its text as `tk:content`, the field's name in Tika 4."""
    return await _answer_json(request, "tk:content", in_list=False)


@router.put("/rmeta/text", response_model=list[dict[str, Any]], openapi_extra=BINARY_BODY)
async def read_recursively(request: Request, _key: _Key) -> Response:
    """Read a file and answer with a list of one item; the text of attachments is part of its text."""
    return await _answer_json(request, "X-TIKA:content", in_list=True)


async def _answer_json(request: Request, content_key: str, *, in_list: bool) -> Response:
    extraction, name = await _read(request)

    def write() -> bytes:
        fields: dict[str, Any] = {"Content-Type": extraction.media_type, "resourceName": name}
        if extraction.page_count is not None:
            fields["xmpTPg:NPages"] = str(extraction.page_count)
        fields[content_key] = extraction.text
        return json.dumps([fields] if in_list else fields, ensure_ascii=False).encode()

    return Response(await anyio.to_thread.run_sync(write), media_type="application/json")


async def _read(request: Request) -> tuple[Extraction, str]:
    _kind, options = parse_options_header(request.headers.get("content-disposition", ""))
    name = clean_name(options.get(b"filename", b"").decode("utf-8", "replace"))
    request.state.file_name = name or None
    return await convert_body(request, name=name or _UNNAMED), name or _UNNAMED
