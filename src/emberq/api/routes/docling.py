"""`POST /v1/convert/file`: the part of docling-serve's API that its clients need to read a file."""

from __future__ import annotations

import time
from pathlib import PurePath
from typing import Annotated, Any, Final

import anyio.to_thread
from fastapi import APIRouter, Request, Response, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from emberq.api.conversions import authorize, clean_name, convert
from emberq.api.forms.upload import receive_upload
from emberq.api.openapi import form_body
from emberq.api.user_messages import user_message
from emberq.errors import FileError, FileTooLarge, InvalidRequest, ProcessingError
from emberq.store.files.extractions import MAX_EXTRACTED_CHARACTERS, Extraction
from emberq.store.services import get_services

router = APIRouter(tags=["docling"])

#: The supported output formats, and how often the answer contains the text in each. The response lists other
#: formats as errors.
_COPIES: Final = {"md": 1, "text": 1, "json": 2}
_MODULE: Final = "emberq"
#: Most characters between two pages; each page of the answer repeats them.
_BREAK_CHARACTERS: Final = 200
#: The box of a text whose place on the page is not known.
_NO_BOX: Final = {"l": 0.0, "t": 0.0, "r": 0.0, "b": 0.0, "coord_origin": "BOTTOMLEFT"}
_FORM: Final = form_body(
    "files",
    {
        "to_formats": {
            "type": "array",
            "items": {"type": "string"},
            "description": "md (the default), json, text.",
        },
        "md_page_break_placeholder": {
            "type": "string",
            "description": "Text to put between two pages of the Markdown.",
        },
    },
)


class ErrorItem(BaseModel):
    """One error."""

    component_type: str
    module_name: str
    error_message: str


class DocumentOut(BaseModel):
    """The file's text, in each requested format."""

    filename: str
    md_content: str | None = None
    json_content: dict[str, Any] | None = None
    text_content: str | None = None
    html_content: str | None = None
    doctags_content: str | None = None


class ConversionOut(BaseModel):
    """The response; `status` is success, partial_success or failure."""

    document: DocumentOut
    status: str
    errors: list[ErrorItem]
    processing_time: float
    timings: dict[str, Any]


@router.post("/v1/convert/file", response_model=ConversionOut, openapi_extra=_FORM)
async def convert_file(
    request: Request,
    _key: Annotated[str | None, Security(APIKeyHeader(name="X-Api-Key", auto_error=False))],
    _bearer: Annotated[HTTPAuthorizationCredentials | None, Security(HTTPBearer(auto_error=False))],
) -> Response:
    """Read one file; if it cannot be read, `status` is failure and `errors` says why."""
    started = time.perf_counter()
    caller, settings = await authorize(request)
    with get_services().blobs.writer() as writer:
        form = await receive_upload(request, writer, max_bytes=settings.max_file_size, part="files")
        name = clean_name(form.file_name or "") or "document"
        wanted = form.lists.get("to_formats") or ["md"]
        formats = {part.strip().lower() for value in wanted for part in value.split(",")} - {""}
        if not formats & _COPIES.keys():
            raise InvalidRequest(
                "None of the formats in to_formats is supported.", hint="Ask for md, json or text."
            )
        page_break = form.fields.get("md_page_break_placeholder", "")
        if len(page_break) > _BREAK_CHARACTERS:
            raise InvalidRequest(
                f"md_page_break_placeholder: must have at most {_BREAK_CHARACTERS} characters."
            )
        answer = ConversionOut(
            document=DocumentOut(filename=name),
            status="success",
            errors=[
                _error(f"The format {one} is not supported.") for one in sorted(formats - _COPIES.keys())
            ],
            processing_time=0.0,
            timings={},
        )
        try:
            extraction = await convert(request, writer, tenant=caller.tenant, name=name)
            _check_size(extraction, formats, page_break)
        except (FileError, ProcessingError) as exc:
            answer.status = "failure"
            answer.errors = [_error(user_message(exc, name))]
            extraction = None

    def write() -> bytes:
        if extraction is not None:
            answer.status = "partial_success" if answer.errors else "success"
            _fill(answer.document, extraction, formats, page_break)
        answer.processing_time = round(time.perf_counter() - started, 3)
        return answer.model_dump_json().encode()

    return Response(await anyio.to_thread.run_sync(write), media_type="application/json")


def _check_size(extraction: Extraction, formats: set[str], page_break: str) -> None:
    """Check how much text the answer would have.

    Raises:
        FileTooLarge: If it is too much.
    """
    copies = sum(_COPIES[one] for one in formats & _COPIES.keys())
    size = copies * len(extraction.text) + len(page_break) * len(extraction.ranges)
    if size > MAX_EXTRACTED_CHARACTERS:
        raise FileTooLarge(
            f"The answer would have {size:,} characters, more than {MAX_EXTRACTED_CHARACTERS:,}.",
            hint="Ask for one format, or split the file.",
        )


def _error(message: str) -> ErrorItem:
    return ErrorItem(component_type="document_backend", module_name=_MODULE, error_message=message)


def _fill(document: DocumentOut, extraction: Extraction, formats: set[str], page_break: str) -> None:
    if "md" in formats:
        # A document without pages is divided into sections, and no page breaks go between sections.
        gap = f"\n\n{page_break}\n\n" if page_break and extraction.page_count is not None else "\n\n"
        document.md_content = gap.join(page.text for page in extraction.pages())
    if "text" in formats:
        document.text_content = extraction.text
    if "json" in formats:
        document.json_content = _docling_document(document.filename, extraction)


def _docling_document(name: str, extraction: Extraction) -> dict[str, Any]:
    """Return a minimal `DoclingDocument`: one text for each page, with the page's number."""
    pages = list(extraction.pages())
    texts = [
        {
            "self_ref": f"#/texts/{number}",
            "parent": {"$ref": "#/body"},
            "children": [],
            "content_layer": "body",
            "label": "text",
            "prov": [] if page is None else [{"page_no": page, "bbox": _NO_BOX, "charspan": [0, len(text)]}],
            "orig": text,
            "text": text,
        }
        for number, (text, page, _heading) in enumerate(pages)
    ]
    body = {"self_ref": "#/body", "content_layer": "body", "name": "_root_", "label": "unspecified"}
    return {
        "schema_name": "DoclingDocument",
        "version": "1.0.0",
        "name": PurePath(name).stem,
        "origin": {
            "mimetype": extraction.media_type,
            "binary_hash": int(extraction.sha256[:16], 16),
            "filename": name,
        },
        "furniture": {**body, "self_ref": "#/furniture", "content_layer": "furniture", "children": []},
        "body": {**body, "children": [{"$ref": text["self_ref"]} for text in texts]},
        "groups": [],
        "texts": texts,
        "pictures": [],
        "tables": [],
        "key_value_items": [],
        "form_items": [],
        "pages": {
            str(page.page): {"size": {"width": 0.0, "height": 0.0}, "page_no": page.page}
            for page in pages
            if page.page is not None
        },
    }
