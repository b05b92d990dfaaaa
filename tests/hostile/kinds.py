"""What a hostile file is, and the containers that the other modules build them with."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["HostileFile", "make_package", "make_raw_pdf", "zip_members"]


@dataclass(frozen=True, slots=True)
class HostileFile:
    """One file of the corpus.

    Attributes:
        name: The name under which it is uploaded; it is unique, and may be hostile itself.
        make: Builds its bytes, the same ones each time.
        code: The outcome that is right: an error's code, `document`, or nothing where several are right.
    """

    name: str
    make: Callable[[], bytes]
    code: str | None = None


def zip_members(members: Mapping[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a ZIP container of these members."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method, compresslevel=9) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return target.getvalue()


_RELATIONSHIPS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def _relationships(links: Mapping[str, tuple[str, str]]) -> bytes:
    """Return a part of relationships: id to (kind, target)."""
    inner = "".join(
        f'<Relationship Id="{identity}" Type="{_RELATIONSHIPS}/{kind}" Target="{target}"/>'
        for identity, (kind, target) in links.items()
    )
    return (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f"{inner}</Relationships>"
    ).encode()


def make_package(
    main: str,
    content_type: str,
    members: Mapping[str, bytes],
    links: Mapping[str, Mapping[str, tuple[str, str]]] | None = None,
) -> bytes:
    """Return an Office container.

    Args:
        main: The name of the main part.
        content_type: What distinguishes the main part's content type, such as `wordprocessingml.document`.
        members: The parts.
        links: For a part, its relationships: id to (kind, target).
    """
    parts = {
        "[Content_Types].xml": (
            '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            '<Default Extension="xml" ContentType="application/xml"/>'
            '<Default Extension="rels"'
            ' ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/{main}"'
            f' ContentType="application/vnd.openxmlformats-officedocument.{content_type}.main+xml"/></Types>'
        ).encode(),
        "_rels/.rels": _relationships({"r0": ("officeDocument", main)}),
        **members,
    }
    for part, found in (links or {}).items():
        folder, _, name = part.rpartition("/")
        parts[f"{folder}/_rels/{name}.rels"] = _relationships(found)
    return zip_members(parts)


def make_raw_pdf(*objects: bytes, root: int = 1) -> bytes:
    """Return a PDF of these objects, numbered from 1, with a correct table of their positions."""
    body = b"%PDF-1.4\n"
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    start = len(body)
    count = len(objects) + 1
    body += b"xref\n0 %d\n0000000000 65535 f \n%s" % (count, table)
    return body + b"trailer<</Size %d/Root %d 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (count, root, start)
