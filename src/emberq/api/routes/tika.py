"""`PUT /tika` and its kin: emberq in the place of an Apache Tika server, for programs that know that one."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

import anyio.to_thread
from fastapi import APIRouter, Request, Response, Security
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from python_multipart.multipart import parse_options_header

from emberq.api.conversions import accept, clean_name, convert, receive_body
from emberq.api.plain_errors import PLAIN_RESPONSES, PlainRoute
from emberq.store.files.extractions import Extraction
from emberq.store.services import get_services

__all__ = ["router"]

router = APIRouter(tags=["tika"], route_class=PlainRoute, responses=PLAIN_RESPONSES)

_Key = Annotated[
    HTTPAuthorizationCredentials | None,
    Security(
        HTTPBearer(auto_error=False, description="An API key; or `http://any:KEY@host` as the address.")
    ),
]
_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.get("/tika", response_class=PlainTextResponse)
def greet() -> PlainTextResponse:
    """Say that somebody is here; clients ask before they send anything."""
    return PlainTextResponse("This is emberq's Tika-compatible endpoint. Please PUT a file.\n")


@router.put("/tika", response_class=PlainTextResponse, openapi_extra=_BODY)
async def read_plain(request: Request, _key: _Key) -> Response:
    """Read a file and answer with its text."""
    extraction, _name = await _read(request)
    return PlainTextResponse(extraction.text)


@router.put("/tika/text", response_model=dict[str, Any], openapi_extra=_BODY)
async def read_text(request: Request, _key: _Key) -> Response:
    """Read a file and answer with its text as `X-TIKA:content`."""
    return await _answer(request, "X-TIKA:content", in_list=False)


@router.put("/tika/json/md", response_model=dict[str, Any], openapi_extra=_BODY)
async def read_markdown(request: Request, _key: _Key) -> Response:
    """Read a file and answer with its text as `tk:content`, as version 4 names it."""
    return await _answer(request, "tk:content", in_list=False)


@router.put("/rmeta/text", response_model=list[dict[str, Any]], openapi_extra=_BODY)
async def read_recursively(request: Request, _key: _Key) -> Response:
    """Read a file and answer with a list; what it contains, such as attachments, is part of its text."""
    return await _answer(request, "X-TIKA:content", in_list=True)


async def _answer(request: Request, content_key: str, *, in_list: bool) -> Response:
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
    caller, settings = await accept(request)
    with get_services().blobs.writer() as writer:
        await receive_body(request, writer, max_bytes=settings.max_file_size)
        extraction = await convert(request, writer, tenant=caller.tenant, name=name or "document")
    return extraction, name or "document"
