"""Notebooks, XML, subtitles, light markup, LaTeX and programs are known by their content and read whole."""

from __future__ import annotations

import base64
import io
import json
import random
import time
from contextlib import suppress

import pytest

from emberq.errors import CorruptFile, FileError
from emberq.errors.file_warnings import FileWarning, WarningCode
from emberq.pipeline.document import Document, SegmentKind
from emberq.pipeline.extract import media
from emberq.pipeline.extract.detect import detect_stream
from emberq.pipeline.extract.read import extract_stream

PICTURE = base64.b64encode(random.Random(5).randbytes(3000)).decode()

DOCBOOK = """<?xml version="1.0"?><!DOCTYPE book PUBLIC "-//OASIS//DTD DocBook XML V4.5//EN" "docbookx.dtd"
[<!ENTITY prod "EmberProduct">]><book><bookinfo><title>The Book</title><author><firstname>Ada</firstname>
<surname>Lem</surname></author></bookinfo><chapter><title>First &prod; chapter</title>
<para>Some <emphasis>inl</emphasis>ine text &mdash; &amp; more.
<footnote><para>The note.</para></footnote> End.</para>
<para><emphasis>two</emphasis> <emphasis>words</emphasis></para><section><title>Deeper</title>
<orderedlist><listitem><para>one</para></listitem><listitem><para>two</para></listitem></orderedlist>
<programlisting>def f():
    return 1</programlisting><table><title>Sizes</title><tgroup cols="2"><colspec colname="a"/><tbody>
<row><entry morerows="1">x</entry><entry>1</entry></row><row><entry>2</entry></row></tbody></tgroup></table>
<para>See <ulink url="https://example.org/x">there</ulink>.</para></section></chapter></book>"""
JATS = r"""<?xml version="1.0"?><!DOCTYPE article PUBLIC "-//NLM//DTD JATS DTD v1.2//EN" "JATS.dtd">
<article xmlns:mml="http://www.w3.org/1998/Math/MathML"><front><article-meta><article-id>10.1/x</article-id>
<title-group><article-title>On <italic>E. coli</italic></article-title></title-group><contrib-group>
<contrib><name>
<surname>Lem</surname><given-names>Ada</given-names></name></contrib></contrib-group>
<abstract><p>Brief.</p></abstract>
</article-meta></front><body><sec><title>Methods</title><p>With <inline-formula><mml:math><mml:mi>x</mml:mi>
</mml:math></inline-formula></p><table-wrap><label>Table 1</label><caption><p>Cap</p></caption><table>
<tr><td>a</td>
<td>b</td></tr></table></table-wrap><disp-formula>
<tex-math>\documentclass{m}\begin{document}$$a^2$$\end{document}
</tex-math></disp-formula></sec></body><back><ref-list><title>References</title><ref>
<mixed-citation>Bo, <source>S
</source> 1999</mixed-citation></ref></ref-list></back></article>"""
FB2 = """<?xml version="1.0" encoding="windows-1251"?><FictionBook xmlns="http://www.gribuser.ru/xml/fictionbook/2.0">
<description><title-info><genre>sf</genre><author><first-name>Аня</first-name></author><book-title>Лёд</book-title>
</title-info><document-info><id>noid</id></document-info></description><body><title><p>Лёд</p><p>Роман</p></title>
<section><title><p>Глава</p></title><p>Было <emphasis>холодно</emphasis>.</p>
<poem><stanza><v>Строка</v></stanza></poem>
</section></body><binary id="a.png" content-type="image/png">iVBORw0KGgo=</binary></FictionBook>"""
DATA = """<?xml version="1.0"?><orders><order id="1"><customer>Ada</customer><item sku="x1"/>
<price currency="EUR">12.50</price></order><order id="2"><customer>Bo</customer></order></orders>"""

TEI = (
    "<TEI><teiHeader><fileDesc><titleStmt><title>Doc</title></titleStmt></fileDesc></teiHeader><text><body>"
    "<div><head>One</head><p>Words.</p></div></body></text></TEI>"
)

VTT = """WEBVTT - a title

NOTE no comment

STYLE
::cue { color: nostyle }

1
00:00:01.000 --> 00:00:04.000 align:start
<v Ada>Hello <i>world</i>, this &amp; that.

00:04.500 --> 00:06.000
<v Bo Krug>And <c.yellow>mine</c>
continues

01:01:00.000 --> 01:01:03.000
After a pause.

More of it.
"""
SRT = (
    "1\n00:00:01,000 --> 00:00:02,500\n{\\an8}<i>First line</i>\nsecond line\n\n"
    "2\n00:00:02,600 --> 00:00:04,000\nsecond line\nthird.\n"
)
RST = """=====
Title
=====

Intro with *words*.

Section
-------

.. note::

   A body.

   More of it.

Sub
~~~

+---+---+
| a | b |
+---+---+
"""
ORG = """#+TITLE: Plans
* TODO First :tag:
Some words.
| a | b |
** Second
#+BEGIN_SRC python
x = 1

* no heading
#+END_SRC
"""
PROGRAM = '''"""A module."""

# Title
X = {
    "a": 1,

    "b": 2,
}


class A:
    """Docs."""

    def f(self):
        return 1
'''
LATEX = r"""\documentclass[a4paper]{article}
\usepackage[utf8]{inputenc} % nocomment
\newcommand{\product}{EmberQ}
\title{On \emph{warm} workers}
\author{J\"org M\"{u}ller}
\begin{document}
\maketitle
\section{Intro}\label{nolabel}
We use \product{} for 5\% of files~\cite{lem2020}, for \$5. % nocomment
Fran\c{c}ais na\"ive \textbf{bold words} ``quoted''---dash.\footnote{A note.}

Formulas $x^2 + y$ and \[ E = mc^2 \] stay.
\subsection*{Deeper}
\begin{itemize}\item first \item[Term] second\end{itemize}
\begin{enumerate}\item one \item two\end{enumerate}
\begin{table}\caption{Sizes}\begin{tabular}{l|r}\hline a & b \\ \hline 1 & 2 \\ \end{tabular}\end{table}
\begin{verbatim}
code % kept
\end{verbatim}
\begin{align}a &= b\end{align}
\includegraphics[width=3cm]{nofile.png}\href{https://example.org}{there} \unknown{kept words}
\end{document}
"""


PRINTED = (
    "We use EmberQ for 5% of files [lem2020], for $5. Français naïve bold words"
    ' "quoted"\N{EM DASH}dash. (A note.)'
)


def notebook(*cells: dict[str, object], **fields: object) -> str:
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5, **fields})


def read(text: str | bytes, name: str = "") -> Document:
    stream = io.BytesIO(text.encode() if isinstance(text, str) else text)
    return extract_stream(stream, media_type=detect_stream(stream, name=name))


def pieces(document: Document) -> list[tuple[str, int]]:
    return [(document.text[part.start : part.end], part.level) for part in document.segments]


@pytest.mark.parametrize(
    ("text", "name", "kind"),
    [
        (DOCBOOK, "", media.DOCBOOK),
        ('<book xmlns="http://docbook.org/ns/docbook"><title>a</title></book>', "", media.DOCBOOK),
        (JATS, "", media.JATS),
        ("<?xml version='1.0'?><article><front><x>a</x></front></article>", "", media.JATS),
        (FB2.encode("cp1251"), "", media.FB2),
        (DATA, "a.txt", media.XML),
        ("<catalog><x>a</x></catalog>", "a.xml", media.XML),
        ('<!-- a --><?pi b?>\n<svg xmlns="http://www.w3.org/2000/svg"><text>a</text></svg>', "", media.SVG),
        ("<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><p>a</p></html>", "", media.HTML),
        ("<p>a</p><p>b</p>", "a.txt", media.HTML),
        (notebook({"cell_type": "code", "source": "x"}), "", media.NOTEBOOK),
        ('{"cells": [], "name": "nbformat"}', "a.ipynb", media.JSON),
        (VTT, "", media.VTT),
        (SRT, "a.txt", media.SRT),
        (SRT.replace("\n", "\r\n"), "", media.SRT),
        (RST, "", media.RST),
        ("Words only.\n", "a.rst", media.RST),
        (ORG, "", media.ORG),
        (LATEX, "", media.LATEX),
        ("Words only.\n", "chapter.tex", media.LATEX),
        (PROGRAM, "a.py", media.SOURCE),
        ("#!/usr/bin/env node\nlet a = 1\n", "tool", media.SOURCE),
        ("# Title\n\nWords.\n", "Makefile", media.SOURCE),
        ("# Title\n\nWords with [a link](https://example.org).\n", "a.md", media.MARKDOWN),
        ("1\n2\n3\n", "a.txt", media.TEXT),
    ],
)
def test_a_kind_is_told_by_content_and_then_by_name(text: str | bytes, name: str, kind: str) -> None:
    stream = io.BytesIO(text.encode() if isinstance(text, str) else text)

    assert detect_stream(stream, name=name) == kind


def test_a_notebook_has_its_cells_and_the_text_of_its_outputs() -> None:
    document = read(
        notebook(
            {"cell_type": "markdown", "source": ["# Title\n", "Words."]},
            {
                "cell_type": "code",
                "source": "plot()\n\nx",
                "outputs": [
                    {"output_type": "stream", "text": ["one\n", "two\n"]},
                    {"data": {"image/png": PICTURE, "text/plain": "<Figure size 2x2>"}},
                    {"data": {"text/html": "<table><tr><td>a<td>b</table>", "text/plain": "a  b"}},
                    {"data": {"text/plain": ["42"]}},
                    {"ename": "ValueError", "evalue": "bad", "traceback": ["\x1b[0;31mat line 1\x1b[0m"]},
                ],
            },
            {"cell_type": "raw", "source": "raw words"},
        )
    )

    assert pieces(document) == [
        ("# Title", 1),
        ("Words.", 0),
        ("plot()\n\nx", 0),
        ("one\ntwo", 0),
        ("a | b", 0),
        ("42", 0),
        ("at line 1\nValueError: bad", 0),
        ("raw words", 0),
    ]
    assert document.warnings == (FileWarning(WarningCode.IMAGES_SKIPPED),)


def test_an_old_notebook_is_read() -> None:
    cells = [{"cell_type": "heading", "level": 2, "source": "Old"}, {"cell_type": "code", "input": "y"}]
    document = read(notebook(worksheets=[{"cells": cells}], cells=[]))

    assert pieces(document) == [("Old", 2), ("y", 0)]


def test_a_notebook_that_is_no_json_is_corrupt() -> None:
    with pytest.raises(CorruptFile):
        extract_stream(io.BytesIO(b'{"cells": ['), media_type=media.NOTEBOOK)


def test_docbook_has_its_titles_as_headings() -> None:
    assert pieces(read(DOCBOOK)) == [
        ("The Book", 1),
        ("Ada Lem", 0),
        ("First EmberProduct chapter", 2),
        ("Some inline text — & more. End.", 0),
        ("The note.", 0),
        ("two words", 0),
        ("Deeper", 3),
        ("1. one", 0),
        ("2. two", 0),
        ("def f():\n    return 1", 0),
        ("Sizes", 0),
        ("x | 1\nx | 2", 0),
        ("See there (https://example.org/x).", 0),
    ]


def test_an_article_has_its_sections_tables_and_formulas() -> None:
    assert pieces(read(JATS)) == [
        ("10.1/x", 0),
        ("On E. coli", 1),
        ("Lem Ada", 0),
        ("Brief.", 0),
        ("Methods", 2),
        ("With $x$", 0),
        ("Table 1", 0),
        ("Cap", 0),
        ("a | b", 0),
        ("$a^2$", 0),
        ("References", 2),
        ("Bo, S 1999", 0),
    ]


def test_a_fiction_book_is_read_without_its_pictures() -> None:
    document = read(FB2.encode("cp1251"))

    assert pieces(document) == [
        ("sf", 0),
        ("Аня", 0),
        ("Лёд", 1),
        ("Лёд Роман", 1),
        ("Глава", 2),
        ("Было холодно.", 0),
        ("Строка", 0),
    ]
    assert document.warnings == (FileWarning(WarningCode.IMAGES_SKIPPED),)


@pytest.mark.parametrize(
    ("xml", "headings"),
    [
        (
            "<rss><channel><title>News</title><item><title>One</title><d>x</d></item></channel></rss>",
            ["News", "One"],
        ),
        (TEI, ["Doc", "One"]),
    ],
)
def test_formats_like_the_known_ones_have_headings(xml: str, headings: list[str]) -> None:
    found = [(text, level) for text, level in pieces(read(f"<?xml version='1.0'?>{xml}")) if level]

    assert found == [(text, level) for level, text in enumerate(headings, 1)]


def test_any_xml_has_its_values_with_their_names() -> None:
    assert read(DATA).text.split("\n") == [
        *("order: id 1", "", "customer: Ada", "item: sku x1", "price (currency EUR): 12.50", ""),
        *("order: id 2", "", "customer: Bo"),
    ]


def test_xml_that_is_not_well_formed_is_text() -> None:
    assert "Ada & Bo" in read("<?xml version='1.0'?><a><b>Ada & Bo</a>").text


def test_subtitles_are_paragraphs_with_the_time_of_their_beginning() -> None:
    assert [text for text, _ in pieces(read(VTT))] == [
        "[00:00:01] Ada: Hello world, this & that.",
        "[00:00:04] Bo Krug: And mine continues",
        "[01:01:00] After a pause. More of it.",
    ]
    assert [text for text, _ in pieces(read(SRT))] == ["[00:00:01] First line second line third."]


def test_long_speech_is_parted_after_sentences() -> None:
    cue = "00:{:02}:{:02}.000 --> 00:{:02}:{:02}.900\nPart {} of a longer speech{}\n\n"
    text = "WEBVTT\n\n" + "".join(
        cue.format(n // 60, n % 60, n // 60, n % 60, n, "." if n % 3 == 2 else "") for n in range(120)
    )

    parts = [piece for piece, _ in pieces(read(text))]

    assert 5 < len(parts) < 12
    assert all(part.endswith(".") for part in parts)


@pytest.mark.parametrize("text", [RST, ORG, PROGRAM])
def test_light_markup_and_programs_are_kept_unchanged(text: str) -> None:
    assert read(text, "a.py" if text is PROGRAM else "").text == text


def test_restructured_text_has_its_headings() -> None:
    document = read(RST)

    headings = [(text.split("\n")[-2], level) for text, level in pieces(document) if level]
    assert headings == [("Title", 1), ("Section", 2), ("Sub", 3)]
    assert (".. note::\n\n   A body.\n\n   More of it.", 0) in pieces(document)
    assert document.segments[-1].kind is SegmentKind.TABLE


def test_org_has_its_headings() -> None:
    document = read(ORG)

    assert [piece for piece in pieces(document) if piece[1]] == [
        ("#+TITLE: Plans", 1),
        ("* TODO First :tag:", 1),
        ("** Second", 2),
    ]
    assert pieces(document)[-1][0].count("\n") == 4


def test_what_stands_at_the_margin_of_a_program_is_a_segment() -> None:
    starts = [text.split("\n")[0] for text, _ in pieces(read(PROGRAM, "a.py"))]

    assert starts == ['"""A module."""', "# Title", "class A:"]


def test_latex_is_read_as_it_is_printed() -> None:
    document = read(LATEX)

    assert pieces(document) == [
        ("On warm workers", 1),
        ("Jörg Müller", 0),
        ("Intro", 2),
        (PRINTED, 0),
        ("Formulas $x^2 + y$ and $E = mc^2$ stay.", 0),
        ("Deeper", 3),
        ("- first", 0),
        ("Term second", 0),
        ("1. one", 0),
        ("2. two", 0),
        ("Sizes", 0),
        ("a | b\n1 | 2", 0),
        ("code % kept", 0),
        ("$a &= b$ there (https://example.org) kept words", 0),
    ]


def test_latex_without_a_beginning_is_read_from_its_first_word() -> None:
    assert read("First {\\it words} % none\n\nand\\ more", "a.tex").text == "First words\n\nand more"


#: Hostile files by what they repeat.
HOSTILE = {
    "xml-deep": "<?xml version='1.0'?><a>" + "<p>" * 240 + "<b>x</b> " * 100_000 + "</p>" * 240 + "</a>",
    "xml-notes": "<?xml version='1.0'?><a>" + "<fn><p>x" * 120 + "</p></fn>" * 120 + "</a>",
    "xml-leaves": "<?xml version='1.0'?><a>" + "<b c='d'>e</b>" * 50_000 + "</a>",
    "xml-entities": f"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY e '{'x' * 900}'>]><a>{'&e;' * 200_000}</a>",
    "xml-heads": "<?xml version='1.0'?>" + "<!-- -" * 100_000,
    "srt-times": SRT + "00:00:01,000 --> " * 100_000,
    "srt-blocks": SRT * 10_000,
    "srt-tags": SRT + "<v " * 200_000,
    "rst-signs": RST + "====\n" * 50_000,
    "rst-directives": RST + "..\n\n  a\n\n" * 50_000,
    "org-stars": ORG + "*" * 200_000 + "\n" + "* a\n" * 50_000,
    "org-blocks": ORG + "#+begin_a\n" * 50_000,
    "tex-braces": LATEX.replace("\\end{document}", "{" * 200_000),
    "tex-labels": LATEX.replace("\\end{document}", "\\label{\n" * 50_000),
    "tex-formulas": LATEX.replace("\\end{document}", "\\( " * 100_000 + "$" * 100_001),
    "tex-titles": LATEX.replace("\\end{document}", "\\section{\\title{a" * 50_000),
    "tex-macros": LATEX.replace("EmberQ", "x" * 200).replace("\\end{document}", "\\product " * 200_000),
    "tex-options": LATEX.replace("\\end{document}", "\\cite[" * 100_000),
    "py-lines": PROGRAM + "x\n\n" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_does_not_hold_the_reader_up(name: str) -> None:
    started = time.process_time()

    with suppress(FileError):
        read(HOSTILE[name], f"a.{name.partition('-')[0]}")

    assert time.process_time() - started < 10


#: For each format, a file whose places for words are filled with words of their own.
PLACES = {
    "ipynb": notebook(
        {
            "cell_type": "markdown",
            "source": ["# @\n", "@ **@** [@](a)\n", "\n", "| @ | @ |\n|---|---|\n| @ | @ |"],
        },
        {
            "cell_type": "code",
            "source": "@ = '@'",
            "outputs": [{"text": "@\n@"}, {"data": {"text/plain": "@"}}],
        },
        {"cell_type": "code", "source": "@", "outputs": [{"ename": "@", "evalue": "@", "traceback": ["@"]}]},
        {"cell_type": "raw", "source": "@"},
    ),
    "dbk": '<?xml version="1.0"?><book xmlns="http://docbook.org/ns/docbook"><info><title>@</title>'
    "<author><personname><firstname>@</firstname></personname></author><abstract><para>@</para>"
    "</abstract></info><preface><title>@</title><para>@<footnote><para>@</para></footnote> @ "
    "<code>@</code></para></preface><chapter><title>@</title><note><title>@</title><para>@</para>"
    "</note><variablelist><varlistentry><term>@</term><listitem><para>@</para></listitem>"
    "</varlistentry></variablelist><procedure><step><para>@</para></step></procedure><screen>@"
    "</screen><table><title>@</title><tgroup><thead><row><entry>@</entry><entry>@</entry></row>"
    "</thead><tbody><row><entry><para>@</para></entry><entry>@</entry></row></tbody></tgroup>"
    "</table><figure><title>@</title><mediaobject><textobject><phrase>@</phrase></textobject>"
    "</mediaobject></figure><blockquote><attribution>@</attribution><para>@</para></blockquote>"
    "</chapter><glossary><glossentry><glossterm>@</glossterm><glossdef><para>@</para></glossdef>"
    "</glossentry></glossary></book>",
    "xml": '<?xml version="1.0"?><a b="@"><c>@</c><d e="@"/><f g="@">@</f><h>@ <i>@</i> @</h>'
    "<j><![CDATA[@]]></j></a>",
    "vtt": "WEBVTT\n\n00:01.000 --> 00:02.000\n<v @>@ <b>@</b>\n@\n\n"
    "a name\n00:03.000 --> 00:04.000\n- @\n- @\n",
    "srt": "1\n00:00:01,000 --> 00:00:02,000\n<i>@</i>\n@\n\n2\n00:00:03,000 --> 00:00:04,000\n@\n\n@\n",
    "rst": "@\n===\n\n@ *@* `@ <https://example.org>`_\n\n.. note:: @\n\n"
    "   @\n\n:@: @\n\n@\n  @\n\n- @\n\n@::\n\n  @\n",
    "org": "#+TITLE: @\n* @\n@ *@* [[https://example.org][@]]\n- @\n| @ | @ |\n#+BEGIN_SRC\n@\n#+END_SRC\n",
    "tex": r"\documentclass{a}\title{@}\author{@}\date{@}\begin{document}\begin{abstract}@\end{abstract}"
    r"\section{@ \emph{@}}@ {\bf @} \textit{@}\footnote{@} \href{https://example.org}{@} \url{@} "
    r"\cite{@} \unknown{@}{@} $@$ \[@\] @~@ @\\@\begin{itemize}\item @ \item[@] @\end{itemize}"
    r"\begin{quote}@\end{quote}\begin{figure}\caption{@}\end{figure}\begin{tabular}{ll}@ & @ \\ "
    r"\multicolumn{2}{l}{@} \\ \end{tabular}\begin{verbatim}@\end{verbatim}\begin{equation}@"
    r"\end{equation}\begin{theorem}[@]@\end{theorem}\paragraph{@} @ \end{document}",
    "py": '"""@"""\nimport @\n\n# @\nclass @:\n    def @(self):\n        return "@"\n',
}


@pytest.mark.parametrize("suffix", PLACES)
def test_nearly_every_word_of_a_file_is_read(suffix: str) -> None:
    words = [f"word{number:03}" for number in range(PLACES[suffix].count("@"))]
    text = "".join(map("".join, zip(PLACES[suffix].split("@"), [*words, ""], strict=True)))

    found = read(text, f"a.{suffix}").text

    missing = [word for word in words if word not in found]
    assert len(missing) <= 0.02 * len(words), missing
    assert all(found.count(word) == 1 for word in words if word not in missing)
