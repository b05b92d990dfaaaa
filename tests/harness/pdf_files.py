"""PDF files that are made object by object, for what no library writes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

#: The size of a page, in points.
WIDTH: Final = 600
HEIGHT: Final = 800

_FONTS: Final = (
    b"/F <</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>"
    b" /Z <</Type/Font/Subtype/Type1/BaseFont/ZapfDingbats>>"
    # Without a map to Unicode, and the codes are the font's own.
    b" /U <</Type/Font/Subtype/Type0/BaseFont/AAAAAA+Own/Encoding/Identity-H/DescendantFonts[<</Type/Font"
    b"/Subtype/CIDFontType2/BaseFont/AAAAAA+Own"
    b"/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)/Supplement 0>>"
    b"/FontDescriptor<</Type/FontDescriptor/FontName/AAAAAA+Own/Flags 4/FontBBox[0 0 9 9]/ItalicAngle 0"
    b"/Ascent 9/Descent 0/CapHeight 9/StemV 1>>>>]>>"
)


class PdfFile:
    """A PDF under construction; `bytes` of it is the file."""

    def __init__(self) -> None:
        """Begin with the catalog and the tree of pages, which come last."""
        self._objects: list[bytes] = [b"", b""]
        self._pages: list[int] = []

    def add(self, content: bytes) -> int:
        """Append an object; return its number."""
        self._objects.append(content)
        return len(self._objects)

    def replace(self, number: int, old: bytes, new: bytes) -> None:
        """Change a part of an object."""
        self._objects[number - 1] = self._objects[number - 1].replace(old, new)

    def stream(self, data: bytes, entries: bytes = b"") -> int:
        """Append a stream, deflated; return its number."""
        packed = zlib.compress(data)
        return self.add(
            b"<</Filter/FlateDecode/Length %d%s>>stream\n%s\nendstream" % (len(packed), entries, packed)
        )

    def form(self, content: bytes, *, width: int = 200, height: int = 20) -> int:
        """Append a form, as the appearance of an annotation; return its number."""
        return self.stream(
            content,
            b"/Type/XObject/Subtype/Form/BBox[0 0 %d %d]/Resources<</Font<<%s>>>>" % (width, height, _FONTS),
        )

    def page(
        self, content: bytes, *, annotations: Sequence[bytes] = (), rotate: int = 0, objects: bytes = b""
    ) -> int:
        """Append a page; return its number.

        Args:
            content: Its operators.
            annotations: The dictionaries of its annotations.
            rotate: Degrees by which it is shown turned, clockwise.
            objects: Entries of its dictionary of XObjects.
        """
        listed = b" ".join(b"%d 0 R" % self.add(entry) for entry in annotations)
        self._pages.append(
            self.add(
                b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 %d %d]/Rotate %d/Contents %d 0 R/Annots[%s]"
                b"/Resources<</Font<<%s>>/XObject<<%s>>>>>>"
                % (WIDTH, HEIGHT, rotate, self.stream(content), listed, _FONTS, objects)
            )
        )
        return self._pages[-1]

    def picture(self) -> int:
        """Append a picture; return its number."""
        entries = b"/Type/XObject/Subtype/Image/Width 8/Height 8/ColorSpace/DeviceGray/BitsPerComponent 8"
        return self.stream(bytes(range(0, 256, 4)), entries)

    def finish(self, *, catalog: bytes = b"", information: bytes = b"") -> bytes:
        """Return the file.

        Args:
            catalog: Further entries of the catalog.
            information: Entries of the dictionary with title and author.
        """
        kids = b" ".join(b"%d 0 R" % number for number in self._pages)
        self._objects[0] = b"<</Type/Catalog/Pages 2 0 R%s>>" % catalog
        self._objects[1] = b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, len(self._pages))
        information_number = self.add(b"<<%s>>" % information)
        body = b"%PDF-1.7\n"
        table = b"0000000000 65535 f \n"
        for number, content in enumerate(self._objects, 1):
            table += b"%010d 00000 n \n" % len(body)
            body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
        return (
            body
            + b"xref\n0 %d\n%strailer<</Size %d/Root 1 0 R/Info %d 0 R>>\nstartxref\n%d\n%%%%EOF\n"
            % (
                len(self._objects) + 1,
                table,
                len(self._objects) + 1,
                information_number,
                len(body),
            )
        )


def text_at(x: float, y: float, text: str, *, size: float = 11, font: str = "F") -> bytes:
    """Return the operators that write a line at a place of a page."""
    written = "".join(f"\\{char}" if char in "()\\" else char for char in text)
    return f"BT /{font} {size} Tf 1 0 0 1 {x} {y} Tm ({written}) Tj ET\n".encode("cp1252")


def lines_at(x: float, y: float, lines: Sequence[str], *, size: float = 11) -> bytes:
    """Return the operators that write lines below each other."""
    return b"".join(text_at(x, y - 1.3 * size * index, line, size=size) for index, line in enumerate(lines))
