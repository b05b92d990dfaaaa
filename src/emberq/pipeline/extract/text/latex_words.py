"""The commands and environments of LaTeX: which print nothing, and what the others print."""

from __future__ import annotations

from typing import Final

HEADINGS: Final = {
    "part": 1,
    "chapter": 1,
    "section": 2,
    "subsection": 3,
    "subsubsection": 4,
    "paragraph": 5,
    "subparagraph": 6,
}
TITLES: Final = frozenset(("title", "author", "date"))

#: Commands that print the key of another place.
KEYS: Final = frozenset(
    (
        *(
            "cite",
            "citep",
            "citet",
            "citeauthor",
            "citeyear",
            "parencite",
            "textcite",
            "autocite",
            "footcite",
        ),
        *("ref", "eqref", "pageref", "autoref", "cref", "Cref", "nameref", "bibitem"),
    )
)

#: Commands that print nothing, and how many of their arguments are left out.
DROPPED: Final = {
    **dict.fromkeys(
        (
            *(
                "label",
                "vspace",
                "hspace",
                "includegraphics",
                "usepackage",
                "documentclass",
                "bibliographystyle",
            ),
            *(
                "pagestyle",
                "thispagestyle",
                "input",
                "include",
                "bibliography",
                "addbibresource",
                "graphicspath",
            ),
            *(
                "color",
                "pagenumbering",
                "hypersetup",
                "lstset",
                "geometry",
                "nocite",
                "index",
                "cline",
                "cmidrule",
            ),
            *("phantom", "hyphenation", "usetikzlibrary", "tikzset", "vskip", "hskip", "stepcounter"),
        ),
        1,
    ),
    **dict.fromkeys(("setlength", "addtolength", "setcounter", "addtocounter", "newcommand"), 2),
    **dict.fromkeys(
        ("renewcommand", "providecommand", "newtheorem", "addcontentsline", "DeclareMathOperator"), 2
    ),
    **dict.fromkeys(("newenvironment", "renewenvironment"), 3),
    **dict.fromkeys(("multirow", "multicolumn"), 2),
    **dict.fromkeys(("textcolor", "colorbox", "fontsize", "scalebox", "raisebox"), 1),
    "resizebox": 2,
}

#: Environments that are kept as they are written, and those of formulas.
VERBATIM: Final = frozenset(
    ("verbatim", "lstlisting", "minted", "Verbatim", "alltt", "comment", "tikzpicture")
)
MATH: Final = frozenset(
    (
        "equation",
        "align",
        "alignat",
        "gather",
        "multline",
        "eqnarray",
        "displaymath",
        "math",
        "flalign",
        "IEEEeqnarray",
    )
)
#: Environments whose option says where or how they are set.
FLOATS: Final = frozenset(
    (
        *("figure", "table", "minipage", "wrapfigure", "algorithm", "algorithmic", "itemize", "enumerate"),
        *(
            "description",
            "subfigure",
            "subtable",
            "sidewaystable",
            "sidewaysfigure",
            "multicols",
            "adjustbox",
        ),
    )
)
#: Environments of tables, and how many arguments stand before the first cell.
TABLES: Final = {"tabular": 1, "tabularx": 2, "longtable": 1, "tabulary": 2, "supertabular": 1}

#: Accents by their signs and commands.
ACCENTS: Final = {
    "'": "\u0301",
    "`": "\u0300",
    "^": "\u0302",
    '"': "\u0308",
    "~": "\u0303",
    "=": "\u0304",
    ".": "\u0307",
    "c": "\u0327",
    "v": "\u030c",
    "u": "\u0306",
    "H": "\u030b",
    "k": "\u0328",
    "r": "\u030a",
    "d": "\u0323",
    "b": "\u0331",
}
SIGNS: Final = {"``": '"', "''": '"', "--": "\u2013", "---": "\u2014"}

#: What commands without arguments print.
BARE: Final = {
    "ss": "\u00df",
    "o": "\u00f8",
    "O": "\u00d8",
    "l": "\u0142",
    "L": "\u0141",
    "ae": "\u00e6",
    "AE": "\u00c6",
    "oe": "\u0153",
    "OE": "\u0152",
    "aa": "\u00e5",
    "AA": "\u00c5",
    "i": "i",
    "j": "j",
    "ldots": "\u2026",
    "dots": "\u2026",
    "textellipsis": "\u2026",
    "S": "\u00a7",
    "P": "\u00b6",
    "copyright": "\u00a9",
    "TeX": "TeX",
    "LaTeX": "LaTeX",
    "LaTeXe": "LaTeX2e",
    "BibTeX": "BibTeX",
    "textbackslash": "\\",
    "euro": "\u20ac",
    "textasciitilde": "~",
    "textasciicircum": "^",
    "textbar": "|",
    "textless": "<",
    "textgreater": ">",
    "textendash": "\u2013",
    "textemdash": "\u2014",
    "pounds": "\u00a3",
    "degree": "\u00b0",
    "textdegree": "\u00b0",
    "quad": " ",
    "qquad": " ",
    "today": "",
    "texteuro": "\u20ac",
    "slash": "/",
    "textquotesingle": "'",
}
