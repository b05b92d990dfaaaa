"""The shapes of a slide in the order in which a person reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from emberq.pipeline.extract.office.ooxml import Element, attribute, local_name

#: Most shapes that are ordered by gaps between them; more are ordered by their upper left corners.
_MOST_SHAPES: Final = 200

#: The share of a shape at each of its sides that may lie over another shape.
_OVERLAP: Final = 0.05

#: The type and the index of a placeholder.
Placeholder: TypeAlias = tuple[str, str]

#: The placeholders of titles, and those that the program fills automatically.
TITLES: Final = frozenset({"title", "ctrTitle"})
_AUTOMATIC: Final = frozenset({"sldNum", "dt", "hdr", "sldImg"})

_SHAPES: Final = frozenset({"sp", "pic", "graphicFrame", "grpSp", "cxnSp"})


class Box(NamedTuple):
    """Where a shape lies on the slide, in units of the file: left, top, right, bottom."""

    left: float
    top: float
    right: float
    bottom: float


#: A shape, and its placeholder if it is one.
_Typed: TypeAlias = tuple[Placeholder | None, Element]


class _Placed(NamedTuple):
    """A shape and where it lies."""

    shape: _Typed
    box: Box


def placeholder(shape: Element) -> Placeholder | None:
    """Return the type and index of a placeholder; None for other shapes."""
    for properties in shape:
        if local_name(properties).startswith("nv"):
            for mark in properties.iterfind("{*}nvPr/{*}ph"):
                return attribute(mark, "type", "body"), attribute(mark, "idx", "0")
    return None


def places(tree: Element) -> dict[Placeholder, Box]:
    """Return where the placeholders of a layout lie."""
    found: dict[Placeholder, Box] = {}
    for shape in tree.iter("{*}sp", "{*}pic", "{*}graphicFrame"):
        kind, box = placeholder(shape), _own_box(shape)
        if kind and box:
            found[kind] = box
    return found


def in_order(tree: Element, layout: Callable[[], Mapping[Placeholder, Box]]) -> Iterator[tuple[str, Element]]:
    """Yield the shapes of a slide or group in reading order, titles first, with the types of placeholders.

    Shapes of a group stay together. What the program fills in automatically is left out.

    Args:
        tree: The slide's tree of shapes, or a group.
        layout: Returns where the placeholders of the slide's layout lie.
    """
    titles: list[_Typed] = []
    others: list[_Typed] = []
    for shape in _shapes(tree):
        kind = placeholder(shape)
        name = kind[0] if kind else ""
        if name in TITLES:
            titles.append((kind, shape))
        elif name not in _AUTOMATIC:
            others.append((kind, shape))
    for kind, shape in (*titles, *(_by_place(others, layout()) if len(others) > 1 else others)):
        if local_name(shape) == "grpSp":
            yield from in_order(shape, layout)
        else:
            yield kind[0] if kind else "", shape


def _by_place(shapes: Sequence[_Typed], layout: Mapping[Placeholder, Box]) -> list[_Typed]:
    placed: list[_Placed] = []
    box = Box(0, 0, 0, 0)
    for kind, shape in shapes:
        # A shape whose place is not known stays behind the one before it.
        box = _own_box(shape) or _inherited_box(kind, layout) or box
        placed.append(_Placed((kind, shape), box))
    ordered = _ordered(placed) if len(placed) <= _MOST_SHAPES else sorted(placed, key=_corner)
    return [one.shape for one in ordered]


def _shapes(tree: Element) -> Iterator[Element]:
    for child in tree:
        name = local_name(child)
        if name in _SHAPES:
            yield child
        elif name == "AlternateContent":
            # The first form is the newest; the last one is for old programs.
            for form in child[:1]:
                yield from _shapes(form)


def _own_box(shape: Element) -> Box | None:
    for properties in shape:
        frame = (
            properties if local_name(properties) == "xfrm" else next(properties.iterchildren("{*}xfrm"), None)
        )
        if frame is None:
            continue
        values = {local_name(child): child for child in frame}
        if "off" in values and "ext" in values:
            left, top = _number(values["off"], "x"), _number(values["off"], "y")
            return Box(left, top, left + _number(values["ext"], "cx"), top + _number(values["ext"], "cy"))
    return None


def _number(element: Element, name: str) -> float:
    text = attribute(element, name)
    digits = text.removeprefix("-")
    return float(text) if digits.isdecimal() and len(digits) < 16 else 0.0  # noqa: PLR2004 - beyond any slide


def _inherited_box(kind: Placeholder | None, layout: Mapping[Placeholder, Box]) -> Box | None:
    if kind is None:
        return None
    if kind in layout:
        return layout[kind]
    # The body of a slide may fill a placeholder of another type with the same index.
    return next((box for (_, index), box in layout.items() if index == kind[1]), None)


def _corner(placed: _Placed) -> tuple[float, float]:
    return placed.box.top, placed.box.left


def _ordered(placed: Sequence[_Placed]) -> list[_Placed]:
    """Return shapes in reading order: divided at the widest gap between them, again and again."""
    if len(placed) < 2:  # noqa: PLR2004 - nothing to divide
        return list(placed)
    down, across = _gaps(placed, 1), _gaps(placed, 0)
    if across and (not down or max(across)[0] > max(down)[0]):
        side, cut = 0, max(across)[1]
    elif across:
        side, cut = 1, max(down)[1]
    elif down:
        # The widest shape lies over all columns: it is divided from what is above it, or else below it.
        widest = max(placed, key=lambda one: one.box.right - one.box.left)
        cuts = sorted(cut for _, cut in down)
        side, cut = 1, next((cut for cut in reversed(cuts) if cut <= widest.box.top), cuts[0])
    else:
        return sorted(placed, key=_corner)
    before = [one for one in placed if one.box[side] < cut]
    after = [one for one in placed if one.box[side] >= cut]
    return [*_ordered(before), *_ordered(after)]


def _gaps(placed: Sequence[_Placed], side: int) -> list[tuple[float, float]]:
    """Return the gaps from left to right (0) or from top to bottom (1): their widths and where they end."""
    spans = sorted((one.box[side], one.box[side + 2]) for one in placed)
    first, end = spans[0]
    gaps: list[tuple[float, float]] = []
    for start, stop in spans[1:]:
        gap = start - end + _OVERLAP * (stop - start)
        if gap > 0 and start > first:
            gaps.append((gap, start))
        end = max(end, stop)
    return gaps
