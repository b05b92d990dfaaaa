"""The container of Word and PowerPoint files: a ZIP archive of XML parts, linked by relationships."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, BinaryIO, Final, NamedTuple, TypeAlias
from urllib.parse import unquote

from lxml import etree

from emberq.errors import CorruptFile
from emberq.pipeline.extract.limits import Meter
from emberq.pipeline.extract.packed.archive import open_archive, read_member

#: An lxml element; lxml publishes no types.
Element: TypeAlias = Any


class Relationship(NamedTuple):
    """A link from one part to another.

    Attributes:
        kind: The last word of its type, e.g. `slide`.
        part: The name of the linked part.
    """

    kind: str
    part: str


class _Links(NamedTuple):
    """The links of one part: to parts, and to the outside."""

    parts: dict[str, Relationship]
    targets: dict[str, str]


class Package:
    """An open container; parts are parsed on demand and not cached."""

    def __init__(self, stream: BinaryIO, meter: Meter) -> None:
        """Open a container.

        Raises:
            ArchiveBomb: If the container would unpack to far more than a document has.
            CorruptFile: If the container cannot be read.
        """
        self._meter = meter
        self._archive = open_archive(stream, meter)
        # The standard compares names without regard to case, and some programs write backslashes.
        self._names = {name.replace("\\", "/").lower(): name for name in self._archive.namelist()}
        self._links: dict[str, _Links] = {}

    def main_part(self) -> str:
        """Return the name of the document's main part.

        Raises:
            CorruptFile: If the container does not name it.
        """
        for relationship in self.relationships("").values():
            if relationship.kind == "officeDocument":
                return relationship.part
        raise CorruptFile("The file is damaged: it does not name its main part.")

    def xml(self, part: str) -> Element:
        """Return the root element of a part.

        Raises:
            ArchiveBomb: If the file unpacks to far more than a document has.
            CorruptFile: If the part is missing or not well-formed.
            EncryptedFile: If the part is protected by a password.
        """
        return parse_xml(self.read(part), name=part)

    def read(self, part: str) -> bytes:
        """Return the bytes of a part; errors as for `xml`."""
        return read_member(self._archive, self._names.get(part.lower(), part), self._meter)

    def relationships(self, part: str) -> dict[str, Relationship]:
        """Return a part's links to existing parts, by id; for an empty name, the links of the container."""
        return self._links_of(part).parts

    def targets(self, part: str) -> dict[str, str]:
        """Return a part's links to the outside, such as web pages, by id."""
        return self._links_of(part).targets

    def _links_of(self, part: str) -> _Links:
        if part not in self._links:
            self._links[part] = self._read_links(part)
        return self._links[part]

    def _read_links(self, part: str) -> _Links:
        folder, name = posixpath.split(part)
        source = posixpath.join(folder, "_rels", f"{name}.rels")
        links = _Links({}, {})
        if source.lower() not in self._names:
            return links
        for link in self.xml(source):
            identity, target = link.get("Id", ""), link.get("Target", "")
            if link.get("TargetMode") == "External":
                links.targets[identity] = target
                continue
            # A target is relative to the part, or absolute from the root of the container.
            path = posixpath.normpath(posixpath.join("/", folder, unquote(target).replace("\\", "/"))).lstrip(
                "/"
            )
            if path.lower() in self._names:
                kind = link.get("Type", "").rpartition("/")[2]
                links.parts[identity] = Relationship(kind, self._names[path.lower()].replace("\\", "/"))
        return links

    def linked(self, part: str, *kinds: str) -> Iterator[str]:
        """Yield the names of the parts that a part links to with these kinds, each once, kind by kind."""
        links = list(dict.fromkeys(self.relationships(part).values()))
        for kind in kinds:
            yield from (link.part for link in links if link.kind == kind)


#: Options that resolve no entity, read no document type and fetch nothing from outside the file.
SAFE: Final[dict[str, bool]] = {
    "resolve_entities": False,
    "no_network": True,
    "load_dtd": False,
    "dtd_validation": False,
    "huge_tree": False,
    "remove_comments": True,
    "remove_pis": True,
}


def parse_xml(data: bytes, *, name: str) -> Element:
    """Parse XML from an untrusted file.

    Raises:
        CorruptFile: If the XML is not well-formed.
        MemoryError: If the memory does not suffice.
    """
    try:
        root = etree.fromstring(data, etree.XMLParser(**SAFE))
    except etree.XMLSyntaxError as exc:
        if exc.code == etree.ErrorTypes.ERR_NO_MEMORY:
            raise MemoryError from exc
        raise CorruptFile(f"The part {name} is damaged: {exc.msg}.") from exc
    if root is None:
        raise CorruptFile(f"The part {name} is empty.")
    return root


def local_name(element: Element) -> str:
    """Return an element's name without its namespace.

    Strict and transitional files differ only in the namespaces.
    """
    return _local(element.tag)


@lru_cache(maxsize=4096)
def _local(tag: object) -> str:
    """Return the local name of a tag; comments and entities have none."""
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def attribute(element: Element, name: str, default: str = "") -> str:
    """Return the value of an attribute with any namespace; an attribute without one comes first."""
    if (value := element.get(name)) is not None:
        return str(value)
    for key, value in element.items():
        if key.rpartition("}")[2] == name:
            return str(value)
    return default
