"""Compare what readers find in public files, and what it costs: `make bench-extraction`.

The files come from source distributions that `bench/public_files.txt` pins by name and hash. Recall is the
share of the reference's words in all files that a reader finds, each as often as it is there. Order is the
share of its pairs of neighbouring words that are neighbours in the reader's text too. The reference is a
library that belongs to none of the programs compared, one for each format. A word counts only if at least
one of the programs has found it too, as each library reads some things that no person sees. Files with fewer
than five such words are read but not compared.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SOURCES = Path(__file__).parent / "public_files.txt"
READERS = ("emberq", "kreuzberg", "markitdown")
FORMATS = ("pdf", "docx", "pptx", "html", "epub")
#: Seconds after which a file is given up.
SECONDS = 20
#: Files that one process reads.
_BATCH = 40
#: Chapters of a book that is made of pages.
_CHAPTERS = 5
_CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
    '<rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
_PACKAGE = (
    '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id">'
    '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:identifier id="id">b</dc:identifier>'
    "<dc:title>Pages</dc:title><dc:language>en</dc:language></metadata>"
    "<manifest>{items}</manifest><spine>{spine}</spine></package>"
)
_WORD = re.compile(r"\w+")
_HYPHEN = re.compile(r"(?<=[^\W\d])[-\u2010]\s*(?=[^\W\d])")


@dataclass(frozen=True, slots=True)
class Read:
    """One file as one reader read it: its words, or the error, and seconds of processor time."""

    words: list[str]
    error: str
    cpu: float


def main() -> int:
    """Fetch, read and compare; print a table, and return 1 if a goal was missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--files", type=Path, help="a folder of files instead of the public ones")
    options.add_argument("--cache", type=Path, default=ROOT / ".public-files", help="where they are kept")
    options.add_argument("--only", choices=FORMATS, action="append", help="this format; may be repeated")
    options.add_argument("--json", type=Path, help="write the figures of each file here")
    chosen = options.parse_args()
    folder = chosen.files or fetch(chosen.cache)
    missed: list[str] = []
    details: list[dict[str, Any]] = []
    print("| format | files | compared | reader | read | recall | order | ms of processor: median | mean |")
    print("|---|---:|---:|---|---:|---:|---:|---:|---:|")
    for kind in chosen.only or FORMATS:
        files = sorted(path for path in folder.rglob(f"*.{kind}") if path.is_file() and path.stat().st_size)
        if not files:
            continue
        rows = _compare(kind, files, details)
        for row in rows:
            print(
                f"| {kind} | {row['files']} | {row['compared']} | {row['reader']} | {row['read']} "
                f"| {row['recall']:.4f} | {row['order']:.4f} | {row['ms']:.2f} | {row['mean']:.2f} |",
                flush=True,
            )
        missed += _missed(kind, rows)
    if chosen.json:
        chosen.json.write_text(json.dumps(details, indent=1))
    for goal in missed:
        print(f"missed: {goal}")
    return 1 if missed else 0


def fetch(cache: Path) -> Path:
    """Return a folder with the files of the pinned source distributions; download them once."""
    done = cache / "files"
    if done.is_dir():
        return done
    cache.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download"]
    subprocess.run(
        [
            *pip,
            "--no-deps",
            "--no-binary",
            ":all:",
            "--require-hashes",
            "-r",
            SOURCES,
            "-d",
            cache / "sources",
        ],
        check=True,
    )
    with tempfile.TemporaryDirectory(dir=cache) as made:
        for number, source in enumerate(sorted((cache / "sources").iterdir())):
            _unpack(source, Path(made) / "files" / str(number))
        _bind(sorted((Path(made) / "files").rglob("*.html")), Path(made) / "files" / "books")
        (Path(made) / "files").rename(done)
    return done


def _unpack(source: Path, folder: Path) -> None:
    """Write the documents of an archive into a folder, each under a number of its own."""
    folder.mkdir(parents=True)
    if source.suffix == ".zip":
        with zipfile.ZipFile(source) as archive:
            members = {name: archive.read(name) for name in archive.namelist() if _is_wanted(name)}
    else:
        with tarfile.open(source) as archive:
            found = [one for one in archive.getmembers() if one.isfile() and _is_wanted(one.name)]
            members = {one.name: archive.extractfile(one).read() for one in found}  # type: ignore[union-attr]
    for number, (name, data) in enumerate(members.items()):
        (folder / f"{number}-{Path(name).stem[:60]}{Path(name).suffix.lower()}").write_bytes(data)


def _bind(pages: Sequence[Path], folder: Path) -> None:
    """Make books of the pages that are well-formed, as the distributions have none."""
    folder.mkdir()
    chapters = [page for page in map(_as_xhtml, pages) if page]
    for begin in range(0, len(chapters), _CHAPTERS):
        names = {f"c{number}.xhtml": page for number, page in enumerate(chapters[begin : begin + _CHAPTERS])}
        items = "".join(f'<item id="{n[:-6]}" href="{n}" media-type="application/xhtml+xml"/>' for n in names)
        spine = "".join(f'<itemref idref="{name[:-6]}"/>' for name in names)
        with zipfile.ZipFile(folder / f"book-{begin}.epub", "w", zipfile.ZIP_DEFLATED) as book:
            book.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
            book.writestr("META-INF/container.xml", _CONTAINER)
            book.writestr("book.opf", _PACKAGE.format(items=items, spine=spine))
            for name, page in names.items():
                book.writestr(name, page)


def _as_xhtml(path: Path) -> bytes:
    from lxml import etree, html

    try:
        page = html.fromstring(path.read_bytes())
    except (etree.LxmlError, ValueError):
        return b""
    page.set("xmlns", "http://www.w3.org/1999/xhtml")
    etree.strip_elements(page, etree.Comment, etree.ProcessingInstruction, with_tail=False)
    return bytes(etree.tostring(page, encoding="utf-8", xml_declaration=True))


def _is_wanted(name: str) -> bool:
    return Path(name).suffix.lower().lstrip(".") in FORMATS


def _compare(kind: str, files: Sequence[Path], details: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = {reader: _read(reader, files) for reader in (*READERS, "reference")}
    rows = []
    scores: dict[str, list[tuple[float, float, float]]] = {reader: [] for reader in READERS}
    total = 0
    for path in files:
        of = {reader: found[reader].get(path, Read([], "died", SECONDS)) for reader in found}
        wanted = _agreed(of["reference"].words, [of[reader].words for reader in READERS])
        if len(wanted) < 5:
            continue
        total += len(wanted)
        for reader in READERS:
            recall, order = (
                _recall(wanted, of[reader].words),
                _recall(_pairs(wanted), _pairs(of[reader].words)),
            )
            scores[reader].append((recall * len(wanted), order * (len(wanted) - 1), of[reader].cpu))
            details.append(
                {
                    "format": kind,
                    "file": path.name,
                    "reader": reader,
                    "recall": recall,
                    "order": order,
                    "ms": of[reader].cpu * 1000,
                    "error": of[reader].error,
                }
            )
    for reader in READERS:
        recalls, orders, seconds = zip(*scores[reader] or [(0.0, 0.0, 0.0)], strict=True)
        rows.append(
            {
                "reader": reader,
                "files": len(files),
                "read": sum(not read.error for read in found[reader].values()),
                "compared": len(scores[reader]),
                "recall": sum(recalls) / max(total, 1),
                "order": sum(orders) / max(total - len(recalls), 1),
                "ms": statistics.median(seconds) * 1000,
                "mean": statistics.fmean(seconds) * 1000,
            }
        )
    return rows


def _read(reader: str, files: Sequence[Path]) -> dict[Path, Read]:
    """Read the files in processes of one reader; a file at which a process dies is left out."""
    peers = Path(os.environ.get("BENCH_VENV", ROOT / ".venv-bench-extraction"))
    python = sys.executable if reader == "emberq" else str(peers / "bin" / "python")
    program = Path(__file__).parent / "peers" / "read_files.py"
    found: dict[Path, Read] = {}
    for begin in range(0, len(files), _BATCH):
        left = list(files[begin : begin + _BATCH])
        while left:
            done = subprocess.run(
                [python, program, reader, str(SECONDS), *left],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                timeout=SECONDS * (len(left) + 2),
                check=False,
            )
            lines = [json.loads(line) for line in done.stdout.splitlines()]
            for line in lines:
                words = _words(line.get("text", ""))
                found[Path(line["file"])] = Read(words, line.get("error", ""), line["cpu"])
            # The process died at the next one; without it the rest is read by another.
            left = left[len(lines) + 1 :] if done.returncode else []
    return found


def _words(text: str) -> list[str]:
    folded = unicodedata.normalize("NFKC", text.replace("\xad", "")).casefold()
    # One reader keeps the hyphen of a word that a line end cuts, one removes it, one keeps the line end too.
    folded = _HYPHEN.sub("", folded)
    return [word for word in _WORD.findall(folded) if len(word) > 1]


def _agreed(reference: list[str], others: Iterable[list[str]]) -> list[str]:
    """Return the reference's words that another program has found too."""
    known = set().union(*map(set, others))
    return [word for word in reference if word in known]


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    return list(itertools.pairwise(words))


def _recall(wanted: Sequence[Any], found: Sequence[Any]) -> float:
    if not wanted:
        return 1.0
    counted = Counter(wanted)
    return sum((counted & Counter(found)).values()) / counted.total()


def _missed(kind: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the goals that emberq has missed: ahead of all others in each figure, and recall."""
    ours, *others = rows
    missed = [
        f"{kind}: {name} {ours[name]:.4f}, {other['reader']} {other[name]:.4f}"
        for other in others
        for name in ("recall", "order")
        if ours[name] < other[name]
    ]
    if kind != "pptx":
        missed += [
            f"{kind}: {ours['ms']:.2f} ms, {other['reader']} {other['ms']:.2f} ms"
            for other in others
            if ours["ms"] > other["ms"]
        ]
        if ours["recall"] < 0.99:
            missed.append(f"{kind}: recall {ours['recall']:.4f}, goal 0.99")
    return missed


if __name__ == "__main__":
    sys.exit(main())
