"""ARCHITECTURE.md and the glossary answer what they promise; that their names exist is for test_pages."""

from __future__ import annotations

import re
import tomllib
from collections import Counter

import pytest

from tests.harness.paths import DOCS, ROOT

ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
GLOSSARY = (DOCS / "reference" / "glossary.md").read_text(encoding="utf-8")
#: What a reader who knows RQ and PostgreSQL looks for first.
QUESTIONS = (
    "a horse forked",
    "it decided that a horse is replaced",
    "a job claimed",
    "the fence checked",
    "a dead host's jobs taken over",
    "a tenant's turn decided",
    "a PDF read",
    "its child process confined",
    "chunks cut",
    "vectors made",
    "they committed",
    "a search answered",
    "a setting's change heard",
    "Open WebUI's function replaced",
)
ENTRY = re.compile(r"- \*\*(.+?)\*\*: (.+?[.:]?) (`[^`]+`)")


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_architecture_says_where_it_is(question: str) -> None:
    [answer] = re.findall(rf"^\| Where (?:is|are) {question}\? \| (.+) \|$", ARCHITECTURE, re.MULTILINE)
    assert re.search(r"`[\w/]+\.py(:[\w.]+)?`", answer)


def test_the_rooms_are_those_that_the_import_contracts_hold() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = pyproject["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    table = ARCHITECTURE.partition("## Rooms")[2].partition("\n## ")[0]
    rooms = [
        re.findall(r"`([\w./]+?)(?:/|\.py)`", line.split("|")[1])
        for line in table.splitlines()
        if "| `" in line
    ]
    assert [set(row) for row in rooms] == [set(line.split(" | ")) for line in layers]


def test_modules_and_folders_stay_small() -> None:
    sources = list((ROOT / "src").rglob("*.py"))
    long = [path for path in sources if len(path.read_text(encoding="utf-8").splitlines()) > 400]
    assert long == []
    files = Counter(path.parent for path in sources)
    assert [folder for folder, count in files.items() if count > 15] == []


def test_every_process_title_is_in_the_architecture() -> None:
    told = set(re.findall(r"^\| `emberq: (\w+)", ARCHITECTURE, re.MULTILINE))
    set_in_code = {
        word
        for path in (ROOT / "src").rglob("*.py")
        for call in re.findall(r"set_process_title\((.+)\)", path.read_text(encoding="utf-8"))
        for word in re.findall(r"""["'](\w+)""", call)
    }
    # The preloader titles a child by its role, which it is told.
    assert set_in_code <= told
    assert told - set_in_code <= {"api", "metrics"}


def test_a_term_is_one_sentence_with_its_place() -> None:
    lines = [line for line in GLOSSARY.splitlines() if line.startswith("- ")]
    entries = [ENTRY.fullmatch(line) for line in lines]
    assert [line for line, entry in zip(lines, entries, strict=True) if entry is None] == []
    terms = [entry[1] for entry in entries if entry]
    assert len(set(terms)) == len(terms) > 50
    for entry in entries:
        assert entry is not None
        assert entry[2].endswith("."), entry[1]
        assert ". " not in entry[2], entry[1]


def test_the_terms_of_a_section_are_in_alphabetical_order() -> None:
    for section in GLOSSARY.split("\n## ")[1:]:
        terms = [term.lower() for term in re.findall(r"^- \*\*(.+?)\*\*", section, re.MULTILINE)]
        assert terms == sorted(terms), section.partition("\n")[0]
