"""Outlook's items, by their MAPI properties, which MSG files and TNEF share: [MS-OXPROPS]."""

from __future__ import annotations

import datetime as dt
import email.utils
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from emberq.errors import CorruptFile
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.mail.mailheader import decode_text
from emberq.pipeline.extract.mail.mailparser import MAX_DEPTH
from emberq.pipeline.extract.mail.mailtext import write_plain
from emberq.pipeline.extract.mail.packed_rtf import unpack_rtf
from emberq.pipeline.extract.mail.smime import signed_content
from emberq.pipeline.extract.pictures import is_picture
from emberq.pipeline.extract.web.markup import write_html
from emberq.pipeline.extract.word.rtf import write_rtf

#: Types of properties.
STRING8: Final = 0x001E
UNICODE: Final = 0x001F
BINARY: Final = 0x0102
OBJECT: Final = 0x000D
TIME: Final = 0x0040

#: Identifiers of properties.
CLASS: Final = 0x001A
SUBJECT: Final = 0x0037
SENT: Final = 0x0039
DELIVERED: Final = 0x0E06
BODY: Final = 0x1000
RTF: Final = 0x1009
HTML: Final = 0x1013
RECIPIENT_TYPE: Final = 0x0C15
NAME: Final = 0x3001
ADDRESS: Final = 0x3003
SMTP: Final = 0x39FE
DATA: Final = 0x3701
SHORT_NAME: Final = 0x3704
LONG_NAME: Final = 0x3707
CONTENT_ID: Final = 0x3712
INLINE_FLAGS: Final = 0x3714
CODE_PAGE: Final = 0x3FFD
INTERNET_CODE_PAGE: Final = 0x3FDE
HIDDEN: Final = 0x7FFE

#: The sender, and the person for whom it was sent: name, address for the internet, address.
_SENDERS: Final = ((0x0042, 0x5D02, 0x0065), (0x0C1A, 0x5D01, 0x0C1F))
#: For each kind of recipient, its number and the property with all names.
_RECIPIENTS: Final = (("To", 1, 0x0E04), ("Cc", 2, 0x0E03), ("Bcc", 3, 0x0E02))
#: A field of a part of mail, and the bytes in which it stands if there is one.
_TYPE: Final = b"content-type:"
_HEADER: Final = 2048

_WORD: Final = re.compile(r"\w+")
#: A text is new if one of so many words is.
_FEW: Final = 10

#: The flag of an attachment that is a part of the text.
_RENDERED: Final = 4


def named(number: int) -> int:
    """Return the key of a property that each file numbers anew, by the number that is its name."""
    return number | 0x10000


#: The classes of mail, which may have such details too.
_MAIL_CLASSES: Final = ("IPM.NOTE", "REPORT.")
#: What appointments, tasks and contacts have besides mail.
_DETAILS: Final = (
    *(("Start", named(0x820D)), ("Start", 0x0060), ("End", named(0x820E)), ("End", 0x0061)),
    *(("Where", named(0x8208)), ("Repeats", named(0x8232)), ("Start", named(0x8104)), ("Due", named(0x8105))),
    *(("Company", 0x3A16), ("Title", 0x3A17), ("Department", 0x3A18), ("Phone", 0x3A08), ("Phone", 0x3A09)),
    *(("Mobile", 0x3A1C), ("Mail", named(0x8083)), ("Address", named(0x801B)), ("Address", 0x3A15)),
)

#: The properties that are read.
WANTED: Final = frozenset(
    (
        *(CLASS, SUBJECT, SENT, DELIVERED, BODY, RTF, HTML, RECIPIENT_TYPE, NAME, ADDRESS, SMTP, SHORT_NAME),
        *(LONG_NAME, CONTENT_ID, INLINE_FLAGS, CODE_PAGE, INTERNET_CODE_PAGE, HIDDEN),
        *(identity for sender in _SENDERS for identity in sender),
        *(identity for _, _, identity in _RECIPIENTS),
        *(identity for _, identity in _DETAILS),
    )
)

#: Windows' numbers of encodings that are no numbers of code pages.
_CODE_PAGES: Final = {
    number: label
    for label, numbers in {
        "utf-8": (65001,),
        "us-ascii": (20127,),
        "utf-16-le": (1200,),
        "utf-16-be": (1201,),
        "koi8-r": (20866,),
        "koi8-u": (21866,),
        "iso-2022-jp": (50220, 50221, 50222),
        "iso-2022-kr": (50225,),
        "euc-jp": (20932, 51932),
        "euc-kr": (20949, 51949),
        "gb2312": (20936, 51936),
        "hz-gb-2312": (52936,),
        "gb18030": (54936,),
        "macintosh": (10000,),
        "x-mac-cyrillic": (10007,),
        "iso-8859-8-i": (38598,),
        **{f"iso-8859-{number}": (28590 + number,) for number in range(1, 16)},
    }.items()
    for number in numbers
}

_EPOCH: Final = dt.datetime(1601, 1, 1, tzinfo=dt.UTC)


def charset_of(code_page: int) -> str:
    """Return the name of an encoding by Windows' number; empty if there is none."""
    return _CODE_PAGES.get(code_page, f"cp{code_page}" if code_page else "")


class Properties:
    """The properties of an item, recipient or attachment: by identifier, the type and the bytes."""

    def __init__(self, values: Mapping[int, tuple[int, bytes]], charset: str = "") -> None:
        """Take them.

        Args:
            values: The properties.
            charset: The encoding of texts that are not Unicode, unless the properties name it.
        """
        self._values = values
        code_page = self.number(CODE_PAGE) or self.number(INTERNET_CODE_PAGE)
        self.charset = charset_of(code_page) or charset

    def kind(self, identity: int) -> int:
        """Return the type of a property; 0 if there is none."""
        return self._values.get(identity, (0, b""))[0]

    def data(self, identity: int) -> bytes:
        """Return the bytes of a property."""
        return self._values.get(identity, (0, b""))[1]

    def number(self, identity: int) -> int:
        """Return a number of up to four bytes."""
        return int.from_bytes(self.data(identity)[:4], "little")

    def text(self, identity: int) -> str:
        """Return a text; a time as it is written in mail."""
        kind, data = self._values.get(identity, (0, b""))
        if kind == UNICODE:
            return data.decode("utf-16-le", "replace").rstrip("\0")
        if kind == TIME:
            return _time(data)
        return decode_text(data.rstrip(b"\0"), self.charset) if kind in {STRING8, BINARY} else ""

    def line(self, identity: int) -> str:
        """Return a text on one line."""
        return squeeze(self.text(identity))


@dataclass(slots=True)
class Attachment:
    """A file or an item in an item.

    Attributes:
        properties: Its properties.
        read: Returns its bytes.
        item: Returns the item that it is, if it is one.
    """

    properties: Properties
    read: Callable[[], bytes]
    item: Callable[[], Item] | None = None


@dataclass(slots=True)
class Item:
    """A mail, appointment, task, contact or note."""

    properties: Properties
    recipients: list[Properties] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)


class ItemWriter:
    """Appends an item to a document, as a mail."""

    def __init__(self, build: DocumentBuilder) -> None:
        """Begin on the first page."""
        self._build = build

    def write(self, item: Item, *, depth: int = 1) -> None:
        """Append an item: its header as a heading and lines, its text, and its attachments.

        Args:
            item: The item.
            depth: The level of its heading.
        """
        properties = item.properties
        self._build.heading(properties.line(SUBJECT) or properties.line(NAME) or "(no subject)", depth)
        self._build.paragraph("\n".join(_head(item)))
        self.write_content(item, depth=depth)

    def write_content(self, item: Item, *, depth: int = 1, known: str = "") -> None:
        """Append the text and the attachments of an item.

        Args:
            item: The item.
            depth: The level of its heading.
            known: A text; if it has nearly all words of the item's, that is not repeated.
        """
        if "SMIME" in item.properties.text(CLASS).upper() and item.attachments:
            self._write_entity(item.attachments[0].read(), depth)
            return
        body = self._body(item.properties)
        found = set(_WORD.findall(body.text.casefold()))
        if len(found - set(_WORD.findall(known.casefold()))) * _FEW > len(found) or not known:
            self._build.append_part(body)
        for number, attachment in enumerate(item.attachments, 2):
            if depth == 1:
                self._build.page = number
            self._attachment(attachment, depth)

    def _body(self, properties: Properties) -> DocumentBuilder:
        """Return the text in a builder of its own: of its versions, the first one with words."""
        versions = (self._write_html, self._write_text, self._write_rtf)
        part = self._build.begin_part()
        for write in versions:
            if part.is_blank:
                part = self._build.begin_part()
                write(properties, part)
        return part

    def _write_html(self, properties: Properties, part: DocumentBuilder) -> None:
        data = properties.data(HTML)
        if not data:
            return
        charset = charset_of(properties.number(INTERNET_CODE_PAGE)) or properties.charset
        if properties.kind(HTML) == UNICODE:
            data, charset = properties.text(HTML).encode("utf-8", "replace"), "utf-8"
        try:
            write_html(data, part, charset=charset)
        except CorruptFile:
            part.warn(WarningCode.PART_UNREADABLE)

    def _write_text(self, properties: Properties, part: DocumentBuilder) -> None:
        write_plain(properties.text(BODY), part, subtype="text/plain", flowed=False, delsp=False)

    def _write_rtf(self, properties: Properties, part: DocumentBuilder) -> None:
        try:
            write_rtf(unpack_rtf(properties.data(RTF), part.meter), part)
        except CorruptFile:
            part.warn(WarningCode.PART_UNREADABLE)

    def _write_entity(self, data: bytes, depth: int) -> None:
        """Append the content of a signed or encrypted mail, which is the only attachment."""
        if _TYPE not in data[:_HEADER].lower():
            content = signed_content(data)
            if content is None:
                self._build.warn(WarningCode.PART_ENCRYPTED)
                return
            data = content
        self._build.attach(b"MIME-Version: 1.0\n" + data.lstrip(), "", level=depth + 1)

    def _attachment(self, attachment: Attachment, depth: int) -> None:
        properties = attachment.properties
        name = properties.line(LONG_NAME) or properties.line(SHORT_NAME) or properties.line(NAME)
        if attachment.item:
            if depth < MAX_DEPTH:
                self.write(attachment.item(), depth=depth + 1)
            else:
                self._build.warn(WarningCode.TRUNCATED_AT_LIMIT, *filter(None, [name]))
            return
        data = attachment.read()
        is_inline = properties.number(HIDDEN) or properties.number(INLINE_FLAGS) & _RENDERED
        if is_picture(data, name) and (is_inline or properties.data(CONTENT_ID)):
            self._build.warn(WarningCode.IMAGES_SKIPPED, *filter(None, [name]))
        elif data or name:
            self._build.attach(data, name, level=depth + 1)


def _head(item: Item) -> Iterator[str]:
    properties = item.properties
    senders = (
        _person(properties.line(name), properties.line(smtp) or properties.line(address))
        for name, smtp, address in _SENDERS
    )
    lines = [("From", next(filter(None, senders), ""))]
    for label, number, names in _RECIPIENTS:
        people = [_recipient(person) for person in item.recipients if person.number(RECIPIENT_TYPE) == number]
        lines.append((label, ", ".join(filter(None, people)) or properties.line(names)))
    lines.append(("Date", properties.text(SENT) or properties.text(DELIVERED)))
    if not properties.text(CLASS).upper().startswith(_MAIL_CLASSES):
        lines += [(label, properties.line(identity)) for label, identity in _DETAILS]
    return (f"{label}: {value}" for label, value in dict.fromkeys(lines) if value)


def _recipient(person: Properties) -> str:
    return _person(person.line(NAME), person.line(SMTP) or person.line(ADDRESS))


def _person(name: str, address: str) -> str:
    """Return a name with its address; addresses inside of an organisation are not shown."""
    address = address if "@" in address and not address.startswith("/") else ""
    return f"{name} <{address}>" if name and address and name != address else name or address


def _time(data: bytes) -> str:
    """Return a moment, given in tenths of microseconds since 1601."""
    if len(data) < 8:  # noqa: PLR2004 - the size of a time
        return ""
    try:
        moment = _EPOCH + dt.timedelta(microseconds=int.from_bytes(data[:8], "little") // 10)
    except OverflowError:
        return ""
    return email.utils.format_datetime(moment) if moment.year < _NEVER else ""


#: The year of a time that Outlook writes for none.
_NEVER: Final = 4500
