"""PowerPoint: for each slide its title, shapes, tables, charts, diagrams, notes and comments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, Final

from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.office.drawingml import optional, write_chart, write_diagram, write_picture
from emberq.pipeline.extract.office.omml import latex
from emberq.pipeline.extract.office.ooxml import Element, Package, attribute, local_name
from emberq.pipeline.extract.office.properties import write_properties
from emberq.pipeline.extract.slides.pptx_shapes import TITLES, Box, Placeholder, in_order, places
from emberq.pipeline.extract.word.docx_numbering import written
from emberq.pipeline.extract.word.docx_runs import Links

#: Kinds of linked parts that belong to a slide even if no shape names them, and what they are.
_LOOSE: Final = {"chart": "chart", "chartEx": "chart", "diagramData": "diagram"}

#: How the numbers of a list are written: the beginning of the type's name, and its end.
_NUMBERS: Final = {
    "arabic": "decimal",
    "alphaLc": "lowerLetter",
    "alphaUc": "upperLetter",
    "romanLc": "lowerRoman",
    "romanUc": "upperRoman",
    "circleNumDb": "decimalEnclosedCircle",
}
_ENDINGS: Final = {"Period": "{}.", "ParenR": "{})", "ParenBoth": "({})", "Plain": "{}"}


def read(stream: BinaryIO, build: DocumentBuilder, progress: Callable[[int, int], None]) -> int:
    """Read a presentation; its pages are the slides.

    Returns:
        The number of slides.

    Raises:
        ArchiveBomb: If the file would unpack to far more than a document has.
        CorruptFile: If the file is damaged.
        EncryptedFile: If a part is protected by a password.
    """
    package = Package(stream, build.meter)
    main = package.main_part()
    links = package.relationships(main)
    ids = [
        next((value for key, value in slide.items() if key.endswith("}id")), "")
        for slide in package.xml(main).iter("{*}sldId")
    ]
    # Each slide once: a small hostile file could name its largest slide a million times.
    slides = list(dict.fromkeys(links[identity].part for identity in ids if identity in links))
    deck = _Deck(package, main, build)
    for number, part in enumerate(slides, 1):
        build.page = number
        deck.write(part)
        progress(number, len(slides))
    write_properties(package, build)
    return len(slides)


class _Deck:
    """What the slides of a presentation share."""

    def __init__(self, package: Package, main: str, build: DocumentBuilder) -> None:
        self._package = package
        self._main = main
        self._build = build
        #: Parts that slides share, and the words at the foot of slides; each is written once.
        self._seen: set[str] = set()
        self._links = Links()
        self._layouts: dict[str, Mapping[Placeholder, Box]] = {}
        self._authors: dict[str, str] | None = None

    def write(self, part: str) -> None:
        """Write a slide with its notes and comments."""
        if not self._build.meter.limits.hidden and self._is_hidden(part):
            return
        slide = _Slide(self._package, part, self._build, self._links, self._seen)
        self._write_shapes(slide, part, lambda: self._layout(part))
        slide.write_loose()
        for notes in self._new(part, "notesSlide"):
            page = _Slide(self._package, notes, self._build, self._links, self._seen)
            self._write_shapes(page, notes, dict)
        for comments in self._new(part, "comments"):
            with optional(self._build, comments):
                self._build.paragraph("\n".join(self._comments(self._package.xml(comments))))

    def _is_hidden(self, part: str) -> bool:
        return attribute(self._package.xml(part), "show") in {"0", "false"}

    def _write_shapes(
        self, slide: _Slide, part: str, layout: Callable[[], Mapping[Placeholder, Box]]
    ) -> None:
        for tree in self._package.xml(part).iterfind("{*}cSld/{*}spTree"):
            for kind, shape in in_order(tree, layout):
                slide.write_shape(shape, kind)

    def _layout(self, part: str) -> Mapping[Placeholder, Box]:
        layout = next(self._package.linked(part, "slideLayout"), "")
        if layout not in self._layouts:
            self._layouts[layout] = {}
            with optional(self._build, layout):
                self._layouts[layout] = places(self._package.xml(layout)) if layout else {}
        return self._layouts[layout]

    def _new(self, part: str, kind: str) -> Iterator[str]:
        for linked in self._package.linked(part, kind):
            if linked not in self._seen:
                self._seen.add(linked)
                yield linked

    def _comments(self, root: Element) -> Iterator[str]:
        """Yield the comments on a slide, and the answers to them, marked as such."""
        for comment in root.iter("{*}cm", "{*}reply"):
            # The older form has its text as such, the newer one as paragraphs.
            words = [piece.text or "" for piece in comment.iterchildren("{*}text")]
            words += ["".join(body.itertext("{*}t")) for body in comment.iterchildren("{*}txBody")]
            text = squeeze(" ".join(words))
            author = self._author(attribute(comment, "authorId"))
            if text:
                yield f"Comment{f' by {author}' if author else ''}: {text}"

    def _author(self, identity: str) -> str:
        if self._authors is None:
            self._authors = {
                attribute(author, "id"): squeeze(attribute(author, "name"))
                for part in self._package.linked(self._main, "commentAuthors", "authors")
                for author in self._package.xml(part)
            }
        return self._authors.get(identity, "")


class _Slide:
    """Writes the shapes of one slide, or of its notes."""

    def __init__(
        self, package: Package, part: str, build: DocumentBuilder, links: Links, seen: set[str]
    ) -> None:
        self._package = package
        self._part = part
        self._build = build
        self._links = links
        self._seen = seen

    def write_shape(self, shape: Element, kind: str) -> None:
        """Write the text of a shape, or what it shows; `kind` is the type of a placeholder."""
        for body in shape.iterchildren("{*}txBody"):
            text = self._text(body)
            if kind in TITLES:
                self._build.heading(text, 1)
            elif kind != "ftr" or text not in self._seen:
                self._build.paragraph(text)
            if kind == "ftr":
                self._seen.add(text)
        for named in shape[:1]:
            for properties in named.iterchildren("{*}cNvPr"):
                write_picture(properties, self._build, is_picture=local_name(shape) == "pic")
        if local_name(shape) == "graphicFrame":
            self._write_frame(shape)

    def _write_frame(self, frame: Element) -> None:
        for element in frame.iter("{*}tbl", "{*}chart", "{*}relIds", "{*}oleObj"):
            match local_name(element):
                case "tbl":
                    self._build.table(self._rows(element))
                case "chart":
                    self._write_part("chart", attribute(element, "id"))
                case "relIds":
                    self._write_part("diagram", attribute(element, "dm"))
                case _:
                    self._write_part("object", attribute(element, "id"))

    def _write_part(self, kind: str, link: str) -> None:
        linked = self._package.relationships(self._part).get(link)
        if linked is None or linked.part in self._seen:
            return
        part = linked.part
        self._seen.add(part)
        with optional(self._build, part):
            match kind:
                case "chart":
                    write_chart(self._package, part, self._build)
                case "diagram":
                    write_diagram(self._package.xml(part), self._build)
                case _:
                    self._build.attach(self._package.read(part), part.rpartition("/")[2])

    def write_loose(self) -> None:
        """Write charts and diagrams of the slide that no shape names."""
        for key, link in self._package.relationships(self._part).items():
            if what := _LOOSE.get(link.kind):
                self._write_part(what, key)

    def _rows(self, table: Element) -> Iterator[list[str]]:
        """Yield the texts of the cells; a merged cell has its text in each row that it covers."""
        above: dict[int, str] = {}
        for row in table.iterchildren("{*}tr"):
            texts: list[str] = []
            for column, cell in enumerate(row.iterchildren("{*}tc")):
                text = squeeze(" ".join(self._text(body) for body in cell.iterchildren("{*}txBody")))
                if attribute(cell, "vMerge") in {"1", "true"}:
                    text = above.get(column, text)
                above[column] = text
                texts.append(text)
            yield texts

    def _text(self, body: Element) -> str:
        """Return the text of a shape's paragraphs, one per line, with the numbers of lists."""
        lines: list[str] = []
        counts: dict[int, int] = {}
        for paragraph in body.iterchildren("{*}p"):
            text = "".join(self._pieces(paragraph))
            if text.strip():
                label = _number(paragraph, counts)
                lines.append(f"{label} {text}" if label else text)
        return "\n".join(lines)

    def _pieces(self, paragraph: Element) -> Iterator[str]:
        for child in paragraph:
            match local_name(child):
                case "br":
                    yield "\n"
                case "r" | "fld":
                    text = "".join(piece.text or "" for piece in child.iterchildren("{*}t"))
                    yield text
                    for link in child.iterfind("{*}rPr/{*}hlinkClick"):
                        yield self._tell(attribute(link, "id"), text)
                case "pPr" | "endParaRPr":
                    pass
                case _:
                    forms = child[:1] if local_name(child) == "AlternateContent" else [child]
                    for form in forms:
                        for equation in form.iter("{*}oMath"):
                            yield f"${latex(equation)}$"

    def _tell(self, link: str, text: str) -> str:
        return self._links.tell(self._package.targets(self._part).get(link, ""), text)


def _number(paragraph: Element, counts: dict[int, int]) -> str:
    """Count a paragraph of a numbered list and return its number; `counts` has the numbers of each level."""
    properties = next(paragraph.iterchildren("{*}pPr"), None)
    depth = attribute(properties, "lvl", "0") if properties is not None else "0"
    level = int(depth) if depth.isdecimal() and len(depth) < 2 else 0  # noqa: PLR2004 - nine levels
    for deeper in [at for at in counts if at > level]:
        del counts[deeper]
    numbers = None if properties is None else next(properties.iterchildren("{*}buAutoNum"), None)
    if numbers is None:
        counts.pop(level, None)
        return ""
    start = attribute(numbers, "startAt", "1")
    first = int(start) if start.isdecimal() and len(start) < 6 else 1  # noqa: PLR2004 - PowerPoint's limit
    counts[level] = counts[level] + 1 if level in counts else first
    kind = attribute(numbers, "type", "arabicPeriod")
    way = next((way for name, way in _NUMBERS.items() if kind.startswith(name)), "decimal")
    ending = next((form for name, form in _ENDINGS.items() if kind.endswith(name)), "{}")
    return ending.format(written(counts[level], way))
