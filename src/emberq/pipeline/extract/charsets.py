"""The encodings that mail and web pages may declare: an allow-list, by their names.

Python looks a name up among all of its codecs. Some of those are no encodings of text (zlib, hex, rot13),
some decode in quadratic time (punycode, idna), and some are not what a sender means (unicode_escape, utf-7).
"""

from __future__ import annotations

import codecs
from typing import Final

#: The codecs of text that Python has and that the WHATWG's standard or old mail programs name. They are
#: looked up here because a process that reads a file may not import them any more.
_ALLOWED: Final = {
    name: codecs.lookup(name)
    for name in (
        *(
            "ascii",
            "utf-8",
            "utf-8-sig",
            "utf-16",
            "utf-16-le",
            "utf-16-be",
            "utf-32",
            "utf-32-le",
            "utf-32-be",
        ),
        *(f"iso8859-{number}" for number in (*range(1, 12), *range(13, 17))),
        *(f"cp{number}" for number in range(1250, 1259)),
        *("cp437", "cp720", "cp737", "cp775", "cp850", "cp852", "cp855", "cp857", "cp858", "cp860", "cp861"),
        *("cp862", "cp863", "cp864", "cp865", "cp866", "cp869", "cp874", "tis-620", "ptcp154", "kz1048"),
        *("koi8-r", "koi8-u", "koi8-t", "hp-roman8", "mac-roman", "mac-latin2", "mac-cyrillic", "mac-greek"),
        *("mac-turkish", "mac-iceland", "gb2312", "gbk", "gb18030", "hz", "big5", "big5hkscs", "cp950"),
        *("shift_jis", "shift_jisx0213", "shift_jis_2004", "cp932", "euc_jp", "euc_jisx0213", "euc_jis_2004"),
        *("iso2022_jp", "iso2022_jp_1", "iso2022_jp_2", "iso2022_jp_3", "iso2022_jp_ext", "iso2022_kr"),
        *("euc_kr", "cp949", "johab"),
    )
}


def decode_declared(data: bytes, charset: str) -> str | None:
    """Decode text in a declared encoding; return None if the name is not allowed or does not fit."""
    try:
        known = codecs.lookup(charset).name
        return data.decode(known) if known in _ALLOWED else None
    except (LookupError, ValueError):
        return None
