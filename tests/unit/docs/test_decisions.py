"""The decisions are numbered without holes, and every reference to one leads to it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
TEXTS = [
    path
    for folder in ("src", "docs", "tests", "bench", "deploy", "examples/any-rq-job", ".")
    for path in (ROOT / folder).glob("*" if folder == "." else "**/*")
    if path.suffix in {".py", ".md", ".toml", ".txt", ".yaml", ".sh"} or path.name == "Makefile"
]
#: A decision's file, as a path or as a link.
FILE = re.compile(r"\b(\d{4}-[a-z][a-z0-9-]*\.md)\b")
#: A decision by its number: only as the text of a link to it, since numbers may change.
NUMBER = re.compile(r"\b[Dd]ecisions? \d+\b")
LINKED = re.compile(r"\[decision (\d+)\]\([^)]*?(\d{4})-[a-z0-9-]+\.md\)")


def test_the_numbers_have_no_holes() -> None:
    assert [path.name[:4] for path in DECISIONS] == [f"{n:04}" for n in range(1, len(DECISIONS) + 1)]
    for number, path in enumerate(DECISIONS, 1):
        assert path.read_text(encoding="utf-8").startswith(f"# {number}. "), path.name


def test_every_reference_leads_to_a_decision() -> None:
    known = {path.name for path in DECISIONS}
    this = Path(__file__)
    dead = [
        (str(path.relative_to(ROOT)), name)
        for path in TEXTS
        if path != this
        for name in FILE.findall(path.read_text(encoding="utf-8"))
        if name not in known and "decisions" in path.read_text(encoding="utf-8")
    ]
    assert dead == []


def test_a_decision_is_named_by_number_only_in_a_link_to_it() -> None:
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        assert [pair for pair in LINKED.findall(text) if int(pair[0]) != int(pair[1])] == [], path
        assert NUMBER.findall(LINKED.sub("", text)) == [], path
