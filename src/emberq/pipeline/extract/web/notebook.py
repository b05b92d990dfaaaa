"""Jupyter notebooks: the cells and the text of their outputs, in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

from emberq.errors import CorruptFile
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.extract.builder import DocumentBuilder
from emberq.pipeline.extract.text.decode import decode
from emberq.pipeline.extract.text.jsondata import parse_json
from emberq.pipeline.extract.text.markdown import write_markdown
from emberq.pipeline.extract.web.markup import write_html

#: Colours and movements of the cursor in the output of a terminal.
_ESCAPE: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def read(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read a notebook of version 3 or 4; pictures among its outputs are counted and left out.

    Raises:
        CorruptFile: If the file is not JSON, or has no cells.
    """
    try:
        notebook = parse_json(decode(stream.read()))
    except ValueError as exc:
        raise CorruptFile(f"The notebook is damaged: {exc}.") from exc
    if not isinstance(notebook, dict):
        raise CorruptFile("The notebook is damaged: it has no cells.")
    pictures = 0
    for cell in _cells(notebook):
        kind = cell.get("cell_type")
        text = _text(cell.get("source", cell.get("input")))
        if kind == "heading":
            build.heading(text, _level(cell.get("level")))
        elif kind == "markdown":
            write_markdown(text, build)
        else:
            build.paragraph(text.strip("\n"))
        for output in _dicts(cell.get("outputs")):
            pictures += _write_output(output, build)
    if pictures:
        build.warn(WarningCode.IMAGES_SKIPPED, count=pictures)


def _cells(notebook: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from _dicts(notebook.get("cells"))
    for sheet in _dicts(notebook.get("worksheets")):
        yield from _dicts(sheet.get("cells"))


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    """Return a text that may be written as a list of lines."""
    lines = value if isinstance(value, list) else [value]
    return "".join(line for line in lines if isinstance(line, str))


def _level(value: Any) -> int:
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) == 1 else 1


def _write_output(output: dict[str, Any], build: DocumentBuilder) -> int:
    """Append the text of an output; return 1 if it is a picture without text, otherwise 0."""
    if "traceback" in output:
        error = f"{_text(output.get('ename'))}: {_text(output.get('evalue'))}"
        lines = output["traceback"] if isinstance(output["traceback"], list) else []
        build.paragraph(_ESCAPE.sub("", "\n".join([*(_text(line) for line in lines), error])))
        return 0
    # In version 3 the kinds of data are fields of the output itself.
    inner = output.get("data")
    data: dict[str, Any] = inner if isinstance(inner, dict) else output
    html = _text(data.get("text/html", data.get("html")))
    markdown = _text(data.get("text/markdown"))
    plain = _text(data.get("text/plain", data.get("text"))) or _text(
        data.get("text/latex", data.get("latex"))
    )
    is_picture = any(kind.startswith("image/") or kind in {"png", "jpeg", "svg"} for kind in data)
    if "<table" in html:
        write_html(html.encode("utf-8", "replace"), build)
    elif markdown:
        write_markdown(markdown, build)
    elif plain and not (is_picture and plain.startswith("<")):
        build.paragraph(_ESCAPE.sub("", plain).strip("\n"))
    elif html:
        write_html(html.encode("utf-8", "replace"), build)
    else:
        return int(is_picture)
    return 0
