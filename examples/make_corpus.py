"""Write the binary documents of `examples/corpus` from the texts in `examples/corpus_sources`.

The text formats (Markdown, HTML, CSV, TXT, JSON, the plain mail) stand in the corpus as they were written;
PDF, DOCX, PPTX, XLSX, EPUB and the mail with an attachment are made here. The bytes are the same on every
run, so the made files are committed and a test compares.

Run: python examples/make_corpus.py [--out FOLDER]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from corpus_sources.book import make_epub
from corpus_sources.mail import make_eml
from corpus_sources.office import make_docx, make_pptx, make_xlsx
from corpus_sources.pages import make_pdf

HERE = Path(__file__).resolve().parent

#: What makes a file from its source, by the file's suffix.
MAKERS: dict[str, Callable[[str], bytes]] = {
    ".docx": make_docx,
    ".eml": make_eml,
    ".epub": make_epub,
    ".pdf": make_pdf,
    ".pptx": make_pptx,
    ".xlsx": make_xlsx,
}


def main() -> None:
    """Make every file that has a source; `report.pdf` is made from `report.pdf.md`."""
    parser = argparse.ArgumentParser(description="Write the binary documents of the sample corpus.")
    parser.add_argument("--out", type=Path, default=HERE / "corpus", help="folder to write to")
    out: Path = parser.parse_args().out
    for source in sorted((HERE / "corpus_sources").glob("*.md")):
        target = out / source.stem
        target.write_bytes(MAKERS[target.suffix](source.read_text("utf-8")))
        print(f"{target.name}  {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
