"""JSON and JSON Lines, written as lines of `path: value`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

from emberq.errors import CorruptFile
from emberq.pipeline.extract.builder import DocumentBuilder
from emberq.pipeline.extract.text.decode import decode


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
    size = 0
    for starts_object, line in _lines(value):
        if starts_object and lines:
            build.paragraph("\n".join(lines))
            lines.clear()
            size = 0
        if line:
            lines.append(line)
            size += len(line) + 1
            # A long key is part of every line below it.
            build.meter.expect_text(size)
    build.paragraph("\n".join(lines))


def _lines(value: Any) -> Iterator[tuple[bool, str]]:
    """Yield, depth first, whether an object of a list begins, and a line `path: value` or an empty text."""
    # The steps of the path are joined only for a line: to join them for each container would take their
    # product of time.
    path: list[str] = []
    stack = [_children(value)] if isinstance(value, dict | list) else []
    if not stack:
        yield False, _shown(value)
    elif isinstance(value, dict):
        yield False, ""
    while stack:
        step, child, in_list = next(stack[-1], _END)
        if step is None:
            stack.pop()
            del path[-1:]
            continue
        if isinstance(child, dict | list):
            if isinstance(child, dict):
                yield in_list, ""
            path.append(step)
            stack.append(_children(child))
        else:
            yield False, f"{''.join((*path, step)).removeprefix('.')}: {_shown(child)}"


#: What comes after the last child of a container.
_END: Final = (None, None, False)


def _children(value: dict[str, Any] | list[Any]) -> Iterator[tuple[str | None, Any, bool]]:
    """Yield the children of an object or a list: the step of the path, the value, whether it is in a list."""
    if isinstance(value, dict):
        return ((f".{key}", child, False) for key, child in value.items())
    return ((f"[{index}]", child, True) for index, child in enumerate(value))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
