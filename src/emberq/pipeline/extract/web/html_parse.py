"""Parses HTML and XHTML of any age and any damage into a tree."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from lxml import etree

from emberq.errors import CorruptFile
from emberq.pipeline.extract.office.ooxml import Element, parse_xml
from emberq.pipeline.extract.text.charsets import decode_declared
from emberq.pipeline.extract.text.decode import decode

#: Bytes at the beginning in which the standard allows the encoding to be declared.
_DECLARATION: Final = 1024
_CHARSET: Final = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""", re.IGNORECASE)

#: Encodings whose bytes are also valid ASCII, because escapes switch between alphabets.
_STATEFUL: Final = ("iso-2022-", "hz")

#: Most characters of a tag of `noscript` after its name.
_LONGEST_TAG: Final = 1000

#: What may hide a `noscript`, or is one; its content is text until its end, whatever elements that opens.
_RAW: Final = re.compile(r"<!--|<(script|style|textarea|title|noscript)\b[^<>]*+>", re.IGNORECASE)
_NOSCRIPT: Final = re.compile("<noscript", re.IGNORECASE)
_ENDS: Final = {
    name: re.compile(rf"</{name}\b[^<>]*+>?", re.IGNORECASE)
    for name in ("script", "style", "textarea", "title", "noscript")
}


class Html(NamedTuple):
    """A parsed page.

    Attributes:
        root: Its root element.
        noscripts: The contents of its `noscript` elements, which their attributes `n` number.
        has_labels: Whether it may have an `aria-label`.
        has_notes: Whether it may have links that are the signs of notes.
    """

    root: Element
    noscripts: tuple[str, ...] = ()
    has_labels: bool = True
    has_notes: bool = True


def parse_html(data: bytes, charset: str | None = None, *, xml: bool = False) -> Html | None:
    """Return a parsed page; None if it has no elements and no text.

    Args:
        data: The bytes.
        charset: The encoding, if the transport named it.
        xml: Whether it should be XHTML, though it may not say so.

    Raises:
        CorruptFile: If the bytes cannot be parsed.
    """
    if xml or data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<?xml"):
        # With the rules of HTML, `<title/>` or `<script/>` would contain the rest of an XHTML file.
        try:
            return Html(parse_xml(data, name="XHTML"))
        except CorruptFile:
            pass
    text, noscripts = _take_noscripts(_decode(data, charset))
    root = parse_text(text)
    if root is None:
        return None
    return Html(root, tuple(noscripts), "aria-label" in text, "<sup" in text or "noteref" in text)


def parse_text(text: str) -> Element | None:
    """Return the root element of HTML; None if it has no elements and no text.

    Raises:
        CorruptFile: If the text cannot be parsed.
    """
    if not text or text.isspace():
        return None
    # `huge_tree`, because the parser would refuse more than 256 levels; the tree is walked without recursion.
    parser = etree.HTMLParser(
        encoding="utf-8", huge_tree=True, no_network=True, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(text.encode("utf-8", "replace"), parser)
    except etree.ParserError:
        root = None
    except etree.XMLSyntaxError as exc:
        if exc.code == etree.ErrorTypes.ERR_NO_MEMORY:
            raise MemoryError from exc
        raise CorruptFile(f"The HTML is damaged: {exc.msg}.") from exc
    # At this limit the parser stops without an exception, and the rest of the file would be missing.
    if any(entry.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT for entry in parser.error_log):
        raise CorruptFile("The HTML is damaged: its elements are nested too deeply.")
    return root


def _take_noscripts(text: str) -> tuple[str, list[str]]:
    """Return a page with its `noscript` elements emptied and numbered, and what was in them.

    As browsers do that run scripts: otherwise an element that a `noscript` opens would contain the rest of
    the page.
    """
    contents: list[str] = []
    # Small letters never make the text shorter, so this is at or after the last one.
    last = text.lower().rfind("<noscript")
    if last < 0:
        return text, contents
    pieces: list[str] = []
    done = at = 0
    ends: dict[str, re.Match[str] | None] = {}
    while found := _RAW.search(text, at, last + len("<noscript") + _LONGEST_TAG):
        at = found.end()
        name = (found[1] or "").lower()
        if not name:
            end = text.find("-->", at)
            at = end if end >= 0 else len(text)
            continue
        end_tag = ends.get(name)
        if name not in ends or (end_tag and end_tag.start() < at):
            # Kept, because to look for it again behind each tag would take the square of their number.
            end_tag = ends[name] = _ENDS[name].search(text, at)
        if name != "noscript":
            at = end_tag.end() if end_tag else at
            continue
        pieces.append(text[done : found.start()])
        done = at
        # An element that is not closed before the next one begins was left open by mistake.
        if end_tag and not _NOSCRIPT.search(text, at, end_tag.start()):
            pieces.append(f'<noscript n="{len(contents)}"></noscript>')
            contents.append(text[at : end_tag.start()])
            done = at = end_tag.end()
    return "".join(pieces) + text[done:], contents


def _decode(data: bytes, charset: str | None) -> str:
    declared = _CHARSET.search(data[:_DECLARATION])
    names = [charset or "", declared[1].decode() if declared else ""]
    if not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        for name in filter(None, names):
            if not name.lower().startswith(_STATEFUL) and _is_utf8(data):
                break
            # As browsers do: windows-1252 contains latin-1.
            known = "cp1252" if name.lower() in {"iso-8859-1", "latin1", "us-ascii"} else name
            if (text := decode_declared(data, known)) is not None:
                return text.replace("\0", "")
    return decode(data).replace("\0", "")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
