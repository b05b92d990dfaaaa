"""The encodings that mail and web pages may declare, by the labels of the WHATWG's standard and a few more.

Python looks a name up among all of its codecs. Some of those are no encodings of text (zlib, hex, rot13),
some decode in quadratic time (punycode, idna), and some are not what a sender means (unicode_escape, utf-7).
So a name is looked up in the standard's table first, and then in a list of codecs that are allowed.
"""

from __future__ import annotations

import codecs
from typing import Final

#: The codecs of text that Python has and that the WHATWG's standard or old mail programs name. They are
#: looked up here because a process that reads a file may not import them any more.
_ALLOWED: Final = {
    codecs.lookup(name).name
    for name in (
        *("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"),
        *(f"iso8859-{number}" for number in (*range(1, 12), *range(13, 17))),
        *(f"cp{number}" for number in range(1250, 1259)),
        *("cp437", "cp720", "cp737", "cp775", "cp850", "cp852", "cp855", "cp857", "cp858", "cp860", "cp861"),
        *("cp862", "cp863", "cp864", "cp865", "cp866", "cp869", "cp874", "tis-620", "ptcp154", "kz1048"),
        *("koi8-r", "koi8-u", "koi8-t", "hp-roman8", "mac-roman", "mac-latin2", "mac-cyrillic", "mac-greek"),
        *("mac-turkish", "mac-iceland", "gb2312", "gbk", "gb18030", "hz", "big5", "big5hkscs", "cp950"),
        *("shift_jis", "shift_jisx0213", "shift_jis_2004", "cp932", "euc_jp", "euc_jisx0213", "euc_jis_2004"),
        *("iso2022_jp", "iso2022_jp_1", "iso2022_jp_2", "iso2022_jp_3", "iso2022_jp_ext", "iso2022_kr"),
        *("euc_kr", "cp949", "johab", "ascii"),
    )
}

#: The labels of the WHATWG's Encoding Standard whose meaning Python does not know or understands otherwise,
#: and names that mail programs made up. A subset of an encoding means the whole one, as in browsers.
_LABELS: Final[dict[str, str]] = {
    label: codec
    for codec, labels in {
        "utf-8": "unicode-1-1-utf-8 unicode11utf8 unicode20utf8 x-unicode20utf8 utf8mb4 utf-8n",
        "cp1252": "ansi_x3.4-1968 ascii cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1 iso88591 "
        "iso_8859-1 iso_8859-1:1987 l1 latin1 us-ascii x-cp1252 ansi 7bit 8bit x-ansi",
        "cp866": "csibm866",
        "iso8859-2": "iso88592 iso_8859-2:1987",
        "iso8859-3": "iso88593 iso_8859-3:1988",
        "iso8859-4": "iso88594 iso_8859-4:1988",
        "iso8859-5": "csisolatincyrillic iso88595 iso_8859-5:1988",
        "iso8859-6": "csiso88596e csiso88596i iso-8859-6-e iso-8859-6-i iso88596 iso_8859-6:1987",
        "iso8859-7": "iso88597 iso_8859-7:1987 sun_eu_greek",
        "iso8859-8": "csiso88598e csiso88598i iso-8859-8-e iso-8859-8-i iso88598 iso_8859-8:1988 logical "
        "visual",
        "iso8859-10": "iso885910",
        "iso8859-13": "iso885913",
        "iso8859-14": "iso885914",
        "iso8859-15": "csisolatin9 iso885915",
        "koi8-r": "koi koi8 koi8_r",
        "koi8-u": "koi8-ru",
        "mac-roman": "csmacintosh mac x-mac-roman",
        "mac-cyrillic": "x-mac-cyrillic x-mac-ukrainian",
        "mac-latin2": "x-mac-ce x-mac-centraleurroman",
        "mac-greek": "x-mac-greek",
        "mac-turkish": "x-mac-turkish",
        "mac-iceland": "x-mac-icelandic",
        "cp874": "dos-874 iso-8859-11 iso8859-11 iso885911 tis-620 windows-874",
        "cp1250": "x-cp1250",
        "cp1251": "x-cp1251",
        "cp1253": "x-cp1253",
        "cp1254": "csisolatin5 iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9 iso_8859-9:1989 l5 latin5 "
        "x-cp1254",
        "cp1255": "x-cp1255",
        "cp1256": "x-cp1256",
        "cp1257": "x-cp1257",
        "cp1258": "x-cp1258",
        "gb18030": "chinese csgb2312 csiso58gb231280 gb2312 gb_2312 gb_2312-80 gbk iso-ir-58 x-gbk cp936 "
        "windows-936 ms936 euc-cn euccn euc_cn gb2312-80",
        "hz": "hz-gb-2312",
        "big5hkscs": "big5 cn-big5 csbig5 x-x-big5 big5-hkscs x-big5",
        "euc_jp": "cseucpkdfmtjapanese x-euc-jp x-eucjp",
        "iso2022_jp_ext": "csiso2022jp iso-2022-jp iso-2022-jp-1 cp50220 cp50221 x-iso-2022-jp",
        "cp932": "csshiftjis ms_kanji shift-jis shift_jis sjis windows-31j x-sjis windows-932 x-ms-cp932",
        "cp949": "cseuckr csksc56011987 euc-kr iso-ir-149 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 "
        "ksc_5601 windows-949 ks_c_5601 x-euc-kr euckr",
        "iso2022_kr": "csiso2022kr",
        "utf-16-be": "unicodefffe",
        "utf-16-le": "csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff",
    }.items()
    for label in labels.split()
}

#: Encodings with one byte for each character. Every text fits most of them, so they are weak evidence.
_SINGLE_BYTE: Final = (
    "iso8859",
    "cp125",
    "cp4",
    "cp7",
    "cp8",
    "koi8",
    "mac",
    "hp-",
    "tis",
    "ptcp",
    "kz",
    "ascii",
)

#: From latin-1 to windows-1252, which leaves five bytes undefined; browsers read those as control characters.
_CP1252: Final = {
    byte: bytes((byte,)).decode("cp1252") for byte in range(0x80, 0xA0) if byte not in b"\x81\x8d\x8f\x90\x9d"
}


def find_codec(label: str) -> str | None:
    """Return Python's name of a declared encoding; None if the name is unknown or not one of text."""
    label = label.strip().lower()
    try:
        name = codecs.lookup(_LABELS.get(label, label)).name
    except (LookupError, ValueError):
        return None
    return name if name in _ALLOWED else None


def is_single_byte(codec: str) -> bool:
    """Return whether an encoding, by Python's name, has one byte for each character."""
    return codec.startswith(_SINGLE_BYTE)


def decode_declared(data: bytes, charset: str) -> str | None:
    """Decode text in a declared encoding; return None if the name is not allowed or does not fit."""
    codec = find_codec(charset)
    if codec is None:
        return None
    try:
        return data.decode(codec)
    except ValueError:
        return data.decode("latin-1").translate(_CP1252) if codec == "cp1252" else None
