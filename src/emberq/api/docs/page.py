"""The routes of the page `/docs` and its files: Swagger UI from its package, and the page from ours."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, Response

router = APIRouter(include_in_schema=False)

#: Only files of this server, no code in the page itself, no frames; data URLs are Swagger UI's icons.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_OWN = __package__
_SWAGGER_UI = "fastapi_swagger.resources"
#: The files by their names in URLs: package, name, media type.
_FILES = {
    "page.css": (_OWN, "page.css", "text/css"),
    "start.js": (_OWN, "start.js", "text/javascript"),
    "swagger-ui.css": (_SWAGGER_UI, "swagger-ui.css", "text/css"),
    "swagger-ui-bundle.js": (_SWAGGER_UI, "swagger-ui-bundle.js", "text/javascript"),
    "favicon.png": (_SWAGGER_UI, "favicon-32x32.png", "image/png"),
}


@router.get("/docs")
def page() -> Response:
    """Show the API's description."""
    return HTMLResponse(_path(_OWN, "page.html").read_bytes(), headers={"Content-Security-Policy": _POLICY})


def _add_file(name: str, package: str, file_name: str, media_type: str) -> None:
    @router.get(f"/docs/{name}")
    def send() -> Response:
        """Send a file of the page."""
        path, headers = _path(package, file_name), {"Cache-Control": "public, max-age=3600"}
        return FileResponse(path, media_type=media_type, headers=headers)


def _path(package: str, name: str) -> Path:
    return Path(str(resources.files(package) / name))


for _name, _file in _FILES.items():
    _add_file(_name, *_file)
