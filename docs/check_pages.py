"""Find dead links, dead anchors and names of code that no longer exists in the documentation.

`docs/make.py` and the tests of `tests/unit/docs` use it. A *place* is a code span such as
`store/jobs/claim.py:claim_job`: a path from the repository's root or from `src/emberq`, and after the
colon a function, class, method or constant of that file.
"""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

__all__ = ["ROOT", "broken_links", "missing_places", "missing_targets", "pages", "places"]

ROOT = Path(__file__).parents[1]
#: Where a place's path may begin.
_STARTS = (ROOT, ROOT / "src" / "emberq")
#: Pages that people write and read; the example documents are none.
_PATTERNS = (
    "*.md",
    "llms.txt",
    "docs/**/*.md",
    "deploy/**/*.md",
    "requirements/*.md",
    "examples/*/README.md",
)

_FENCE = re.compile(r"^ *(```|~~~).*?^ *\1", re.MULTILINE | re.DOTALL)
_CODE_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_REFERENCE = re.compile(r"^\[[^\]]+\]: +<?(\S+?)>?$", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)?$", re.MULTILINE)
_PLACE = re.compile(r"(?P<path>[\w./*-]+(?:\.(?:py|md|toml|sh|txt|ya?ml)|/))(?::(?P<name>[\w.]+))?")
_DOTTED = re.compile(r"emberq(?:\.\w+)+")
_MAKE = re.compile(r"make ([a-z-]+)(?: .*)?")


def pages() -> list[Path]:
    """Return the pages, sorted."""
    return sorted({path for pattern in _PATTERNS for path in ROOT.glob(pattern)})


def broken_links(page: Path) -> list[str]:
    """Return the links of a page that lead to no file, or to no heading of it."""
    text = _CODE_SPAN.sub("", _without_code_blocks(page))
    targets = [*_LINK.findall(text), *_REFERENCE.findall(text)]
    return [target for target in targets if not _leads_somewhere(page, target)]


def places(page: Path) -> list[tuple[str, str]]:
    """Return path and name of each place that a page names; the name is empty for a whole file or folder.

    A file's bare name is none: it may be the reader's own file.
    """
    found = []
    for span in _spans(page):
        if match := _PLACE.fullmatch(span) if re.search("[/:]", span) else None:
            found.append((match["path"], match["name"] or ""))
        elif _DOTTED.fullmatch(span):
            found.append(_of_dotted(span))
    return found


def missing_places(page: Path) -> list[str]:
    """Return the places that a page names and that do not exist; the changelog may name what is gone."""
    if page.name == "CHANGELOG.md":
        return []
    return [f"{path}:{name}" if name else path for path, name in places(page) if not _exists(path, name)]


def missing_targets(page: Path) -> list[str]:
    """Return the targets of the Makefile that a page names and that do not exist."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    known = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    named = [match[1] for span in _spans(page) if (match := _MAKE.fullmatch(span))]
    named += re.findall(r"^ *\$ make ([a-z-]+)", text, re.MULTILINE)
    return [target for target in named if target not in known]


def _without_code_blocks(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def _spans(page: Path) -> Iterator[str]:
    yield from _CODE_SPAN.findall(_without_code_blocks(page))


def _leads_somewhere(page: Path, target: str) -> bool:
    if re.match(r"[a-z][a-z+.-]*:", target):
        # Another site; nothing here asks the network.
        return True
    path, _, anchor = unquote(target).partition("#")
    file = page if not path else (ROOT / path[1:] if path.startswith("/") else page.parent / path)
    if not file.exists():
        return False
    return not anchor or (file.suffix == ".md" and anchor in _anchors(file))


@functools.cache
def _anchors(page: Path) -> frozenset[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in _HEADING.findall(_without_code_blocks(page)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return frozenset(found)


def _of_dotted(name: str) -> tuple[str, str]:
    """Return the place of a dotted name: the longest part that is a module, and the rest."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        if file := _module_file(".".join(parts[:count])):
            return str(file.relative_to(ROOT)), ".".join(parts[count:])
    return name, ""


def _module_file(module: str) -> Path | None:
    stem = ROOT.joinpath("src", *module.split("."))
    return next((file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file()), None)


def _exists(path: str, name: str) -> bool:
    for start in _STARTS:
        found = list(start.glob(path.rstrip("/"))) if path.strip("/*.") else []
        if found and not name:
            return True
        if len(found) == 1 and found[0].suffix == ".py" and name in _names(found[0]):
            return True
    return False


@functools.cache
def _names(file: Path) -> frozenset[str]:
    """Return the functions, classes, methods and constants of a Python file."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    names = set(_names_in(body, prefix=""))
    if file.name == "__init__.py":
        for node in ast.walk(ast.Module(body, [])):
            if isinstance(node, ast.ImportFrom):
                names |= {alias.asname or alias.name for alias in node.names}
                if node.names[0].name == "*" and (source := _module_file(node.module or "")):
                    names |= _names(source)
    return frozenset(names)


def _names_in(body: list[ast.stmt], *, prefix: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name
        elif isinstance(node, ast.ClassDef):
            yield prefix + node.name
            yield from _names_in(node.body, prefix=f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign):
            yield from (prefix + target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield prefix + node.target.id
