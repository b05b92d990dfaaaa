"""A mail with an attachment, in the form in which mail programs store it."""

from __future__ import annotations

from email.charset import QP, Charset
from email.encoders import encode_base64
from email.header import Header
from email.mime.base import MIMEBase
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

__all__ = ["make_eml"]

#: Stands in the source between the body and the name of the attachment.
ATTACHMENT = "\n=== attachment "

#: Any text that does not occur in the parts.
BOUNDARY = "----=_emberq_sample_0001"


def _header(value: str) -> str:
    """Return the value as RFC 2047 wants it: plain if ASCII, else encoded, an address left as it is."""
    if value.isascii():
        return value
    name, bracket, address = value.partition(" <")
    return Header(name, "utf-8", maxlinelen=200).encode() + bracket + address


def make_eml(source: str) -> bytes:
    """Render a source of header lines, a blank line, a body, and one CSV attachment after its marker."""
    message, _, attachment = source.partition(ATTACHMENT)
    head, _, body = message.partition("\n\n")
    name, _, rows = attachment.partition("\n")
    charset = Charset("utf-8")
    charset.body_encoding = QP
    csv = MIMEBase("text", "csv", charset="utf-8", name=name)
    csv.add_header("Content-Disposition", "attachment", filename=name)
    csv.set_payload(rows.encode())
    encode_base64(csv)
    mail = MIMEMultipart("mixed", BOUNDARY, [MIMEText(body, "plain", charset), csv])  # type: ignore[arg-type]
    for line in head.splitlines():
        key, _, value = line.partition(": ")
        mail[key] = _header(value)
    return mail.as_bytes()
