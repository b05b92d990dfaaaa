"""Every mail that a mail program shows is read as it shows it."""

from __future__ import annotations

import base64
import io
import time

import pytest

from emberq.errors.file_warnings import FileWarning, WarningCode
from emberq.pipeline.document import Document
from emberq.pipeline.extract import media
from emberq.pipeline.extract.detect import detect_stream
from emberq.pipeline.extract.mail.mailheader import unbase64, words
from emberq.pipeline.extract.mail.mailtext import unflow
from emberq.pipeline.extract.read import extract_stream
from tests.harness import sample_files as files

HEAD = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: Lager\r\nMIME-Version: 1.0\r\n"
HTML_PART = b"Content-Type: text/html; charset=utf-8\r\n\r\n"
PLAIN_PART = b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
INVITATION = """BEGIN:VCALENDAR
METHOD:REQUEST
BEGIN:VTIMEZONE
TZID:Europe/Berlin
BEGIN:STANDARD
DTSTART:16011028T030000
END:STANDARD
END:VTIMEZONE
BEGIN:VEVENT
UID:1
SUMMARY:Inventur\\, Halle 2
DTSTART;TZID=Europe/Berlin:20260302T100000
DTEND;TZID=Europe/Berlin:20260302T113000
LOCATION:Tor 4
ORGANIZER;CN="Meier: Anna":mailto:anna@example.org
ATTENDEE;ROLE=OPT-PARTICIPANT;PARTSTAT=ACCEPTED;CN=Bert:mailto:ber
 t@example.org
RRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE
DESCRIPTION:Bitte Listen mitbringen.\\nDanke
BEGIN:VALARM
DESCRIPTION:Reminder
END:VALARM
END:VEVENT
END:VCALENDAR
"""


def read(data: bytes) -> Document:
    return extract_stream(io.BytesIO(data), media_type=detect_stream(io.BytesIO(data)))


def mixed(*parts: bytes, kind: str = "mixed", head: bytes = HEAD) -> bytes:
    body = b"".join(b"--b1\r\n" + part + b"\r\n" for part in parts)
    return head + f'Content-Type: multipart/{kind}; boundary="b1"\r\n\r\n'.encode() + body + b"--b1--\r\n"


def alternative(*parts: bytes) -> bytes:
    return mixed(*parts, kind="alternative")


def headings(document: Document) -> list[tuple[str, int]]:
    return [(document.text[s.start : s.end], s.level) for s in document.segments if s.kind == "heading"]


@pytest.mark.parametrize(
    "field",
    ["msip_labels:", "X-AOL-SCOLL-URL_COUNT: 5", "X.y/z+(1)!: a", "x-empty:"],
)
def test_a_field_may_have_any_printable_name(field: str) -> None:
    document = read(HEAD + field.encode() + b"\r\nContent-Transfer-Encoding: base64\r\n\r\nTMOkdWZ0Lgo=\r\n")

    assert document.media_type == media.EML
    assert "Läuft." in document.text
    assert field.partition(":")[0] not in document.text


@pytest.mark.parametrize(
    "head",
    [
        b"From bob@example.org Mon Mar  2 10:00:00 2026\nFrom: b@example.org\nSubject: x\n",
        b"X-Unsent: 1\nTo: bert@example.org\nSubject: x\nMIME-Version: 1.0\n",
        b"\xef\xbb\xbf\r\n\r\nReturn-Path: <>\r\nSubject: x\r\nMessage-ID: <1@x>\r\n",
        b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n",
        b"From bob@example.org\r\nReturn-Path: <a@b>\r\nFrom: a@b\r\nSubject: x\r\n",
        b"From: a@b\nReceived: by c,\nbroken line\nTo: c\nSubject : x\nMessage-ID: <1@x>\n",
        b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n",
        b"Path: news!not-for-mail\nFrom: a@b\nNewsgroups: de.test\nSubject: x\n",
    ],
    ids=["from-line", "draft", "mark", "bare", "short-from-line", "broken-line", "parts", "news"],
)
def test_a_mail_is_told_by_its_header(head: bytes) -> None:
    document = read(head + b"\nThe body.\n")

    assert document.media_type == media.EML
    assert headings(document) == [("x", 1)]
    assert "The body." in document.text


@pytest.mark.parametrize(
    "text",
    [
        b"Note: ring Anna\nTo: do\nDate: today\n\nwords\n",
        b"From here on: nothing.\nTo: be\nSubject: open\n",
        b"Subject: none\nFrom: a\nthis line is no field\nTo: b\nDate: c\n\nwords\n",
        b"Metadata-Version: 2.1\nName: emberq\nVersion: 1\nKeywords: a\n\nwords\n",
    ],
)
def test_text_that_begins_with_words_and_colons_stays_text(text: bytes) -> None:
    assert detect_stream(io.BytesIO(text)) == media.TEXT


def test_binary_parts_do_not_hide_a_mail() -> None:
    picture = b"Content-Type: image/png; name=a.png\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    document = read(mixed(PLAIN_PART + b"words", picture + files.PNG + bytes(range(256)) * 20))

    assert document.media_type == media.EML
    assert "words" in document.text


def test_what_apple_mail_saves_is_a_mail() -> None:
    mail = HEAD.replace(b"\r\n", b"\n") + b"\nThe body.\n"
    plist = b'<?xml version="1.0"?><plist><dict><key>flags</key></dict></plist>\n'

    document = read(b"%d      \n" % len(mail) + mail + plist)

    assert document.media_type == media.EML
    assert document.text.endswith("The body.")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "koi8-r"])
def test_raw_bytes_in_a_header_are_read(encoding: str) -> None:
    words = {"koi8-r": "Договор на склад"}.get(encoding, "Kündigung der Lagerräume für Müller")
    mail = f"From: a@b\nTo: c@d\nSubject: {words}\nContent-Type: text/plain; charset={encoding}\n\n{words}\n"

    document = read(mail.encode(encoding))

    assert headings(document) == [(words, 1)]
    assert document.text.count(words) == 2


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("=?utf-8?q?M=C3?= =?utf-8?q?=BCller?=", "Müller"),
        ("=?UTF-8?B?TcO8?=\r\n =?utf-8?B?bGxlcg==?= <a@b>", "Müller <a@b>"),
        ("=?utf-8*de?q?M=C3=BCller?=", "Müller"),
        ("=?utf-8?b?TcO8bGxlcg?=", "Müller"),
        ("=?iso-8859-1?q?Wie geht=3F es??= a", "Wie geht? es? a"),
        ("=?utf-8?q?a?= b =?utf-8?q?c?=", "a b c"),
        ("=?utf-8?q?a?= =?iso-8859-1?q?=E4?=", "aä"),
        ("=?x-sjis?b?k/qWe4zq?=", "日本語"),
        ("=?punycode?q?a-b?=", "a-b"),
        ("=?broken", "=?broken"),
    ],
)
def test_encoded_words_are_decoded(written: str, shown: str) -> None:
    assert words(written) == shown


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("iso-8859-8-i", "iso8859-8", "שלום עולם"),
        ("ks_c_5601-1987", "cp949", "똠방각하 견적서"),
        ("gb2312", "gbk", "朱镕基先生的合同"),
        ("windows-874", "cp874", "สวัสดีชาวโลก"),
        ("x-sjis", "cp932", "見積書①を送付"),
        ("x-mac-cyrillic", "mac-cyrillic", "Договор на склад"),
        ("csISO2022JP", "iso2022_jp", "見積書を送付"),
    ],
)
def test_the_labels_of_browsers_name_encodings(label: str, codec: str, text: str) -> None:
    head = f'Content-Type: text/plain; charset="{label}"\r\n\r\n'.encode()

    assert text in read(HEAD + head + text.encode(codec)).text


@pytest.mark.parametrize("declared", ["utf-8", "windows-1252", "iso-8859-15", "us-ascii", "x-none", "utf-7"])
@pytest.mark.parametrize("real", ["utf-8", "cp1252"])
def test_a_wrong_charset_does_no_harm(declared: str, real: str) -> None:
    head = f"Content-Type: text/plain; charset={declared}\r\n\r\n".encode()

    assert (
        "Größe der Lieferung für Köln" in read(HEAD + head + "Größe der Lieferung für Köln".encode(real)).text
    )


def test_an_html_part_without_text_leaves_the_plain_text() -> None:
    document = read(alternative(PLAIN_PART + b"the real text", HTML_PART + b'<img src="cid:1">'))

    assert "the real text" in document.text
    assert document.page_count == 1


def test_lines_that_only_the_plain_text_has_follow_the_html() -> None:
    plain = (
        PLAIN_PART
        + b"Dear Bert,\r\nthe price is 4711 euro.\r\n> An older question\r\nhttps://example.org/x\r\n"
    )
    html = HTML_PART + b"<p>Dear Bert,</p><p>the <b>price</b> is 4711 euro.</p>"

    text = read(alternative(plain, html)).text

    assert text.count("price") == 1
    assert "> An older question" in text
    assert "https" not in text


def test_an_invitation_follows_the_body_in_words_and_once() -> None:
    calendar = INVITATION.encode()
    attached = b'Content-Type: application/ics; name="invite.ics"\r\nContent-Disposition: attachment\r\n\r\n'
    body = alternative(
        PLAIN_PART + b"Bitte Listen mitbringen.\r\nDanke",
        HTML_PART + b"<p>Bitte Listen mitbringen.<br>Danke</p>",
        b"Content-Type: text/calendar; charset=utf-8; method=REQUEST\r\n\r\n" + calendar,
    ).removeprefix(HEAD)

    document = read(mixed(body.replace(b"b1", b"b2"), attached + calendar))

    assert document.text.count("Bitte Listen") == 1
    assert document.text.count("Tor 4") == 1
    assert headings(document)[1] == ("Invitation: Inventur, Halle 2", 2)
    assert (
        "When: 2026-03-02 10:00 (Europe/Berlin) to 2026-03-02 11:30 (Europe/Berlin)\n"
        "Where: Tor 4\n"
        "Organizer: Meier: Anna <anna@example.org>\n"
        "Attendees: Bert <bert@example.org> (optional, accepted)\n"
        "Repeats: weekly, every 2, on MO, WE" in document.text
    )
    assert "BEGIN" not in document.text
    assert "Reminder" not in document.text


@pytest.mark.parametrize("transfer", [b"7bit", b"base64", b"quoted-printable"])
@pytest.mark.parametrize("declared", [b"base64", b"8bit"])
def test_a_mail_inside_is_read_however_it_is_encoded(transfer: bytes, declared: bytes) -> None:
    inner = HEAD.replace(b"Lager", b"Angebot") + b"\r\nDer Preis ist 4711 Euro.\r\n"
    encoded = base64.encodebytes(inner) if transfer == b"base64" else inner
    transfer = declared if transfer == b"7bit" else transfer
    part = (
        b'Content-Type: message/rfc822; name="a.eml"\r\nContent-Transfer-Encoding: ' + transfer + b"\r\n\r\n"
    )

    document = read(mixed(PLAIN_PART + b"see below", part + encoded))

    assert headings(document) == [("Lager", 1), ("Angebot", 2)]
    assert "Der Preis ist 4711 Euro." in document.text


def test_a_bounce_has_its_status_and_the_returned_header() -> None:
    status = (
        b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n\r\n"
        b"Status: 5.1.1\r\nDiagnostic-Code:\r\n smtp; 550 no mailbox\r\n"
    )
    returned = b"Content-Type: text/rfc822-headers\r\n\r\nSubject: =?utf-8?q?Schl=C3=BCssel?=\r\nTo: x@y\r\n"

    text = read(mixed(PLAIN_PART + b"Not delivered.", status, returned, kind="report")).text

    assert (
        "Not delivered.\n\nReporting-MTA: dns; mx\n\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 no mailbox"
        in text
    )
    assert "Schlüssel\n\nTo: x@y" in text


def test_what_stays_outside_of_a_mail_is_told() -> None:
    elsewhere = (
        b'Content-Type: message/external-body; access-type=URL; URL="https://example.org/a.pdf"\r\n\r\n'
        b"Content-Type: application/pdf\r\n\r\n"
    )
    piece = (
        b"Content-Type: message/partial; id=x; number=1; total=3\r\n\r\n" + HEAD + b"\r\nThe beginning.\r\n"
    )

    document = read(mixed(elsewhere, piece))

    assert "Attachment elsewhere: https://example.org/a.pdf" in document.text
    assert "The beginning." in document.text
    assert document.warnings == (FileWarning(WarningCode.PART_UNREADABLE, 1, ("piece 1 of 3",)),)


def test_flowed_lines_are_joined() -> None:
    text = "A line that \nflows on.\n\n> quoted \n> too\n>> deeper\n-- \nAnna\n  indented\n"

    assert unflow(text, delsp=False) == (
        "A line that flows on.\n\n> quoted too\n>> deeper\n-- \nAnna\n indented\n"
    )
    assert unflow("日本 \n語\n", delsp=True) == "日本語\n"


def test_flowed_text_is_joined_in_linear_time() -> None:
    started = time.process_time()

    unflow("word \n" * 300_000, delsp=False)

    assert time.process_time() - started < 3


def test_pictures_are_told_as_such() -> None:
    picture = b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(files.PNG)
    inline = b"Content-Type: image/png; name=logo.png\r\nContent-ID: <1>\r\n" + picture
    attached = (
        b"Content-Type: application/octet-stream; name=scan.png\r\nContent-Disposition: attachment\r\n"
        + picture
    )
    page = mixed(HTML_PART + b"<p>words</p>", inline, kind="related", head=b"").replace(b"b1", b"b2")

    damaged = b"Content-Type: image/jpeg; name=cut.jpg\r\n\r\n\1\2\3\4\5\6"

    document = read(mixed(page, attached, damaged))

    names = ("logo.png", "scan.png", "cut.jpg")
    assert document.warnings == (FileWarning(WarningCode.IMAGES_SKIPPED, 3, names),)
    assert "logo.png" not in document.text
    assert "Attachment: scan.png" in document.text


def test_a_name_in_pieces_is_put_together() -> None:
    part = (
        b"Content-Type: text/plain\r\nContent-Disposition: attachment;\r\n filename*0*=utf-8''Gr%C3;\r\n"
        b" filename*1*=%BC%C3%9Fe;\r\n filename*2=-2026.txt\r\n\r\nwords"
    )

    assert headings(read(mixed(part)))[1] == ("Grüße-2026.txt", 2)


def test_an_attached_text_is_read_in_the_encoding_that_the_mail_names() -> None:
    part = b"Content-Type: text/plain; charset=koi8-r; name=a.txt\r\n\r\n" + "Цена".encode("koi8-r")

    assert "Цена" in read(mixed(PLAIN_PART + b"words", part)).text


def test_a_signed_message_is_read_and_an_encrypted_one_told() -> None:
    def element(tag: int, *content: bytes) -> bytes:
        inner = b"".join(content)
        return bytes((tag, 0x82)) + len(inner).to_bytes(2) + inner

    entity = PLAIN_PART + "Das Geheime läuft.".encode()
    octets = element(0x24, element(0x04, entity[:20]), element(0x04, entity[20:]))
    data_id, signed_id = bytes.fromhex("06092a864886f70d010701"), bytes.fromhex("06092a864886f70d010702")
    content = element(0x30, data_id, b"\xa0\x80" + octets + b"\0\0")
    signed = element(
        0x30, signed_id, element(0xA0, element(0x30, b"\x02\x01\x01", b"\x31\0", content, b"\x31\0"))
    )
    head = (
        HEAD
        + b"Content-Type: application/pkcs7-mime; name=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    )

    assert "Das Geheime läuft." in read(head + base64.encodebytes(signed)).text
    encrypted = read(head + base64.encodebytes(signed.replace(signed_id, signed_id[:-1] + b"\x03")))
    assert encrypted.warnings == (FileWarning(WarningCode.PART_ENCRYPTED, 1, ("smime.p7m",)),)
    assert "Lager" in encrypted.text


def test_signatures_are_no_attachments() -> None:
    signature = b"Content-Type: application/pkcs7-signature; name=smime.p7s\r\n"
    signature += b"Content-Disposition: attachment\r\n\r\nx"

    document = read(mixed(PLAIN_PART + b"words", signature, kind="signed"))

    assert document.warnings == ()
    assert "smime" not in document.text


def test_openpgp_is_told_and_signed_text_is_plain() -> None:
    signed = (
        "-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA512\r\n\r\n- -- a list\r\n"
        "-----BEGIN PGP SIGNATURE-----\r\n\r\niQEz\r\n-----END PGP SIGNATURE-----\r\n"
    )
    secret = "-----BEGIN PGP MESSAGE-----\r\n\r\nhQEM\r\n-----END PGP MESSAGE-----\r\nafter"
    wrapped = mixed(
        b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1", PLAIN_PART, kind="encrypted"
    )

    document = read(HEAD + b"\r\n" + (signed + secret).encode())

    assert document.text.split("\n\n")[2:] == ["-- a list", "\nafter"]
    assert document.warnings == (FileWarning(WarningCode.PART_ENCRYPTED),)
    assert read(wrapped).warnings == (FileWarning(WarningCode.PART_ENCRYPTED),)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"TMOkdWZ0", "Läuft"),
        (b"TMOk!dWZ0*\r\n", "Läuft"),
        (b"TMOkdQ==ZnQ=", "Läuft"),
        (
            base64.encodebytes("Läuft gut. ".encode() * 9) + b"_____\r\nA mailing list\r\n",
            "Läuft gut. \n_____\nA mailing list",
        ),
        (b"This was never encoded, whatever the header says.\r\n", "This was never encoded"),
    ],
)
def test_damaged_base64_is_read(body: bytes, text: str) -> None:
    assert text in read(HEAD + b"Content-Transfer-Encoding: base64\r\n\r\n" + body).text


def test_base64_in_pieces_is_decoded_as_a_whole() -> None:
    data = bytes(range(256)) * 50
    lines = base64.encodebytes(data)

    assert unbase64(lines) == data
    assert unbase64(lines.replace(b"\n", b"\n!", 1)) == data


def test_a_file_in_the_text_is_an_attachment() -> None:
    lines = b"#5V%I\r\n`\r\n"
    document = read(HEAD + b"\r\nbefore\r\n\r\nbegin 644 a.txt\r\n" + lines + b"end\r\nafter\r\n")

    assert document.text.endswith("before\n\na.txt\n\nWai\n\nafter")


@pytest.mark.parametrize("boundary", [b"", b'; boundary="other"'])
def test_parts_are_found_without_their_border(boundary: bytes) -> None:
    mail = mixed(PLAIN_PART + b"words", HTML_PART + b"<p>more</p>").replace(b'; boundary="b1"', boundary)

    text = read(mail.replace(b"--b1--", b"")).text

    assert text.endswith("words\n\nmore")
