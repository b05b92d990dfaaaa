"""The control words of RTF by what they do to the text."""

from __future__ import annotations

from typing import Final

#: Groups that are no text of the document, or a second form of what another group has.
SKIPPED: Final = frozenset(
    (
        *(
            b"colortbl",
            b"filetbl",
            b"objclass",
            b"objname",
            b"objdata",
            b"private",
            b"xe",
            b"tc",
            b"tcn",
            b"rxe",
        ),
        *(b"shprslt", b"nonshppict", b"sn", b"nonesttables", b"pgdsctbl", b"ftnsep", b"ftnsepc", b"aftnsep"),
        *(
            b"aftnsepc",
            b"ftncn",
            b"aftncn",
            b"listname",
            b"leveltext",
            b"levelnumbers",
            b"mmathPict",
            b"fname",
        ),
        *(b"themedata", b"datastore", b"author", b"operator", b"creatim", b"revtim", b"printim", b"buptim"),
        *(
            b"company",
            b"doccomm",
            b"hlinkbase",
            b"manager",
            b"category",
            b"annotationid",
            b"atndate",
            b"atnref",
        ),
        *(b"falt", b"panose", b"fontemb", b"fontfile", b"atrfstart", b"atrfend", b"nextfile"),
    )
)
#: Of the groups that other programs may skip, those that have text.
OPTIONAL: Final = frozenset(
    (
        *(
            b"shppict",
            b"shpinst",
            b"shptxt",
            b"do",
            b"nesttableprops",
            b"annotation",
            b"atnauthor",
            b"ud",
            b"sv",
        ),
        *(b"moMath", b"moMathPara", b"mmath", b"footnote", b"pntext", b"listtext", b"shpgrp"),
    )
)
HEADERS: Final = frozenset((b"header", b"headerl", b"headerr", b"headerf"))
FOOTERS: Final = frozenset((b"footer", b"footerl", b"footerr", b"footerf"))

#: Control words that are characters.
CHARACTERS: Final = {
    b"tab": "\t",
    b"line": "\n",
    b"softline": "\n",
    b"emdash": "\u2014",
    b"endash": "\u2013",
    b"bullet": "\u2022",
    b"lquote": "\u2018",
    b"rquote": "\u2019",
    b"ldblquote": "\u201c",
    b"rdblquote": "\u201d",
    b"emspace": " ",
    b"enspace": " ",
    b"qmspace": " ",
}
#: Control symbols that are characters; `\-` is a soft hyphen, which is left out.
SYMBOLS: Final = {b"~": "\u00a0", b"_": "\u2011", b"\t": "\t"}

#: Control words that switch a flag of the state on or off.
FLAGS: Final = {b"v": "is_hidden", b"deleted": "is_deleted", b"htmlrtf": "is_markup"}
