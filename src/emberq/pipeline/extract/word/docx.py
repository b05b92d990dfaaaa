"""Word: headers, the body, then notes, comments and footers."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Final

from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.office.drawingml import optional
from emberq.pipeline.extract.office.ooxml import Element, Package, attribute, local_name
from emberq.pipeline.extract.office.properties import write_properties
from emberq.pipeline.extract.word.docx_body import Blocks, Word
from emberq.pipeline.extract.word.docx_numbering import Numbering
from emberq.pipeline.extract.word.docx_styles import Styles

#: Kinds of linked parts that belong to the text even if no paragraph names them, and what they are.
_LOOSE: Final = {
    "chart": "chart",
    "chartEx": "chart",
    "diagramData": "diagram",
    "aFChunk": "chunk",
    "package": "object",
    "oleObject": "object",
}


def read(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read a Word file; it has no page numbers, because pages exist only once a program lays it out.

    Raises:
        ArchiveBomb: If the file would unpack to far more than a document has.
        CorruptFile: If the file is damaged.
        EncryptedFile: If a part is protected by a password.
    """
    package = Package(stream, build.meter)
    main = package.main_part()
    root = package.xml(main)
    styles = Styles({}, {})
    for part in package.linked(main, "styles"):
        styles = Styles.of(package.xml(part))
    lists = None
    for part in package.linked(main, "numbering"):
        with optional(build, part):
            lists = package.xml(part)
    word = Word(package, build, styles, Numbering(lists, styles), {})
    for part in package.linked(main, "comments"):
        with optional(build, part):
            word.comments.update(_comments(word, part))
    seen: set[str] = set()
    for part in package.linked(main, "header"):
        _write_once(word, part, seen)
    _write_body(word, main, root)
    for part in package.linked(main, "footnotes", "endnotes"):
        notes = Blocks(word, part)
        for note in package.xml(part):
            # The other types are the lines that separate the notes from the text.
            if attribute(note, "type", "normal") == "normal":
                notes.write(note)
    for comment in word.comments.values():
        build.paragraph(comment)
    for part in package.linked(main, "footer"):
        _write_once(word, part, seen)
    write_properties(package, build)


def _write_body(word: Word, main: str, root: Element) -> None:
    blocks = Blocks(word, main)
    for child in root:
        if local_name(child) == "body":
            blocks.write(child)
    for kind, what in _LOOSE.items():
        for part in word.package.linked(main, kind):
            blocks.write_part(what, part)


def _comments(word: Word, part: str) -> dict[str, str]:
    """Return the comments of a part by their ids, marked as such."""
    comments: dict[str, str] = {}
    blocks = Blocks(word, part)
    for comment in word.package.xml(part).iterchildren("{*}comment"):
        author = squeeze(attribute(comment, "author"))
        if text := squeeze(" ".join(blocks.lines(comment))):
            comments[attribute(comment, "id")] = f"Comment{f' by {author}' if author else ''}: {text}"
    return comments


def _write_once(word: Word, part: str, seen: set[str]) -> None:
    """Write the lines of a header or footer, unless another section has the same."""
    for text in Blocks(word, part).lines(word.package.xml(part)):
        if text.strip() and text not in seen:
            seen.add(text)
            word.build.paragraph(text)
