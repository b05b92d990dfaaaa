"""The sample corpus: complete, reproducible, and every question answered where it says."""

from __future__ import annotations

import csv
import email
import email.policy
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path
from typing import NotRequired, TypedDict
from zipfile import ZipFile

import pypdfium2
import pytest
from lxml import etree
from python_calamine import CalamineWorkbook

from tests.harness.paths import CORPUS, EXAMPLES

SOURCES = EXAMPLES / "corpus_sources"

#: The least number of files of each format.
LEAST = {
    ".pdf": 4,
    ".docx": 3,
    ".pptx": 2,
    ".xlsx": 2,
    ".html": 2,
    ".md": 3,
    ".csv": 2,
    ".txt": 3,
    ".eml": 2,
    ".epub": 1,
    ".json": 1,
    ".jsonl": 1,
}

#: Encodings of the text files that are not UTF-8.
ENCODINGS = {
    "bereitschaftsplan-2026.csv": "latin-1",
    "message-queues-explained.txt": "utf-16",
    "minutes-ingestion-pricing-2026-01.txt": "cp1252",
}


class Question(TypedDict):
    question: str
    file: str
    page: int | None
    answer_contains: str
    demo: NotRequired[bool]


FILES = sorted(path.name for path in CORPUS.iterdir())
QUESTIONS: list[Question] = json.loads((EXAMPLES / "questions.json").read_text("utf-8"))


def texts_of_pdf(data: bytes) -> list[str]:
    with pypdfium2.PdfDocument(data) as document:
        # Left to the garbage collector, pages would be closed after their document.
        texts = []
        for page in document:
            content = page.get_textpage()
            texts.append(content.get_text_range())
            content.close()
            page.close()
    return texts


def texts_of_xml(data: bytes, pattern: str) -> list[str]:
    """Return the text of each member of a zip that matches, in the order of the number in its name."""
    with ZipFile(BytesIO(data)) as archive:
        names = [name for name in archive.namelist() if re.fullmatch(pattern, name)]
        names.sort(key=lambda name: int("".join(re.findall(r"\d+", name)) or 0))
        roots = [etree.fromstring(archive.read(name)) for name in names]
    return [" ".join(root.itertext()) for root in roots]


def texts_of_slides(data: bytes) -> list[str]:
    slides = texts_of_xml(data, r"ppt/slides/slide\d+\.xml")
    notes = texts_of_xml(data, r"ppt/notesSlides/notesSlide\d+\.xml")
    return [f"{slide}\n{note}" for slide, note in zip(slides, notes, strict=True)]


def texts_of_sheets(data: bytes) -> list[str]:
    with CalamineWorkbook.from_filelike(BytesIO(data)) as workbook:
        sheets = [workbook.get_sheet_by_name(name).to_python() for name in workbook.sheet_names]
    return ["\n".join(" ".join(str(cell) for cell in row) for row in sheet) for sheet in sheets]


def texts_of_mail(data: bytes) -> list[str]:
    message = email.message_from_bytes(data, policy=email.policy.default)
    return [part.get_content() for part in message.walk() if not part.is_multipart()]


def texts_of_html(data: bytes) -> list[str]:
    return [" ".join(etree.fromstring(data, etree.HTMLParser(encoding="utf-8")).itertext())]


READERS: dict[str, Callable[[bytes], list[str]]] = {
    ".docx": lambda data: texts_of_xml(data, r"word/document\.xml"),
    ".eml": texts_of_mail,
    ".epub": lambda data: texts_of_xml(data, r"book/chapter-\d+\.xhtml"),
    ".html": texts_of_html,
    ".pdf": texts_of_pdf,
    ".pptx": texts_of_slides,
    ".xlsx": texts_of_sheets,
}


def texts_of(name: str) -> list[str]:
    """Return the text of each page, slide, sheet or part, by other means than emberq's own."""
    data = (CORPUS / name).read_bytes()
    reader = READERS.get(Path(name).suffix)
    return reader(data) if reader else [data.decode(ENCODINGS.get(name, "utf-8"))]


def test_the_corpus_has_enough_files_of_every_format() -> None:
    counts = Counter(Path(name).suffix for name in FILES)
    assert len(FILES) >= 28
    assert set(counts) == set(LEAST)
    assert {suffix: counts[suffix] for suffix, least in LEAST.items() if counts[suffix] < least} == {}


def test_the_corpus_is_small() -> None:
    assert sum((CORPUS / name).stat().st_size for name in FILES) < 1_500_000


def test_the_generator_reproduces_the_committed_bytes(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / "make_corpus.py"), "--out", str(tmp_path)]
    # -B: the interpreter would leave __pycache__ beside the sources.
    subprocess.run([command[0], "-B", *command[1:]], check=True, capture_output=True)
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {source.stem for source in SOURCES.glob("*.md")}
    assert [
        name for name in sorted(made) if (tmp_path / name).read_bytes() != (CORPUS / name).read_bytes()
    ] == []


def test_every_binary_format_is_made_from_a_source() -> None:
    made = {source.stem for source in SOURCES.glob("*.md")}
    binary = {name for name in FILES if Path(name).suffix in {".pdf", ".docx", ".pptx", ".xlsx", ".epub"}}
    assert binary <= made <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_document_is_neither_a_snippet_nor_a_tome(name: str) -> None:
    texts = texts_of(name)
    words = len(" ".join(texts).split())
    match Path(name).suffix:
        case ".csv":
            rows = [*csv.reader(StringIO(texts[0]), delimiter=";" if name in ENCODINGS else ",")]
            assert 15 <= len(rows) - 1 <= 60
            assert {len(row) for row in rows} == {len(rows[0])}
        case ".jsonl":
            assert 15 <= len([json.loads(line) for line in texts[0].splitlines()]) <= 60
        case ".xlsx":
            assert len(texts) >= 2
            assert 15 <= sum(len(text.splitlines()) - 1 for text in texts) <= 60
        case ".pdf" | ".epub" | ".pptx":
            assert len(texts) >= 3
            assert 250 <= words <= 900
        case _:
            assert 250 <= words <= 900


def test_files_in_other_encodings_are_in_no_other_than_theirs() -> None:
    for name in ENCODINGS:
        with pytest.raises(UnicodeDecodeError):
            (CORPUS / name).read_bytes().decode("utf-8")
    assert "Zoë Brückner" in texts_of("bereitschaftsplan-2026.csv")[0]
    assert "€49" in texts_of("minutes-ingestion-pricing-2026-01.txt")[0]


def test_the_mail_with_an_attachment_holds_it_whole() -> None:
    data = (CORPUS / "gpu-rental-quote.eml").read_bytes()
    message = email.message_from_bytes(data, policy=email.policy.default)
    (attachment,) = message.iter_attachments()
    assert message["From"].addresses[0].display_name == "Sigrún Jónsdóttir"
    assert attachment.get_filename() == "price-list-2217.csv"
    assert len(attachment.get_content().splitlines()) == 9


def test_every_file_is_asked_about_and_every_question_asks_about_a_file() -> None:
    asked = Counter(question["file"] for question in QUESTIONS)
    assert set(asked) == set(FILES)
    assert min(asked.values()) >= 2
    assert len({question["question"] for question in QUESTIONS}) == len(QUESTIONS)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: str(question["question"]))
def test_the_answer_stands_where_the_question_says(question: Question) -> None:
    texts = texts_of(question["file"])
    page = question["page"]
    assert (page is not None) == (
        Path(question["file"]).suffix in {".pdf", ".pptx", ".xlsx", ".epub", ".eml"}
    )
    assert question["answer_contains"] in texts[(page or 1) - 1]


def test_the_demo_asks_a_later_pdf_page_a_slide_and_a_mail() -> None:
    demo = [question for question in QUESTIONS if question.get("demo")]
    assert sorted(Path(question["file"]).suffix for question in demo) == [".eml", ".pdf", ".pptx"]
    assert next(question["page"] or 0 for question in demo if question["file"].endswith(".pdf")) > 1
