"""The page `/docs`: complete without another server, and with a policy that allows no other."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient

from emberq.api.docs.page import router
from emberq.api.door.headers import SecurityHeaders


@pytest.fixture
def client() -> TestClient:
    app = FastAPI(docs_url=None, redoc_url=None)
    app.include_router(router)

    @app.get("/plain")
    def plain() -> PlainTextResponse:
        return PlainTextResponse("plain")

    app.add_middleware(SecurityHeaders)
    return TestClient(app)


class Page(HTMLParser):
    """Collects what a page loads, and whether it has code or styles of its own."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self._inside = tag
        self.inline += [name for name in found if name.startswith("on") or name == "style"]
        target = found.get("src") or (found.get("href") if tag == "link" else None)
        if target:
            self.loads.append(target)

    def handle_data(self, data: str) -> None:
        if self._inside in ("script", "style") and data.strip():
            self.inline.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def test_the_page_loads_files_of_this_server_only(client: TestClient) -> None:
    page = Page(client.get("/docs").text)
    assert len(page.loads) == 5
    for target in page.loads:
        assert not re.match(r"[a-z]+:|/", target)
        answer = client.get(f"/{target}")
        assert answer.status_code == 200
        assert answer.content
    assert "SwaggerUIBundle" in client.get("/docs/swagger-ui-bundle.js").text


def test_the_page_has_no_code_in_itself_and_may_not_have_any(client: TestClient) -> None:
    answer = client.get("/docs")
    assert Page(answer.text).inline == []
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("path", ["/docs", "/docs/start.js", "/plain", "/nothing-here"])
def test_every_answer_tells_browsers_to_guess_and_frame_nothing(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    "name", ["page.html", "page.py", "..%2fpage.py", "%2e%2e/app.py", "swagger-ui.css%00"]
)
def test_no_other_file_is_sent(client: TestClient, name: str) -> None:
    assert client.get(f"/docs/{name}").status_code >= 400
