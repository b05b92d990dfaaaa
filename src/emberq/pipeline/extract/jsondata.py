"""JSON and JSON Lines, written as lines of `path: value`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from emberq.errors import CorruptFile
from emberq.pipeline.extract.builder import DocumentBuilder
from emberq.pipeline.extract.decode import decode


def read(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read a JSON file; each object of a list is a paragraph.

    Raises:
        CorruptFile: If the file is not JSON.
    """
    try:
        value = parse_json(decode(stream.read()))
    except ValueError as exc:
        raise CorruptFile(f"The JSON is damaged: {exc}.") from exc
    if isinstance(value, list):
        for item in value:
            _write(item, build)
    else:
        _write(value, build)


def read_lines(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read JSON Lines; each line is a paragraph, and a line that is not JSON is kept unchanged."""
    # Not splitlines: a JSON string may contain the other line ends that splitlines splits at.
    for line in decode(stream.read()).split("\n"):
        try:
            value = parse_json(line)
        except ValueError:
            build.paragraph(line)
        else:
            _write(value, build)


def parse_json(text: str) -> Any:
    """Return the value of a JSON text, with its numbers as text.

    Raises:
        ValueError: If the text is not JSON, or is nested too deeply for the parser.
    """
    try:
        return json.loads(text, parse_int=str, parse_float=str)
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc


def _write(value: Any, build: DocumentBuilder) -> None:
    """Append a value: one paragraph, and one for each object of a list in it."""
    lines: list[str] = []
    for starts_object, line in _lines(value):
        if starts_object and lines:
            build.paragraph("\n".join(lines))
            lines.clear()
        if line:
            lines.append(line)
    build.paragraph("\n".join(lines))


def _lines(value: Any) -> Iterator[tuple[bool, str]]:
    """Yield, depth first, whether an object of a list begins, and a line `path: value` or an empty text."""
    stack: list[tuple[str, Any, bool]] = [("", value, False)]
    while stack:
        path, item, in_list = stack.pop()
        if isinstance(item, dict):
            yield in_list, ""
            pairs = [(f"{path}.{key}" if path else key, child, False) for key, child in item.items()]
            stack.extend(reversed(pairs))
        elif isinstance(item, list):
            children = [(f"{path}[{index}]", child, True) for index, child in enumerate(item)]
            stack.extend(reversed(children))
        else:
            text = item if isinstance(item, str) else json.dumps(item)
            yield False, f"{path}: {text}" if path else text
