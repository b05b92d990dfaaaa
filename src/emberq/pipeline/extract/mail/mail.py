"""Mail: subject, sender, recipients and date, then what a mail program shows, and the attachments."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import BinaryIO, Final

from emberq.errors import CorruptFile
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.mail.mailheader import decode_text, filename, parameter, words
from emberq.pipeline.extract.mail.mailparser import MAX_DEPTH, MESSAGES, Part, find_border, parse
from emberq.pipeline.extract.mail.mailtext import write_plain
from emberq.pipeline.extract.mail.mapi import ItemWriter
from emberq.pipeline.extract.mail.smime import signed_content
from emberq.pipeline.extract.mail.tnef import TNEF_MAGIC, parse_item
from emberq.pipeline.extract.text.calendars import write_calendar
from emberq.pipeline.extract.web.markup import write_html

_SHOWN: Final = ("From", "To", "Cc", "Bcc", "Reply-To", "Date")

#: Parts that are for programs: signatures, style sheets, the second forks of Macintosh files.
_SILENT: Final = frozenset(
    (
        *("application/pkcs7-signature", "application/x-pkcs7-signature", "application/pgp-signature"),
        *("application/pgp-keys", "application/pgp-encrypted", "application/applefile"),
    )
)
#: Versions of a body for programs, which a mail program shows instead of the one for people.
_FOR_PROGRAMS: Final = frozenset(("text/x-amp-html", "text/watch-html"))
_CALENDARS: Final = frozenset(("text/calendar", "application/ics"))
_OPAQUE: Final = frozenset(("application/pkcs7-mime", "application/x-pkcs7-mime"))
_HTML: Final = frozenset(("text/html", "application/xhtml+xml"))
#: Fields of a message: the returned header of a bounce, and the status of deliveries, block by block.
_RETURNED: Final = frozenset(("text/rfc822-headers", "text/rfc822-header", "message/global-headers"))

#: Characters of a body in which an invitation's description is looked for.
_BODY: Final = 100_000

_WORD: Final = re.compile(r"\w+")
_ADDRESS: Final = re.compile(r"<?\b(?:https?|ftp|mailto|cid):\S*", re.IGNORECASE)
_FIELD_FOLD: Final = re.compile(r"\r?\n[ \t]+")


def read(stream: BinaryIO, build: DocumentBuilder, progress: Callable[[int, int], None]) -> int:
    """Read a message; its pages are the parts, and the first page also has the header.

    Returns:
        The number of parts.

    Raises:
        CorruptFile: If its parts are nested too deeply.
        FileTooLarge: If it has too many parts.
    """
    message = parse(_after_prefix(stream))
    writer = MailWriter(build, progress, sum(not part.is_multipart() for part in message.walk()))
    writer.write(message)
    return max(writer.page - 1, 1)


def _after_prefix(stream: BinaryIO) -> BinaryIO:
    """Return the stream where the mail begins.

    Apple Mail writes the length of the mail before it, and its own data after it.
    """
    head = stream.read(_PREFIX)
    begin = len(head) - len(head.lstrip(b"\xef\xbb\xbf\r\n"))
    length = _LENGTH.match(head, begin)
    stream.seek(begin)
    if length:
        stream.seek(length.end())
        return io.BytesIO(stream.read()[: int(length[1])])
    return stream


#: Bytes before a mail in which the prefix is looked for.
_PREFIX: Final = 4096
_LENGTH: Final = re.compile(rb"(\d{1,10})[ \t]*\r?\n")


class MailWriter:
    """Appends a message to a document."""

    def __init__(
        self,
        build: DocumentBuilder,
        progress: Callable[[int, int], None],
        total: int,
        *,
        counts: bool = True,
    ) -> None:
        """Begin with the first part.

        Args:
            build: Takes the text.
            progress: Called after each part with (done, total).
            total: Number of parts.
            counts: Whether each part is a page; otherwise all are on the builder's page.
        """
        self._build = build
        self._progress = progress
        self._total = total
        self._counts = counts
        #: Number of the next part.
        self.page = 1
        self._depth = 1
        self._charset = ""
        #: The words of the last body, and the invitations, of which none is written twice.
        self._body = ""
        self._invitations: set[str] = set()

    def write(self, message: Part, *, untitled: str = "") -> None:
        """Append a message: its header as a heading and lines, then its parts.

        Args:
            message: The message.
            untitled: The heading of a message without a subject.
        """
        outer, self._charset = self._charset, _charset_of(message)
        self._place()
        self._head(message, untitled)
        self._part(message)
        self._charset = outer

    def _place(self) -> None:
        if self._counts:
            self._build.page = self.page

    def _head(self, message: Part, untitled: str = "") -> None:
        self._build.heading(self._field(message, "Subject") or untitled, self._depth)
        lines = ((name, self._field(message, name)) for name in _SHOWN)
        self._build.paragraph("\n".join(f"{name}: {value}" for name, value in lines if value))

    def _field(self, message: Part, name: str) -> str:
        values = [words(value, charset=self._charset) for value in message.get_all(name, [])]
        return values[0] if name == "Subject" and values else ", ".join(filter(None, values))

    def _part(self, part: Part, *, is_body: bool = False) -> None:
        """Append a part with the parts in it; a body is no attachment, though it may have a name."""
        kind = part.kind
        children = part.parts
        if kind in _SILENT or (kind == "text/css" and part.disposition != "attachment"):
            return
        if kind in MESSAGES and children:
            self._inner(children[0])
        elif kind == "multipart/encrypted":
            self._build.warn(WarningCode.PART_ENCRYPTED)
        elif kind == "multipart/alternative":
            self._alternative(children)
        elif kind == "multipart/related" and children:
            self._related(part, children)
        elif children:
            for child in children:
                self._part(child)
        elif kind.startswith("multipart/") and (border := find_border(part)):
            again = f'Content-Type: {kind}; boundary="{border}"\n\n'.encode("ascii", "replace")
            for child in parse(io.BytesIO(again + part.raw())).parts:
                self._part(child)
        else:
            self._place()
            self._leaf(part, kind, is_body=is_body)
            self._progress(min(self.page, self._total), self._total)
            self.page += 1

    def _inner(self, message: Part) -> None:
        """Append a message inside the message."""
        if self._depth >= MAX_DEPTH:
            self._build.warn(WarningCode.TRUNCATED_AT_LIMIT, *filter(None, [self._field(message, "Subject")]))
            return
        self._depth += 1
        self.write(message, untitled="(no subject)")
        self._depth -= 1

    def _alternative(self, children: list[Part]) -> None:
        """Append the last version with text, then the lines that only the plain version has.

        Most programs write the same words into all versions. Where they do not, each reader of the mail sees
        others, and a search should find all of them.
        """
        versions = [child for child in children if _is_version(child)]
        plain = next((child for child in versions if child.kind == "text/plain"), None)
        first_page = self.page
        for version in reversed(versions):
            self.page = first_page
            written = self._separately(version)
            if not written.is_blank or version is versions[0]:
                self._build.append_part(written)
                self._body = squeeze(written.text[:_BODY])
                if plain and plain is not version:
                    self._missing(plain, written.text)
                break
        for child in children:
            if not _is_version(child) and child.kind not in _FOR_PROGRAMS:
                self._part(child)

    def _separately(self, part: Part) -> DocumentBuilder:
        """Return what a part has, in a builder of its own."""
        outer, self._build = self._build, self._build.begin_part()
        self._part(part, is_body=True)
        written, self._build = self._build, outer
        return written

    def _missing(self, plain: Part, written: str) -> None:
        """Append the lines of a plain text that have words which are not in what is written."""
        text = _ADDRESS.sub("", decode_text(plain.content(), plain.charset))
        new = set(_WORD.findall(text.casefold())) - set(_WORD.findall(written.casefold()))
        lines = []
        for line in text.splitlines() if new else ():
            found = set(_WORD.findall(line.casefold()))
            if found and 2 * len(found & new) >= len(found):
                lines.append(line.strip())
        self._build.paragraph("\n".join(lines))
        self._body = squeeze(f"{self._body} {' '.join(lines)}"[:_BODY])

    def _related(self, part: Part, children: list[Part]) -> None:
        """Append a page; its pictures are told, and other files for it are attachments."""
        start = parameter(part, "start")
        root = next((child for child in children if start and child.get("Content-ID") == start), children[0])
        self._part(root)
        for child in children:
            if child is root:
                continue
            if child.kind.startswith("image/") and child.disposition != "attachment":
                self._build.warn(WarningCode.IMAGES_SKIPPED, *filter(None, [filename(child)]))
            else:
                self._part(child)

    def _leaf(self, part: Part, kind: str, *, is_body: bool) -> None:
        """Append a part without parts."""
        name = filename(part, charset=self._charset)
        if kind in MESSAGES:
            self._encoded_message(part)
        elif kind in _OPAQUE or name.lower().endswith(".p7m"):
            self._opaque(part, name)
        elif kind == "message/external-body":
            where = [parameter(part, key) for key in ("url", "site", "directory", "name")]
            self._build.paragraph("Attachment elsewhere: " + " ".join(filter(None, where)))
        elif kind == "message/partial":
            self._partial(part)
        elif kind in _RETURNED:
            self._inner(parse(io.BytesIO(part.content())))
        elif kind.startswith("message/"):
            self._fields(part)
        elif kind in _CALENDARS:
            self._calendar(part, name)
        elif is_body or (
            kind.startswith(("text/", "multipart/")) and not name and part.disposition != "attachment"
        ):
            self._text(part, kind)
        else:
            self._attachment(part, kind, name)

    def _text(self, part: Part, kind: str) -> None:
        data = part.content()
        if kind not in _HTML:
            flowed = parameter(part, "format").lower() == "flowed"
            delsp = parameter(part, "delsp").lower() == "yes"
            text = decode_text(data, part.charset)
            self._body = squeeze(text[:_BODY])
            write_plain(text, self._build, subtype=kind, flowed=flowed, delsp=delsp)
            return
        try:
            write_html(data, self._build, charset=part.charset)
        except CorruptFile:
            self._build.warn(WarningCode.PART_UNREADABLE)

    def _attachment(self, part: Part, kind: str, name: str) -> None:
        data = part.content()
        if data.startswith(TNEF_MAGIC):
            self._outlook(data, name)
            return
        if kind.startswith("text/") and part.charset:
            # What reads the attachment cannot know what the mail says of its encoding.
            data = decode_text(data, part.charset).encode("utf-8", "replace")
        if data or name:
            self._build.attach(data, name, level=self._depth + 1)

    def _outlook(self, data: bytes, name: str) -> None:
        """Append what Outlook sent beside the plain text: its text, unless it is the same, and files."""
        try:
            item = parse_item(data)
        except CorruptFile:
            self._build.warn(WarningCode.ATTACHMENT_UNREADABLE, *filter(None, [name]))
            return
        ItemWriter(self._build).write_content(item, depth=self._depth, known=self._body)

    def _encoded_message(self, part: Part) -> None:
        """Append a message that is encoded for transfer, or is declared so."""
        inner = parse(io.BytesIO(part.content()))
        self._inner(inner if inner.keys() else parse(io.BytesIO(part.raw())))

    def _opaque(self, part: Part, name: str) -> None:
        content = signed_content(part.content())
        if content is None:
            self._build.warn(WarningCode.PART_ENCRYPTED, *filter(None, [name]))
            return
        inner = parse(io.BytesIO(content))
        self._depth += 1
        if self._depth <= MAX_DEPTH:
            self._part(inner)
        self._depth -= 1

    def _partial(self, part: Part) -> None:
        """Append the first piece of a message that was sent in pieces; other pieces have no header."""
        number, total = parameter(part, "number"), parameter(part, "total")
        if number == "1":
            self._inner(parse(io.BytesIO(part.content())))
        if (number, total) != ("1", "1"):
            self._build.warn(WarningCode.PART_UNREADABLE, f"piece {number} of {total or 'several'}")

    def _fields(self, part: Part) -> None:
        """Append fields, such as the status of a delivery: a paragraph for each block."""
        text = _FIELD_FOLD.sub(" ", decode_text(part.content(), part.charset).replace("\r\n", "\n"))
        for block in text.split("\n\n"):
            self._build.paragraph("\n".join(words(line) for line in block.split("\n")))

    def _calendar(self, part: Part, name: str) -> None:
        """Append an invitation, once: many programs send it as a part and as an attachment too."""
        text = decode_text(part.content(), part.charset)
        if (written := squeeze(text)) and written not in self._invitations:
            self._invitations.add(written)
            self._build.heading(name, self._depth + 1)
            write_calendar(text, self._build, level=self._depth + 1, known=self._body)


def _is_version(part: Part) -> bool:
    """Return whether a part is a version of the body, and not an invitation or attachment beside it."""
    kind = part.kind
    return kind.startswith(("text/", "multipart/")) and not (
        kind in _CALENDARS or kind in _FOR_PROGRAMS or part.disposition == "attachment"
    )


def _charset_of(message: Part) -> str:
    """Return the encoding of the first text of a message."""
    for at, part in enumerate(message.walk()):
        if part.kind.startswith("text/") and part.charset:
            return part.charset
        if at == _CHARSET_PARTS:
            break
    return ""


#: Parts among which a text with a declared encoding is looked for.
_CHARSET_PARTS: Final = 10
