"""What Word, PowerPoint and Excel draw alike: charts, diagrams, shapes with text, described pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from emberq.errors import CorruptFile
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.office.number_format import general, make_formatter
from emberq.pipeline.extract.office.ooxml import Element, Package, attribute, local_name

#: Points of a diagram that hold no words of a person: lines between the others, and how they are drawn.
_DIAGRAM_LINES: Final = frozenset({"parTrans", "sibTrans", "pres"})

#: Parts of a series that name its points, and those that give their values.
_NAMING: Final = ("cat", "xVal")
_VALUES: Final = ("val", "yVal", "bubbleSize")


class _Series(NamedTuple):
    """A series of a chart: its name, and what each point is called and has as values."""

    name: str
    categories: dict[int, str]
    values: dict[int, str]


@contextlib.contextmanager
def optional(build: DocumentBuilder, part: str) -> Iterator[None]:
    """Leave out what lies beside the text of a file if it is damaged, with a warning that names the part."""
    try:
        yield
    except CorruptFile:
        build.warn(WarningCode.PART_UNREADABLE, part)


def paragraphs(element: Element) -> str:
    """Return the text of an element's paragraphs, one per line."""
    lines = ("".join(_runs(paragraph)) for paragraph in element.iter("{*}p"))
    return "\n".join(line for line in lines if line.strip())


def _runs(paragraph: Element) -> Iterator[str]:
    for piece in paragraph.iter("{*}t", "{*}br"):
        yield "\n" if local_name(piece) == "br" else piece.text or ""


def alternative_text(element: Element) -> str:
    """Return the description of a drawing's properties (`docPr`, `cNvPr`), or else its title."""
    return squeeze(attribute(element, "descr") or attribute(element, "title"))


def is_decorative(properties: Element) -> bool:
    """Return whether a drawing is marked as decoration, which has no meaning."""
    return any(attribute(mark, "val") in {"1", "true"} for mark in properties.iter("{*}decorative"))


def write_picture(properties: Element, build: DocumentBuilder, *, is_picture: bool) -> None:
    """Write the description of a drawing; count a picture that has none."""
    if text := alternative_text(properties):
        build.paragraph(text)
    elif is_picture and not is_decorative(properties):
        build.warn(WarningCode.IMAGES_SKIPPED)


def write_diagram(root: Element, build: DocumentBuilder) -> None:
    """Write the words of a SmartArt diagram, one paragraph of it per line."""
    points = (
        paragraphs(point)
        for point in root.iter("{*}pt")
        if attribute(point, "type") not in _DIAGRAM_LINES and local_name(point.getparent()) == "ptLst"
    )
    build.paragraph("\n".join(filter(None, points)))


def write_chart(package: Package, part: str, build: DocumentBuilder) -> None:
    """Write a chart: its titles, then a table of its categories and series."""
    root = package.xml(part)
    titles = [squeeze(_title(title)) for title in root.iter("{*}title")]
    build.paragraph("\n".join(dict.fromkeys(filter(None, titles))))
    for table in _tables(list(_series(root))):
        build.table(table)
    for shapes in package.linked(part, "chartUserShapes"):
        build.paragraph(paragraphs(package.xml(shapes)))


def _title(title: Element) -> str:
    # A title is words, or the cached value of a cell.
    return paragraphs(title) or " ".join(value.text or "" for value in title.iter("{*}v"))


def _tables(series: Sequence[_Series]) -> Iterator[Iterator[list[str]]]:
    """Yield a table for each run of series that have the same categories."""
    start = 0
    for end in range(1, len(series) + 1):
        if end < len(series) and series[end].categories in ({}, series[start].categories):
            continue
        group = series[start:end]
        names = series[start].categories
        points = sorted(set(names).union(*(one.values for one in group)))
        yield _rows(names, group, points)
        start = end


def _rows(names: dict[int, str], group: Sequence[_Series], points: Sequence[int]) -> Iterator[list[str]]:
    """Yield the rows of a table one by one: a small file can name many series and many points."""
    yield ["", *(one.name for one in group)]
    for at in points:
        yield [names.get(at, ""), *(one.values.get(at, "") for one in group)]


def _series(root: Element) -> Iterator[_Series]:
    for element in root.iter("{*}ser"):
        name = ""
        categories: dict[int, str] = {}
        values: dict[int, str] = {}
        for child in element:
            kind = local_name(child)
            if kind == "tx":
                name = squeeze(" ".join(value.text or "" for value in child.iter("{*}v", "{*}t")))
            elif kind in _NAMING:
                categories = _points(child)
            elif kind in _VALUES:
                for at, value in _points(child).items():
                    values[at] = f"{values[at]}; {value}" if at in values else value
        yield _Series(name, categories, values)
    yield from _new_series(root)


def _new_series(root: Element) -> Iterator[_Series]:
    """Yield the series of a chart of the newer kinds (`cx`), whose data stand apart."""
    data = {attribute(block, "id"): block for block in root.iter("{*}data") if block.get("id") is not None}
    for element in root.iter("{*}series"):
        name = squeeze(" ".join(value.text or "" for value in element.iter("{*}v")))
        for link in element.iterchildren("{*}dataId"):
            block = data.get(attribute(link, "val"))
            if block is None:
                continue
            dimensions = {local_name(dimension): dimension for dimension in block}
            categories = _points(dimensions["strDim"]) if "strDim" in dimensions else {}
            values = _points(dimensions["numDim"]) if "numDim" in dimensions else {}
            yield _Series(name, categories, values)


def _points(element: Element) -> dict[int, str]:
    """Return the cached values of a series by their position; outer categories stand before inner ones."""
    levels = list(element.iter("{*}lvl"))
    if not levels:
        return dict(_level(element))
    found = dict(_level(levels[0]))
    for level in levels[1:]:
        outer = dict(_level(level))
        label = ""
        for at in sorted(set(found) | set(outer)):
            label = outer.get(at, label)
            found[at] = f"{label} / {found.get(at, '')}"
    return found


def _level(element: Element) -> Iterator[tuple[int, str]]:
    code = next((code.text or "" for code in element.iter("{*}formatCode")), attribute(element, "formatCode"))
    write = make_formatter(code)
    is_number = code != "" or local_name(element.getparent()) == "numDim"
    for point in element.iter("{*}pt"):
        index = attribute(point, "idx")
        value = next((value.text for value in point.iterchildren("{*}v")), point.text) or ""
        if not index.isdecimal() or len(index) > 9:  # noqa: PLR2004 - far above any chart
            continue
        if is_number:
            with contextlib.suppress(ValueError):
                value = write(float(value)) if code else general(float(value))
        yield int(index), squeeze(value)


def write_drawing(package: Package, part: str, build: DocumentBuilder) -> None:
    """Write what lies on a sheet: text of shapes, descriptions of pictures, charts and diagrams."""
    root = package.xml(part)
    for element in root.iter("{*}sp", "{*}pic", "{*}graphicFrame"):
        if local_name(element.getparent()) == "Fallback":
            continue
        is_picture = local_name(element) == "pic"
        for properties in element.iter("{*}cNvPr"):
            write_picture(properties, build, is_picture=is_picture)
        for body in element.iterchildren("{*}txBody"):
            build.paragraph(paragraphs(body))
    for chart in package.linked(part, "chart", "chartEx"):
        write_chart(package, chart, build)
    for diagram in package.linked(part, "diagramData"):
        write_diagram(package.xml(diagram), build)
