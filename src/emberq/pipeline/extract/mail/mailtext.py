"""The plain text of mail: lines that flow, files and signatures that are written into it."""

from __future__ import annotations

import re
from typing import Final

from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.extract.builder import DocumentBuilder
from emberq.pipeline.extract.mail.mailparser import unuuencode
from emberq.pipeline.extract.text.text import write_text

_SIGNATURE: Final = "-- "

#: OpenPGP's blocks, RFC 4880: what is encrypted, keys and signatures; and the lines before a signed text.
_ARMOUR: Final = re.compile(
    r"^-----BEGIN PGP (MESSAGE|SIGNATURE|PUBLIC KEY BLOCK|PRIVATE KEY BLOCK)-----[ \t]*$", re.MULTILINE
)
_SIGNED: Final = re.compile(
    r"^-----BEGIN PGP SIGNED MESSAGE-----[ \t]*\n(?:[A-Za-z-]+:[^\n]*\n)*\n?", re.MULTILINE
)
_DASHED: Final = re.compile(r"^- (?=-)", re.MULTILINE)

_UUENCODED: Final = re.compile(
    r"^begin [0-7]{3,4} ([^\n]{1,255})\n((?:[!-`][^\n]{0,90}\n)+?)`?[ \t]*\n?end[ \t]*$", re.MULTILINE
)

#: The tags of text/enriched, RFC 1896, and of its predecessor text/richtext.
_TAG: Final = re.compile(r"<(<)|</?[A-Za-z][A-Za-z0-9-]{0,60}>")
_PARAMETERS: Final = re.compile(r"<param>[^<]*</param>", re.IGNORECASE)


def write_plain(text: str, build: DocumentBuilder, *, subtype: str, flowed: bool, delsp: bool) -> None:
    """Append the plain text of a mail.

    Args:
        text: The text.
        build: Takes it.
        subtype: Its media type.
        flowed: Whether lines that end with a space go on in the next one (RFC 3676).
        delsp: Whether that space is no part of the text.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if subtype in {"text/enriched", "text/richtext"}:
        text = _TAG.sub(lambda tag: tag[1] or "", _PARAMETERS.sub("", text))
    if flowed:
        text = unflow(text, delsp=delsp)
    if "-----BEGIN PGP " in text:
        text = _without_armour(text, build)
    at = 0
    for file in _UUENCODED.finditer(text) if "\nend" in text else ():
        write_text(text[at : file.start()].strip("\n"), build)
        build.attach(unuuencode(file[2].encode("ascii", "replace")), file[1].strip())
        at = file.end()
    write_text(text[at:].strip("\n"), build)


def unflow(text: str, *, delsp: bool) -> str:
    """Join the lines of a text that flow into each other."""
    lines: list[str] = []
    pieces: list[str] = []
    open_depth = -1
    for line in text.split("\n"):
        depth = len(line) - len(line.lstrip(">"))
        content = line[depth:].removeprefix(" ")
        is_signature = content == _SIGNATURE
        if depth != open_depth or is_signature:
            lines.append("".join(pieces))
            pieces = [">" * depth, " " if depth and content else ""]
        flows = content.endswith(" ") and not is_signature
        pieces.append(content[:-1] if flows and delsp else content)
        open_depth = depth if flows else -1
    return "\n".join([*lines[1:], "".join(pieces)])


def _without_armour(text: str, build: DocumentBuilder) -> str:
    if _SIGNED.search(text):
        text = _DASHED.sub("", _SIGNED.sub("", text))
    pieces: list[str] = []
    unended: set[str] = set()
    at = 0
    for begin in _ARMOUR.finditer(text):
        kind = begin[1]
        if begin.start() < at or kind in unended:
            continue
        mark = f"\n-----END PGP {kind}-----"
        end = text.find(mark, begin.end())
        if end < 0:
            # The text only mentions the line. No later beginning of this kind has an end either.
            unended.add(kind)
            continue
        pieces.append(text[at : begin.start()])
        at = end + len(mark)
        if kind == "MESSAGE":
            build.warn(WarningCode.PART_ENCRYPTED)
    return "".join((*pieces, text[at:]))
