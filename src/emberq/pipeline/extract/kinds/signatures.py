"""The signatures of files that are not text: images, sound, fonts, programs, databases, archives.

A signature that is itself made of letters counts only with a further sign of binary data behind it, so that a
text about a format stays a text.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import BinaryIO, Final

#: Descriptions for people, and the bytes with which such files begin.
_AT_START: Final[dict[str, tuple[bytes, ...]]] = {
    "a PNG image": (b"\x89PNG\r\n\x1a\n",),
    "a JPEG image": (b"\xff\xd8\xff",),
    "a GIF image": (b"GIF87a", b"GIF89a"),
    "a TIFF image": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"IIRO", b"IIRS", b"MMOR"),
    "a Photoshop image": (b"8BPS\0",),
    "a JPEG 2000 image": (b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51"),
    "a JPEG XL image": (b"\xff\x0a", b"\0\0\0\x0cJXL "),
    "a JBIG2 image": (b"\x97JB2\r\n\x1a\n",),
    "an icon": (b"\0\0\1\0", b"icns\0"),
    "a cursor": (b"\0\0\2\0",),
    "an OpenEXR image": (b"\x76\x2f\x31\x01",),
    "an HDR image": (b"#?RADIANCE", b"#?RGBE"),
    "a DDS image": (b"DDS |\0",),
    "a DPX image": (b"SDPX\0", b"XPDS"),
    "a QOI image": (b"qoif\0",),
    "a GIMP image": (b"gimp xcf",),
    "a camera's raw image": (b"FUJIFILMCCD-RAW", b"FOVb"),
    "an SGI image": (b"\x01\xda\0", b"\x01\xda\x01"),
    "a Sun raster image": (b"\x59\xa6\x6a\x95",),
    "a DjVu document": (b"AT&TFORM",),
    "a Windows metafile": (b"\xd7\xcd\xc6\x9a", b"\x01\0\x09\0\0\x03"),
    "a PostScript picture with a preview": (b"\xc5\xd0\xd3\xc6",),
    "a PostScript file": (b"%!PS", b"\x04%!PS"),
    "a MIDI file": (b"MThd\0",),
    "an MP3 file": (b"ID3\2", b"ID3\3", b"ID3\4", b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2"),
    "an AAC file": (b"\xff\xf1", b"\xff\xf9"),
    "an Ogg file": (b"OggS\0",),
    "a FLAC file": (b"fLaC\0",),
    "an AMR file": (b"#!AMR\n", b"#!AMR-WB\n"),
    "a Sun audio file": (b".snd\0",),
    "a WavPack file": (b"wvpk",),
    "a Monkey's Audio file": (b"MAC \x96\x0f", b"MAC \x90\x0f"),
    "a Matroska or WebM film": (b"\x1a\x45\xdf\xa3",),
    "a Windows media file": (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",),
    "a Flash film": (b"FLV\1", b"FWS", b"CWS", b"ZWS"),
    "an MPEG film": (b"\0\0\1\xba", b"\0\0\1\xb3"),
    "a RealMedia file": (b".RMF\0",),
    "a font": (
        *(b"OTTO\0", b"\0\1\0\0\0", b"true\0", b"ttcf\0", b"wOFF", b"wOF2", b"\x80\x01", b"%!PS-AdobeFont"),
        b"\x01fcp",
    ),
    "an ELF program": (b"\x7fELF",),
    "a Mach-O program or Java class": (
        *(
            b"\xfe\xed\xfa\xce",
            b"\xfe\xed\xfa\xcf",
            b"\xce\xfa\xed\xfe",
            b"\xcf\xfa\xed\xfe",
            b"\xca\xfe\xba\xbe",
        ),
    ),
    "a WebAssembly module": (b"\0asm",),
    "an Android program": (b"dex\n03",),
    "a Windows shortcut": (b"\x4c\0\0\0\x01\x14\x02\0",),
    "a Windows help file": (b"ITSF", b"\x3f\x5f\x03\0"),
    "an SQLite database": (b"SQLite format 3\0",),
    "an Access database": (b"\0\1\0\0Standard Jet DB", b"\0\1\0\0Standard ACE DB", b"\0\1\0\0MSISAM"),
    "an Outlook data file": (b"!BDN",),
    "an Outlook Express mailbox": (b"\xcf\xad\x12\xfe",),
    "a Notes database": (b"\x1a\0\0\x04\0\0",),
    "a PostgreSQL dump": (b"PGDMP",),
    "a Redis dump": (b"REDIS00",),
    "a KeePass database": (b"\x03\xd9\xa2\x9a",),
    "a Parquet file": (b"PAR1", b"PARE"),
    "an Arrow or Feather file": (b"ARROW1\0\0", b"FEA1"),
    "an Avro file": (b"Obj\1",),
    "an ORC file": (b"ORC\n",),
    "a GRIB file": (b"GRIB",),
    "a BUFR file": (b"BUFR",),
    "an HDF file": (b"\x89HDF\r\n\x1a\n", b"\x0e\x03\x13\x01"),
    "a NetCDF file": (b"CDF\1", b"CDF\2", b"CDF\5"),
    "a FITS image": (b"SIMPLE  =                    T",),
    "a MATLAB file": (b"MATLAB 5.0 MAT-file",),
    "a NumPy array": (b"\x93NUMPY",),
    "an R data file": (b"RDX2\n", b"RDX3\n", b"RDA2\n"),
    "a SAS data set": (b"\0" * 12 + b"\xc2\xea\x81\x60",),
    "an SPSS file": (b"$FL2@(#)", b"$FL3@(#)"),
    "a Stata file": (b"<stata_dta>",),
    "a point cloud": (b"LASF\0",),
    "a shapefile": (b"\0\0\x27\x0a\0",),
    "a ROOT file": (b"root\0",),
    "a GGUF model": (b"GGUF",),
    "a Blender file": (b"BLENDER",),
    "a glTF model": (b"glTF",),
    "an FBX model": (b"Kaydara FBX Binary",),
    "an InDesign document": (b"\x06\x06\xed\xf5\xd8\x1d\x46\xe5",),
    "a WordPerfect document": (b"\xffWPC",),
    "a Windows Write document": (b"\x31\xbe\0\0", b"\x32\xbe\0\0"),
    "a Word document older than Word 97": (b"\xdb\xa5", b"\xfe\x37\0", b"\x9b\xa5"),
    "a Lotus 1-2-3 workbook": (b"\0\0\2\0\6\4", b"\0\0\x1a\0\0\x10\4\0"),
    "an Excel workbook older than Excel 5": (b"\x09\0\x04\0", b"\x09\x02\x06\0", b"\x09\x04\x06\0"),
    "a OneNote notebook": (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d",),
    "a LIT book": (b"ITOLITLS",),
    "a Zstandard archive": (b"\x28\xb5\x2f\xfd",),
    "an LZ4 archive": (b"\x04\x22\x4d\x18", b"\x02\x21\x4c\x18"),
    "an LZIP archive": (b"LZIP\1",),
    "an LZMA archive": (b"\x5d\0\0",),
    "an LZO archive": (b"\x89LZO\0",),
    "a compress archive": (b"\x1f\x9d", b"\x1f\xa0"),
    "a Snappy archive": (b"\xff\x06\0\0sNaPpY",),
    "a 7z archive": (b"7z\xbc\xaf\x27\x1c",),
    "a RAR archive": (b"Rar!\x1a\x07", b"RE~^"),
    "a Cabinet archive": (b"MSCF\0\0\0\0", b"ISc("),
    "an ARJ archive": (b"\x60\xea",),
    "an ar archive or Debian package": (b"!<arch>\n", b"!<thin>\n"),
    "an RPM package": (b"\xed\xab\xee\xdb",),
    "a cpio archive": (b"\xc7\x71", b"\x71\xc7"),
    "a XAR archive": (b"xar!\0",),
    "a StuffIt archive": (b"StuffIt (c)", b"SIT!\0"),
    "a squashfs image": (b"hsqs", b"sqsh"),
    "a Windows image": (b"MSWIM\0\0\0",),
    "a disk image": (b"QFI\xfb", b"KDMV", b"conectix", b"vhdxfile", b"<<< Oracle VM"),
    "a split ZIP archive": (b"PK\x07\x08",),
    "a network capture": (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\x0a\x0d\x0d\x0a"),
    "an encrypted file": (b"Salted__", b"age-encryption.org/v1\n", b"LUKS\xba\xbe"),
    "a Java object": (b"\xac\xed\0\x05",),
    "a binary property list": (b"bplist0",),
    "a Git pack": (b"PACK\0\0\0",),
}
_BY_MARK: Final = {mark: what for what, marks in _AT_START.items() for mark in marks}
_MARKS: Final = tuple(sorted(_BY_MARK, key=len, reverse=True))

#: Descriptions, and signatures further in: where they are, and the bytes.
_FURTHER_IN: Final = (
    (2, b"-lh", "an LHA archive"),
    (2, b"-lz", "an LHA archive"),
    (7, b"**ACE**", "an ACE archive"),
    (20, b"\xdc\xa7\xc4\xfd", "a ZOO archive"),
    (34, b"LP\0\0", "a font"),
    (40, b" EMF", "a Windows metafile"),
    (60, b"BOOKMOBI", "a Kindle book"),
    (60, b"TEXtREAd", "a Palm book"),
    (128, b"DICM", "a DICOM image"),
    (257, b"ustar", "a damaged TAR archive"),
    (344, b"n+1\0", "a NIfTI image"),
    (344, b"ni1\0", "a NIfTI image"),
    (512, b"\x89HDF\r\n\x1a\n", "an HDF file"),
    (522, b"\0\x11\x02\xff\x0c\0", "a QuickDraw picture"),
    (32_769, b"CD001", "a CD image"),
    (32_769, b"BEA01", "a CD image"),
)

#: The kinds of RIFF and IFF containers.
_RIFF: Final = (b"RIFF", b"RIFX", b"FORM", b"LIST", b"RF64")

#: Portable bitmaps: kind, width, height and, except for black and white, the largest value.
_PNM: Final = re.compile(
    rb"P([1-6])(?:[ \t\r\n]|#[^\n]*+\n)++(\d{1,6})(?:[ \t\r\n]|#[^\n]*+\n)++(\d{1,6})"
    rb"(?:[ \t\r\n]|#[^\n]*+\n)"
)

#: The first values of a bitmap that is written in digits.
_DIGITS: Final = re.compile(rb"[\d\s]{1,512}(?:#|$)|[\d\s]{512}")

#: Patterns of the beginnings of files, and descriptions; the last ones are pictures and archives in letters.
_PATTERNS: Final = (
    (
        re.compile(rb"[\0-\x08][\0-\xff]{3}(?:ftyp|moov|mdat|wide|skip|free|pnot)"),
        "a film or picture of the MP4 family",
    ),
    (re.compile(rb"(?:AC10\d\d|AC1\.\d\d|MC0\.0)[\0\1\2]"), "an AutoCAD drawing"),
    (re.compile(rb"07070(?:7[0-7]{70}|[12][0-9A-Fa-f]{104})"), "a cpio archive"),
    (re.compile(rb"\x0a[\0\2-\5]\x01[\1\2\4\x08]"), "a PCX image"),
    (re.compile(rb"P7\n(?:#[^\n]*+\n)*+WIDTH \d|P[Ff]\n\d+ \d+\n-?\d"), "a PNM image"),
    (re.compile(rb"\s*/\* XPM \*/|! XPM2\n"), "an XPM image"),
    (re.compile(rb"(?>/\*[^*]*+\*/\s*+)?#define \w+_width \d+\s+#define \w+_height \d+"), "an XBM image"),
    (re.compile(rb"begin(?:-base64)? [0-7]{3,4} [^\n]{1,255}\r?\n[!-`]{2,80}\r?\n"), "a file in uuencode"),
    (re.compile(rb"=ybegin line=\d+ "), "a file in yEnc"),
    (re.compile(rb"\(This file must be converted with BinHex"), "a file in BinHex"),
)

#: The header of a Windows bitmap behind its mark: file size, reserved, offset of the pixels, header size.
_BMP: Final = struct.Struct("<2xIIII")
_BMP_HEADERS: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})

#: A dBASE table: kind, date of the last change, number of records, lengths of the header and of a record.
_DBF: Final = struct.Struct("<4BIHH")
#: Bytes of its header, and of the description of a field.
_DBF_FIELD: Final = 32
_DBF_KINDS: Final = frozenset({0x02, 0x03, 0x04, 0x30, 0x31, 0x32, 0x43, 0x83, 0x8B, 0x8E, 0xCB, 0xF5, 0xFB})

#: The block of a TAR archive, and where it has its checksum.
_TAR_BLOCK: Final = 512
_TAR_SUM: Final = slice(148, 156)

#: The length of a packet in an MPEG stream, each of which begins with G.
_PACKET: Final = 188
_PACKETS: Final = 4

#: Signatures of letters that no text begins with.
_SURE: Final = (
    *(b"%!PS", b"#!AMR", b"#?RADIANCE", b"#?RGBE", b"SIMPLE", b"!<", b"<<< Oracle VM"),
    *(b"age-encryption.org", b"\x89PNG\r\n\x1a\n"),
)

#: Bytes that text does not have; any other signature of letters needs one of them near it.
_NOT_TEXT: Final = re.compile(rb"[\0-\x08\x0e-\x19\x1c-\x1f\x7f]")
_NEAR: Final = 256


def find_signature(head: bytes, stream: BinaryIO) -> str | None:
    """Return what a file is, for people, if its bytes have the signature of a kind that is not text.

    Args:
        head: The first bytes of the file, 64 KiB or all.
        stream: The open file; its position changes.
    """
    if head.startswith(_MARKS):
        mark = next(mark for mark in _MARKS if head.startswith(mark))
        if _is_binary(mark) or mark.startswith(_SURE) or _NOT_TEXT.search(head, 0, _NEAR):
            return _BY_MARK[mark]
    return _structured(head, stream)


def is_tar(head: bytes) -> bool:
    """Return whether the bytes begin with the header of a TAR archive, old or new, by its checksum."""
    block = head[:_TAR_BLOCK]
    if len(block) < _TAR_BLOCK or not block[0]:
        return False
    try:
        written = int(block[_TAR_SUM].strip(b" \0"), 8)
    except ValueError:
        return False
    total = sum(block) - sum(block[_TAR_SUM]) + 8 * ord(" ")
    # Old programs summed the bytes as signed ones.
    return written in {total, total - 256 * sum(byte >= 0x80 for byte in block)}  # noqa: PLR2004 - the sign


def _structured(head: bytes, stream: BinaryIO) -> str | None:
    """Return the kind of a file whose signature is short or further in, by the structure around it."""
    for at, mark, what in _FURTHER_IN:
        if head.startswith(mark, at) and _NOT_TEXT.search(head, 0, at + _NEAR):
            return what
    for pattern, what in _PATTERNS:
        if pattern.match(head):
            return what
    if head.startswith(_RIFF) and _NOT_TEXT.search(head, 0, _NEAR // 4):
        return f"a {head[8:12].strip().decode('ascii', 'replace')} file (sound, film or picture)"
    return next((what for what, is_one in _CHECKS.items() if is_one(head, stream)), None)


def _is_binary(mark: bytes) -> bool:
    """Return whether a signature cannot begin a text."""
    return len(mark) > 2 and _NOT_TEXT.search(mark) is not None  # noqa: PLR2004 - two bytes are too few


def _is_bitmap(head: bytes, _stream: BinaryIO) -> bool:
    if not head.startswith((b"BM", b"BA")) or len(head) < _BMP.size:
        return False
    _size, _reserved, offset, header = _BMP.unpack_from(head)
    return header in _BMP_HEADERS and header < offset < 1 << 20


def _is_pnm(head: bytes, stream: BinaryIO) -> bool:
    """Return whether a file is a portable bitmap: its numbers agree with its size, or only digits follow."""
    found = _PNM.match(head)
    if not found:
        return False
    kind, width, height = (int(group) for group in found.groups())
    if kind <= 3:  # noqa: PLR2004 - these are written in digits
        return _DIGITS.match(head, found.end()) is not None
    samples = {4: -(-width // 8), 5: width, 6: 3 * width}[kind] * height
    return 0 < samples <= stream.seek(0, 2)


def _is_dbf(head: bytes, _stream: BinaryIO) -> bool:
    if len(head) < 2 * _DBF_FIELD or head[0] not in _DBF_KINDS:
        return False
    _kind, _year, month, day, _records, header, record = _DBF.unpack_from(head)
    has_date = 1 <= month <= 12 and 1 <= day <= 31  # noqa: PLR2004 - a date
    return has_date and header > 2 * _DBF_FIELD and record > 1 and head[_DBF_FIELD : _DBF_FIELD + 1].isalpha()


def _is_windows_program(head: bytes, _stream: BinaryIO) -> bool:
    return head.startswith((b"MZ", b"ZM")) and _NOT_TEXT.search(head, 0, _NEAR // 4) is not None


def _is_mpeg_stream(head: bytes, _stream: BinaryIO) -> bool:
    starts = head[: _PACKETS * _PACKET : _PACKET]
    return starts == b"G" * _PACKETS and _NOT_TEXT.search(head) is not None


#: Descriptions, and functions that look at more than one place.
_CHECKS: Final[dict[str, Callable[[bytes, BinaryIO], bool]]] = {
    "a BMP image": _is_bitmap,
    "a PNM image": _is_pnm,
    "a Windows program": _is_windows_program,
    "a dBASE table": _is_dbf,
    "an MPEG film": _is_mpeg_stream,
}
