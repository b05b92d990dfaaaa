"""The documentation names only pages, headings, files, functions and Makefile targets that exist."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
CHECK: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "check_pages.py"))
PAGES: list[Path] = CHECK["pages"]()
GENERATORS = sorted((ROOT / "docs").glob("make_*.py"))


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_names_only_what_there_is(page: Path) -> None:
    assert CHECK["broken_links"](page) == []
    assert CHECK["missing_places"](page) == []
    assert CHECK["missing_targets"](page) == []


@pytest.mark.parametrize("generator", GENERATORS, ids=name)
def test_a_generated_page_is_what_the_code_says(generator: Path) -> None:
    script = runpy.run_path(str(generator))
    assert script["PAGE"].read_text(encoding="utf-8") == script["render"](), "run `make docs`"


def test_the_index_lists_every_page() -> None:
    docs = ROOT / "docs"
    index = (docs / "index.md").read_text(encoding="utf-8")
    listed = {page for page in docs.rglob("*.md") if f"]({page.relative_to(docs)})" in index}
    decisions = set((docs / "decisions").glob("*.md")) - {docs / "decisions" / "README.md"}
    assert set(docs.rglob("*.md")) - listed - decisions - {docs / "index.md"} == set()
    assert "](decisions/README.md)" in index


def test_what_does_not_exist_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A heading, twice\n## A heading, twice\n"
        "[here](#a-heading-twice) [and here](#a-heading-twice-1) [gone](#no-heading) [gone](nothing.md)\n"
        "`[no link](in-a-span.md)` [elsewhere](https://example.org/x)\n"
        "`errors/base.py:EmberqError`, `store/jobs/claim.py:no_such_function`, `store/no_such_room/`\n"
        "`resources.py`, `emberq.errors.EmberqError`\n"
        "`emberq.no_such_module`, `make lint`\n`make no-such-target`\n"
        "```console\n$ make test\n$ make nothing-at-all\n$ cat [x](in-a-block.md)\n```\n",
        encoding="utf-8",
    )
    assert CHECK["broken_links"](page) == ["#no-heading", "nothing.md"]
    assert CHECK["missing_places"](page) == [
        "store/jobs/claim.py:no_such_function",
        "store/no_such_room/",
        "src/emberq/__init__.py:no_such_module",
    ]
    assert CHECK["missing_targets"](page) == ["no-such-target", "nothing-at-all"]
