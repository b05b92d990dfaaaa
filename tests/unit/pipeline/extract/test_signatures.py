"""What is no text, told by its signature, however much of it looks like text; and text that stays text."""

from __future__ import annotations

import io
import struct
import tarfile

import pytest

from emberq.errors import UnsupportedMediaType
from emberq.pipeline.document import Document
from emberq.pipeline.extract import media
from emberq.pipeline.extract.detect import detect_stream
from emberq.pipeline.extract.kinds.signatures import is_tar
from emberq.pipeline.extract.read import extract_stream

WHITE = b"\xff" * 200_000
BLACK = bytes(200_000)
SPACES = b" " * 200_000

#: The beginnings of pictures, films, sounds, databases; each is tried with white, black and blank content.
HEADERS = {
    "TIFF, little-endian": b"II*\0" + struct.pack("<I", 480_008),
    "TIFF, big-endian": b"MM\0*" + struct.pack(">I", 480_008),
    "BigTIFF": b"II+\0\x08\0\0\0",
    "BMP": b"BM" + struct.pack("<IIIIiiHH", 200_054, 0, 54, 40, 258, 258, 1, 24) + bytes(24),
    "BMP of OS/2": b"BM" + struct.pack("<IIIIHHHH", 200_026, 0, 26, 12, 258, 258, 1, 24),
    "ICO": b"\0\0\1\0\1\0  \0\0\1\0\x20\0\xa8\x10\0\0\x16\0\0\0",
    "PBM": b"P4\n# made by hand\n1000 1000\n",
    "PGM": b"P5 400 400 255\n",
    "PPM": b"P6\n# white\n200 200\n255\n",
    "PSD": b"8BPS\0\1\0\0\0\0\0\0\0\3",
    "GIF": b"GIF89a\x10\0\x10\0\x80\0\0",
    "JPEG": b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1",
    "PCX": b"\x0a\x05\x01\x08" + bytes(60),
    "EPS with a preview": b"\xc5\xd0\xd3\xc6\x1e\0\0\0",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%Creator: Adobe Illustrator\n",
    "DICOM": bytes(128) + b"DICM\2\0\0\0UL\4\0",
    "FITS": b"SIMPLE  =                    T / a comment                                  ",
    "NIfTI": b"\x5c\1\0\0" + bytes(340) + b"n+1\0",
    "GRIB": b"GRIB\0\0\0\2\0\0\0\0\0\0\1\0",
    "HDF5": b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0",
    "HDF5 behind a block": b"user block".ljust(512, b"\0") + b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0",
    "NetCDF": b"CDF\1\0\0\0\0",
    "Access": b"\0\1\0\0Standard Jet DB\0\1\0\0\0",
    "PST": b"!BDN\x45\x41\x53\x32SM\x17\0\x13\0\1\1",
    "DWG": b"AC1032\0\0\0\0\0\0",
    "SQLite": b"SQLite format 3\0\x10\0\1\1",
    "WAV": b"RIFF\x24\x08\0\0WAVEfmt \x10\0\0\0",
    "AVI": b"RIFF\x24\x08\0\0AVI LIST",
    "MP3": b"ID3\x03\0\0\0\0\x0f\x76TIT2",
    "MP4": b"\0\0\0\x20ftypisom\0\0\2\0",
    "QuickTime": b"\0\0\0\x08wide\0\1\0\0mdat",
    "OGG": b"OggS\0\2\0\0\0\0\0\0\0\0",
    "FLAC": b"fLaC\0\0\0\x22",
    "Matroska": b"\x1a\x45\xdf\xa3\x01\0\0\0",
    "TrueType": b"\0\1\0\0\0\x0c\0\x80",
    "OpenType": b"OTTO\0\x0c\0\x80",
    "WOFF2": b"wOF2\0\1\0\0\0",
    "ELF": b"\x7fELF\2\1\1\0",
    "EXE": b"MZ\x90\0\3\0\0\0\4\0\0\0\xff\xff\0\0",
    "Java": b"\xca\xfe\xba\xbe\0\0\0\x41",
    "7z": b"7z\xbc\xaf\x27\x1c\0\4",
    "RAR": b"Rar!\x1a\x07\1\0",
    "CAB": b"MSCF\0\0\0\0\x10\0\0\0",
    "deb": b"!<arch>\ndebian-binary   1342943816  0     0     100644  4         `\n2.0\n",
    "cpio of text": b"070701" + b"0" * 104 + b"notes.txt\0",
    "cpio, old": b"070707" + b"0" * 70 + b"notes.txt\0",
    "cpio, binary": b"\xc7\x71\0\0\1\0",
    "Zstandard": b"\x28\xb5\x2f\xfd\x24\5\x29\0\0",
    "LHA": b"\x19\x4d-lh5-\x20\0\0\0",
    "Parquet": b"PAR1\x15\4\x15\x10",
    "dBASE": struct.pack("<4BIHH", 3, 126, 11, 30, 5, 97, 40)
    + bytes(20)
    + b"NAME\0\0\0\0\0\0\0C"
    + bytes(20),
    "MPEG stream": (b"G\x40\0\x10" + b"\xff" * 184) * 8,
    "WordPerfect": b"\xffWPC\x10\0\0\0\1\x0a",
}

PIXELS_IN_LETTERS = {
    "PBM": b"P1\n# drawn\n24 7\n" + b"0 1 1 0 " * 200,
    "PPM": b"P3\n2 2\n255\n" + b"255 255 255\n" * 200,
    "XPM": b'/* XPM */\nstatic char *x[] = {\n"16 16 2 1",\n"  c None",\n' + b'"................",\n' * 90,
    "XBM": b"#define x_width 16\n#define x_height 7\nstatic char x_bits[] = {\n" + b"0xff, 0xff,\n" * 90,
    "uuencode": b'begin 644 photo.jpg\nM_]C_X``02D9)1@`!`0$`2`!(``#_VP!#``,"`@,"\n' * 2,
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("content", [WHITE, BLACK, SPACES], ids=["white", "black", "blank"])
@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
def test_what_has_a_signature_is_never_text(header: bytes, content: bytes, name: str) -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        detect_stream(io.BytesIO(header + content), name=name)

    assert "unknown kind" not in caught.value.message


@pytest.mark.parametrize("data", PIXELS_IN_LETTERS.values(), ids=PIXELS_IN_LETTERS)
def test_pictures_in_letters_are_no_text(data: bytes) -> None:
    with pytest.raises(UnsupportedMediaType):
        detect_stream(io.BytesIO(data), name="a.txt")


def test_a_disk_image_is_no_text() -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        detect_stream(io.BytesIO(bytes(32_768) + b"\1CD001\1\0" + SPACES))

    assert "a CD image" in caught.value.message


@pytest.mark.parametrize(
    "data",
    [
        b"header of nothing known\r\n" + b"\xff" * 5000,
        b"TRUE" + b"\xee" * 5000,
        b"\x28\x28" + b"\xff" * 64 + b"words and words" * 90,
    ],
)
def test_an_even_area_is_no_text_whatever_it_belongs_to(data: bytes) -> None:
    with pytest.raises(UnsupportedMediaType):
        detect_stream(io.BytesIO(data), name="a.txt")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_archive_of_texts_is_an_archive(form: int) -> None:
    for data in (_tar(form), _old(_tar(form))):
        assert detect_stream(io.BytesIO(data), name="a.txt") == media.TAR
    assert not is_tar(b"notes.txt" + b"0" * 600)


def _tar(form: int) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form) as archive:
        member = tarfile.TarInfo("notes.txt")
        member.size = 40_000
        archive.addfile(member, io.BytesIO(b"words " * 6_666 + b"last"))
    return target.getvalue()


def _old(archive: bytes) -> bytes:
    """Return the archive as programs before POSIX wrote it: without the mark, and summed without it."""
    block = bytearray(archive[:512])
    block[257:] = bytes(255)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + archive[512:]


#: Odd texts: what each begins or is filled with looks like a signature or like binary data.
TEXTS = {
    "BM": b"BM 2026: the budget of the museum, with some remarks.\n" * 20,
    "MZ": b"MZ is the mark of a program for Windows.\n",
    "GIF": b"GIF89a is the newer kind of GIF.\n",
    "RIFF": b"RIFF and IFF are containers.\n",
    "FORM": b"FORM 10-K\nAnnual report\n",
    "PNM": b"P5 12 persons, P6 14 persons\n" * 20,
    "P3": b"P3 2 2 1 mean the third priority\n",
    "PK": b"PK is short for Peter Kunz.\n",
    "ID3": b"ID3 tags describe songs.\n",
    "fixed width": b"".join(name.ljust(20, b"\0") for name in (b"Anna", b"Bert", b"Clara")) * 40,
    "NUL between names": b"\0".join(b"folder/file-%d.txt" % number for number in range(400)),
    "NUL, windows-1252": b"\0".join("Größe %d".encode("cp1252") % number for number in range(400)),
    "FIX messages": b"8=FIX.4.4\x019=65\x0135=A\x0149=SELLER\x0156=BUYER\x0110=062\x01\n" * 40,
    "MARC records": b"00714cam a2200205 a 4500\x1e245 10\x1faThe title /\x1fcan author.\x1e\x1d" * 40,
    "colours": b"\x1b[31mERROR\x1b[0m the disk is \x1b[1mfull\x1b[22m\n" * 40,
    "box drawing, cp437": (b"\xc9" + b"\xcd" * 78 + b"\xbb\r\n\xba words in a box \xba\r\n") * 9,
    "Russian, cp866": "Съешь ещё этих мягких французских булок.\r\n".encode("cp866") * 40,
    "Japanese, Shift-JIS": "東京支店の在庫は来週までに確認します。\r\n".encode("cp932") * 40,
    "UTF-16, Japanese": "東京支店の在庫は来週までに確認します。\r\n".encode("utf-16") * 2,
    "a mark of UTF-16 only": b"\xff\xfe",
}


@pytest.mark.parametrize("data", TEXTS.values(), ids=TEXTS)
def test_odd_text_stays_text(data: bytes) -> None:
    assert detect_stream(io.BytesIO(data), name="a.txt") in {media.TEXT, media.MARKDOWN}


def test_bytes_behind_a_mark_of_unicode_are_looked_at() -> None:
    sound = b"\xff\xfe" + bytes((index * 7919 >> 3) & 0xFF for index in range(9000))

    with pytest.raises(UnsupportedMediaType):
        detect_stream(io.BytesIO(sound), name="a.txt")


def test_control_characters_separate_words() -> None:
    assert _read(b"Anna\0\0\0Bert\0\0\0\0Clara\0\0\0").text.split() == ["Anna", "Bert", "Clara"]
    assert _read(b"35=A\x0149=SELLER\x01" * 9).text.split()[:2] == ["35=A", "49=SELLER"]
    assert _read(b"\x1b[31mERROR\x1b[0m: full\n" * 3).text.splitlines()[0] == "ERROR: full"
    assert _read(b"N\x08NA\x08AM\x08ME\x08E\n" * 3).text.splitlines()[0] == "NAME"


def _read(data: bytes) -> Document:
    stream = io.BytesIO(data)
    return extract_stream(stream, media_type=detect_stream(stream, name="a.txt"))


#: Pieces of HTML, with the name under which they come.
PIECES = {
    "a.html": "Guten Tag,<br><br>die <b>Lieferung</b> kommt.",
    "b.htm": "<strong>Wichtig:</strong> Das Tor bleibt <em>zu</em>.<br>Danke.",
    "c.html": "<header><h1>Ordnung</h1></header><blockquote>Ruhe.</blockquote>",
    "e.html": "Gr&uuml;&szlig;e &#8364; 5",
    "d": "Guten Tag,<br>die <b>Ware</b> kommt.<ul><li>Kiste</li></ul>",
}


@pytest.mark.parametrize("name", PIECES)
def test_a_piece_of_html_is_html(name: str) -> None:
    assert detect_stream(io.BytesIO(PIECES[name].encode()), name=name) == media.HTML


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "Use <b>bold</b> and <i>italics</i> sparingly, and <br> never.\n"),
        ("a", "if a < b and b > c:\n    return '<td>' + x + '</td><td></td>'\n"),
        ("a.md", "Use <b>bold</b>.\n\n# A title\n\n- one\n- two\n"),
        ("a.html", "Only words, no tags: 3 < 4.\n"),
    ],
)
def test_text_with_a_few_tags_is_no_html(name: str, text: str) -> None:
    assert detect_stream(io.BytesIO(text.encode()), name=name) != media.HTML
