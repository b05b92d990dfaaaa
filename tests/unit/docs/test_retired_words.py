"""Words that emberq retired stay out of `src/` and `docs/`; the changelog may tell of them.

The field has a term for each of them: see the glossary. Ordinary English passes where a rule can tell it
apart: "a stable code" is no stable, and `client.post` no post.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.paths import DOCS, ROOT

#: Refused as a part of an identifier: of `hold_blob`, `StableHorse` or `job.rehearsal`.
IDENTIFIERS = re.compile(
    r"saddles?|bur(?:y|ies|ied)|crews?|frugal|holdings?|surroundings|seams?|riders?|lanes?|rings?|rung|bells?"
    r"|patiently|stables?|posts|rehears\w*|keepers?|recipes?|triage"
)
#: Refused besides as a part of a class's or a module's name; in `_leaving` they are ordinary.
TERMS = re.compile(r"brings?|leaving|watched")
#: Refused as a whole identifier.
NAMES = {"see_one_moment", "hold_blob"}
#: Refused in docstrings, comments, messages and pages.
PROSE = re.compile(
    r"""\b(?:
      saddl\w* | bur(?:y|ies|ied|ying) | crews? | frugal | holdings | surroundings | seams? | riders? | lanes?
    | patiently | rehears\w* | keepers?
    | rings? | ringing | rung | rang | bells? | posts?
    | whoever | nobody | somebody | ones?\ that
    | (?:give|gives|gave|given|giving)(?:\ \w+){0,3}?\ back
    )\b
    # The place where horses are kept, not what does not change: followed by no noun.
    | \b(?:the|a|this|its|each|every|one)\ stables?
      (?= 's | [.,;:)] | \ (?:of|for|that|which|has|is|and|or|in|to|with)\b )
    """,
    re.VERBOSE | re.IGNORECASE,
)
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PAGES = sorted(DOCS.rglob("*.md")) + sorted(ROOT.glob("*.md"))
CHECKED = [path for path in (*SOURCES, *PAGES) if path.name != "CHANGELOG.md"]

_FENCE = re.compile(r"^ *(```|~~~).*?^ *\1", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`+[^`]+`+")
_METHOD = re.compile(r"\b(?:POST|Post)\b")


def parts(identifier: str) -> list[str]:
    """Return the words of a snake_case or CamelCase identifier, in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", identifier)]


def retired_in_identifier(identifier: str, *, is_term: bool = False) -> Iterator[str]:
    patterns = [IDENTIFIERS, TERMS] if is_term else [IDENTIFIERS]
    words = parts(identifier)
    if identifier in NAMES or any(pattern.fullmatch(word) for pattern in patterns for word in words):
        yield identifier


def retired_in_prose(text: str) -> Iterator[str]:
    """Yield the retired words of a text; its code spans are identifiers, test ids aside."""
    for span in _SPAN.findall(text):
        if "::" not in span:
            for identifier in re.findall(r"[A-Za-z_]\w*", span):
                yield from retired_in_identifier(identifier)
    prose = re.sub(r"\s+", " ", _METHOD.sub("", _SPAN.sub("`…`", text)))
    yield from (match[0] for match in PROSE.finditer(prose))


def retired_in_source(text: str) -> Iterator[str]:
    comments: list[str] = []
    previous = ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments.append(token.string.lstrip("#: "))
        elif token.type == tokenize.NAME:
            yield from retired_in_identifier(token.string, is_term=previous == "class")
        elif token.type == tokenize.STRING or tokenize.tok_name[token.type] == "FSTRING_MIDDLE":
            # A name of something, such as an event of the log, or a sentence.
            words = re.sub(r"^[A-Za-z]*[\"']+|[\"']+$", "", token.string)
            yield from retired_in_prose(words) if " " in words else retired_in_prose(f"`{words}`")
        previous = token.string
    # Sentences go on in the next line.
    yield from retired_in_prose(" ".join(comments))


def retired_in_file(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return [*retired_in_identifier(path.stem, is_term=True), *retired_in_source(text)]
    return [*retired_in_identifier(path.stem.replace("-", "_")), *retired_in_prose(_FENCE.sub("", text))]


@pytest.mark.parametrize("path", CHECKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_retired_word_is_used(path: Path) -> None:
    assert retired_in_file(path) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from emberq.worker.stable import Stable\n", ["stable", "Stable"]),
        ("saddled = worker_crew = self._surroundings\n", ["worker_crew", "_surroundings"]),
        ("class LeavingWorker:\n    '''Ends its worker.'''\n", ["LeavingWorker"]),
        ('log.info("rehearsal_failed")\n', ["rehearsal_failed"]),
        ("'''Ask the keeper.'''\n# Who rings the\n# bell gives the job back to nobody.\n",
         ["keeper", "rings", "bell", "gives the job back", "nobody"]),
        ("# The stable; `hold_blob` is one that waits.\n", ["hold_blob", "The stable", "one that"]),
        ("string, spring, client.post(url, 'POST', user='nobody')  # a stable code, string by string\n", []),
        ("'''Codes are stable. A stable sort. POST it back. They bring the stable name.'''\n", []),
    ],
)  # fmt: skip
def test_a_retired_word_is_found_and_ordinary_english_is_not(text: str, found: list[str]) -> None:
    assert list(retired_in_source(text)) == found
