"""`PUT /process`: emberq as Open WebUI's external document loader."""

from __future__ import annotations

import json
import mimetypes
import re
from typing import Annotated, Any, Final
from urllib.parse import unquote

import anyio.to_thread
from fastapi import APIRouter, Request, Response, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from emberq.api.conversions import BINARY_BODY, clean_name, convert_body
from emberq.api.plain_errors import PlainErrorRoute
from emberq.openwebui.api.users import user_of
from emberq.store.files.extractions import Extraction
from emberq.store.services import get_services

router = APIRouter(tags=["open webui"], route_class=PlainErrorRoute)

_Key = Annotated[
    HTTPAuthorizationCredentials | None,
    Security(HTTPBearer(auto_error=False, description="An API key, `eq_…`.")),
]

#: Prefix that Open WebUI adds to the name of an uploaded file: its own file id.
_FILE_ID: Final = re.compile(r"([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})_(?=.)", re.IGNORECASE)
#: The name of a file that is sent without a name.
_UNNAMED: Final = "document"
_BODY: Final = {
    **BINARY_BODY,
    "parameters": [
        {
            "name": "X-Filename",
            "in": "header",
            "description": "The file's name, percent-encoded.",
            "schema": {"type": "string"},
        }
    ],
}


class PageOut(BaseModel):
    """A page or section of a file."""

    page_content: str
    #: `page` from 0 and `total_pages` if the format has pages, `heading`, `media_type`.
    metadata: dict[str, Any]


@router.put("/process", response_model=list[PageOut], openapi_extra=_BODY)
async def process(request: Request, _key: _Key) -> Response:
    """Convert a file and answer with its pages or sections as Markdown, once the conversion has ended."""
    name, file_id = _read_name(request)
    request.state.file_name = name
    secret = get_services().environment.openwebui_jwt_secret
    user = user_of(request.headers, secret.get_secret_value() if secret else None)
    metadata = {"openwebui_file_id": file_id, "openwebui_user": user}
    extraction = await convert_body(
        request, name=name, metadata={key: value for key, value in metadata.items() if value}
    )
    body = await anyio.to_thread.run_sync(_serialize, extraction)
    return Response(body, media_type="application/json")


def _read_name(request: Request) -> tuple[str, str | None]:
    """Return the file's name, and Open WebUI's file id if it was sent."""
    sent = clean_name(unquote(request.headers.get("x-filename", "")))
    prefix = _FILE_ID.match(sent)
    if prefix:
        return sent[prefix.end() :], prefix[1].lower()
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    return sent or _UNNAMED + (mimetypes.guess_extension(kind) or ""), None


def _serialize(extraction: Extraction) -> bytes:
    """Return the answer's JSON; slow for a large file."""
    pages = []
    for text, page, heading in extraction.pages():
        metadata: dict[str, Any] = {"media_type": extraction.media_type}
        if heading:
            metadata["heading"] = heading
        if page is not None:
            metadata |= {"page": page - 1, "total_pages": extraction.page_count}
        pages.append({"page_content": text, "metadata": metadata})
    return json.dumps(pages, ensure_ascii=False).encode()
