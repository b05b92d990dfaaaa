"""HTML is read as people see it."""

from __future__ import annotations

import io
import time
from contextlib import suppress

import pytest

from emberq.errors import FileError
from emberq.pipeline.document import Document, SegmentKind
from emberq.pipeline.extract import media
from emberq.pipeline.extract.read import extract_stream

#: A page with one marker word for each thing that a page may have.
FEATURES = """<!doctype html><html lang=en><head><meta charset=utf-8><title>wtitle</title>
<meta name=description content="wdescription"><meta name=keywords content="wkeyword"><meta name=author
content=wauthor><meta property="og:title" content="wpreview"><script type="application/ld+json">
{"@context": "https://schema.org", "@graph": [{"@type": "Article", "headline": "wheadline", "url": "nourl"}]}
</script><style>.nostyle{}</style><script>noscripttext</script></head><body><nav>wnav</nav><h1>wheading</h1>
<p>wbody <b>wjo</b>ined, H<sub>2</sub>O, caf&eacute; &lt;wtag&gt; &#x77;numeric
wtext<sup><a href=#n1>1</a></sup></p>
<img src=a alt="wpicture" title="wpicturetitle"><img src="data:image/png;base64,nodata" alt="">
<a href="https://example.org/wtarget" title="wlinktitle">wlink</a> <a href="mailto:wmail@example.org">m</a>
<abbr title="wexpansion">abbr</abbr>
<ol start=3><li>wthree<ul><li>wnested</li></ul><li value=7 type=I>wseven</ol><dl><dt>wterm<dd>wmeaning</dl>
<table><caption>wcaption</caption><tr><th>wname<th>wsize<tr><td rowspan=2>wmerged<td>wcell<ul><li>wpoint</ul>
<tr><td>wlast<br>wline</table><table><tr><td>wouter<td><table><tr><td>winner<td>x</table></table>
<details><summary>wsummary</summary>wdetails</details><noscript>wwithout</noscript>
<template>notemplate</template><template shadowrootmode=open>wshadow</template><div hidden>whidden</div>
<div style="display:none">wtab</div><span aria-label="wlabel"></span><form><label>wfield<input value="wvalue"
placeholder="whint"></label><input type=hidden value=nohidden><input type=password value=nopassword><input
type=checkbox checked>wchecked<select><optgroup label=wgroup><option>woption<option
selected>wselected</select>
<textarea>wlong</textarea><button>wbutton</button><input type=submit value=wsend></form><pre>wpre  two
    windented</pre><blockquote>wquote</blockquote><figure><figcaption>wfigure</figcaption></figure>
<svg><title>wdrawing</title><text>wdrawn</text></svg><math><mfrac><mi>wtop</mi><mi>wbottom</mi></mfrac></math>
<ruby>wbase<rp>(</rp><rt>wreading</rt><rp>)</rp></ruby><iframe srcdoc="&lt;p&gt;wframe"></iframe>
<video><track>wvideo</video><object>wobject</object><p>wsoft&shy;hyphen w<wbr>break</p>wtail<br>wend
<!-- nocomment --><footer>wfooter</footer><p dir=rtl>\u0645\u0631\u062d\u0628\u0627</body></html>"""


WORDS = (
    *("wtitle", "wdescription", "wkeyword", "wauthor", "wpreview", "wheadline", "wnav", "wheading", "wbody"),
    *("wjoined", "H2O", "café", "<wtag>", "wnumeric", "wtext[1]", "wpicture", "wpicturetitle", "wlinktitle"),
    *("https://example.org/wtarget", "wlink", "wmail", "wexpansion", "3. wthree", "- wnested", "VII. wseven"),
    *("wterm", "wmeaning", "wcaption", "wname", "wsize", "wmerged", "wcell", "wpoint", "wlast", "wline"),
    *("wouter", "winner", "wsummary", "wdetails", "wwithout", "wshadow", "whidden", "wtab", "wlabel"),
    *("wfield", "wvalue", "whint", "[x] wchecked", "wgroup", "woption", "[x] wselected", "wlong", "wbutton"),
    *("wsend", "wpre  two\n    windented", "wquote", "wfigure", "wdrawing", "wdrawn", "wtop", "wbottom"),
    *("wbase", "wreading", "wframe", "wvideo", "wobject", "wsofthyphen", "wbreak", "wtail\nwend", "wfooter"),
    "\u0645\u0631\u062d\u0628\u0627",
)
HIDDEN = (
    *("nourl", "nostyle", "noscripttext", "nodata", "notemplate", "nohidden", "nopassword", "nocomment"),
    "schema.org",
)

RUBY = "<ruby>東京<rp>(</rp><rt>とうきょう</rt><rp>)</rp></ruby>"
MATRIX = r"\begin{matrix} a & b \\ c \end{matrix}"


def read(text: str) -> Document:
    return extract_stream(io.BytesIO(text.encode()), media_type=media.HTML)


def lines(text: str) -> list[str]:
    document = read(f"<!doctype html><body>{text}")
    return [document.text[part.start : part.end] for part in document.segments]


def test_every_feature_of_a_page_is_in_its_text() -> None:
    text = read(FEATURES).text

    assert not [word for word in WORDS if word not in text]
    assert not [word for word in HIDDEN if word in text]


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        ("<ol><li>a<ol type=a><li>b<li>c</ol><li>d</ol>", ["1. a", "a. b", "b. c", "2. d"]),
        ("<ol start=27 type=A><li>a</ol><ol start=4 type=i><li>b</ol>", ["AA. a", "iv. b"]),
        ("<ol reversed><li>a<li>b</ol>", ["2. a", "1. b"]),
        ("<ol><li value=5>a<li>b<li value=-1>c</ol>", ["5. a", "6. b", "-1. c"]),
        ("<ol start=x><li>a</ol><ol type=I start=4000><li>b</ol>", ["1. a", "4000. b"]),
        ('<ol style="list-style: upper-roman"><li>a</ol>', ["I. a"]),
        ("<ol><li><p>a</p><p>b</p><li><h2>c</h2></ol>", ["1. a", "b", "2. c"]),
        ("<ul><li>a</ul><li>b", ["- a", "- b"]),
        ("<ol><li></li><li>b</ol>", ["2. b"]),
    ],
)
def test_items_have_the_numbers_that_browsers_show(html: str, shown: list[str]) -> None:
    assert lines(html) == shown


@pytest.mark.parametrize(
    ("html", "rows"),
    [
        ("<tr><td rowspan=2>a<td>b<tr><td>c", ["a | b", "a | c"]),
        ("<tr><td>a<td rowspan=2>b<td>c<tr><td>d<td>e", ["a | b | c", "d | b | e"]),
        ("<tr><td colspan=2>a<td>b<tr><td>c<td>d<td>e", ["a |  | b", "c | d | e"]),
        ("<tr><td rowspan=0>a<td>b<tr><td>c<tr><td>d", ["a | b", "a | c", "a | d"]),
        ("<tr><td>a<td>b<td rowspan=2>c<tr><td>d", ["a | b | c", "d |  | c"]),
        ("<tr><td rowspan=2 colspan=2>a<td>b<tr><td>c", ["a |  | b", "a |  | c"]),
        ("<tr><td colspan=nine>a<td rowspan=-1>b<tr><td>c<td>d", ["a | b", "c | d"]),
    ],
)
def test_columns_stay_in_their_place(html: str, rows: list[str]) -> None:
    assert lines(f"<table>{html}</table>") == ["\n".join(rows)]


def test_a_caption_stands_before_its_table() -> None:
    assert lines("<table><caption>Sizes</caption><tr><td>a<td>1</table>") == ["Sizes", "a | 1"]


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<ruby>東<rt>とう</rt>京<rt>きょう</rt></ruby>支店は", "東京支店は (とうきょう)"),
        (f"{RUBY}、{RUBY}", "東京、東京 (とうきょう)"),
        ("<rt>alone</rt>", "alone"),
        ('before<img src=a alt="A plan">after', "before A plan after"),
        ('<a href="https://example.org/a">https://example.org/a</a>', "https://example.org/a"),
        ("<a href=/b>b</a> <a href='javascript:x'>c</a> <a href=#d>d</a>", "b c d"),
        (f"<a href='https://example.org/a?{'q' * 200}'>a</a>", "a (https://example.org/a)"),
        ("<a href=#n1><sup>*</sup></a> a<sup><a href=#n2>[2]</a></sup>", "[*] a[2]"),
        ("a<a role=doc-noteref href=x.html#n>3</a>", "a[3]"),
        ("Versicherungs&shy;police, Quer&#8203;ver&#8203;binder", "Versicherungspolice, Querverbinder"),
        ("<q>said</q> &copy 5 &lt; 6 &nosuch; &#233;", '"said" © 5 < 6 &nosuch; é'),
    ],
)
def test_a_line_reads_as_it_is_shown(html: str, text: str) -> None:
    assert lines(f"<p>{html}</p>") == [text]


@pytest.mark.parametrize(
    ("formula", "latex"),
    [
        ("<semantics><mi>x</mi><annotation encoding='application/x-tex'>x^2</annotation></semantics>", "x^2"),
        ("<msup><mi>x</mi><mn>2</mn></msup><mo>+</mo><msqrt><mi>y</mi></msqrt>", r"x^{2} + \sqrt{y}"),
        ("<mfrac><mi>a</mi><mrow><mi>b</mi><mo>+</mo><mi>c</mi></mrow></mfrac>", r"\frac{a}{b + c}"),
        ("<munderover><mo>∑</mo><mi>i</mi><mi>n</mi></munderover><mi>a</mi>", "∑_{i}^{n} a"),
        ("<mtable><mtr><mtd>a</mtd><mtd>b</mtd></mtr><mtr><mtd>c</mtd></mtr></mtable>", MATRIX),
        ("<mfenced><mi>a</mi><mi>b</mi></mfenced><mfrac><mi>broken</mi></mfrac>", "(a, b) broken"),
    ],
)
def test_a_formula_is_latex(formula: str, latex: str) -> None:
    assert lines(f"<p><math>{formula}</math></p>") == [f"${latex}$"]


def test_a_heading_has_no_targets_in_it() -> None:
    assert lines("<h2>News: <a href='https://example.org/a'>a</a></h2><p>b") == [
        *("News: a", "(https://example.org/a)", "b"),
    ]


def test_a_target_is_written_once_and_not_in_navigation() -> None:
    link = '<a href="https://example.org/a">a</a> '

    assert lines(f"<nav>{link}</nav><p>{link}{link}</p>") == ["a", "a (https://example.org/a) a"]


@pytest.mark.parametrize(
    "before",
    [
        '<noscript><div id="nojs"></noscript>',
        "<noscript><table><tr><td></noscript><noscript></div></noscript>",
        "<noscript>",
        "<!-- <noscript> -->",
        "<script>document.write('<noscript>')</script>",
        "<NOSCRIPT><iframe src=a></NoScript >",
    ],
)
def test_a_broken_noscript_does_not_contain_the_page(before: str) -> None:
    text = read(
        f"<!doctype html><title>t</title><body>{before}<h1>Heading</h1><p>words<noscript>b</noscript>"
    ).text

    assert "Heading" in text
    assert "words" in text


def test_a_large_noscript_is_read_only_if_there_is_nothing_else() -> None:
    page = f"<!doctype html><title>t</title><body>%s<noscript><p>{'other ' * 300}</p></noscript>"

    assert "other" not in read(page % "words").text
    assert read(page % "<div id=app></div>").text.count("other") == 300


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ('<meta http-equiv="Content-Type" content="charset=gbk"><p>家居'.encode("gbk"), "家居"),
        ("<meta charset=shift_jis><p>東京支店".encode("cp932"), "東京支店"),
        ("<meta charset=iso-2022-jp><p>東京支店".encode("iso2022_jp"), "東京支店"),
        ("<meta charset=iso-8859-1><p>für 5 €".encode("cp1252"), "für 5 €"),
        ("<meta charset=iso-8859-1><p>für".encode(), "für"),
        ("<!doctype html><meta charset=iso-8859-1><p>für".encode("utf-16"), "für"),
        ("<meta charset=utf-8><p>für".encode("utf-8-sig"), "für"),
    ],
)  # fmt: skip
def test_a_page_is_read_in_its_encoding(data: bytes, text: str) -> None:
    document = extract_stream(io.BytesIO(data), media_type=media.HTML)

    assert document.text == text


@pytest.mark.parametrize(
    "html",
    [
        "<table>" + "<tr><td rowspan=65534 colspan=1000>" * 60_000,
        "<table>" + "<tr><td rowspan=0><td colspan=100>a" * 30_000,
        "<ol reversed>" * 1500 + "<li>a" * 50_000,
        "<noscript>" * 100_000,
        "<noscript></noscript>" * 20_000,
        "<!--<noscript><script><noscript><title>" * 50_000,
        "<ruby><rt>" * 50_000,
        "<math>" * 40 + "<mrow>" * 1000 + "<mi>x</mi>" * 50_000,
        "<iframe srcdoc='&lt;iframe srcdoc=&quot;&amp;lt;p&gt;a'>" * 20_000,
        "<a href=https://a.example/" + "a" * 200_000 + ">b",
        "".join(f"<a href=https://a.example/{n}>b</a><table><tr><td>a<td>b</table>" for n in range(20_000)),
        "<table><tr>" + "".join(f"<td><a href=https://a.example/{n}>b</a>" for n in range(20_000)) + "<h1>",
        '<script type="application/ld+json">[' + '{"headline": ' * 50_000 + "</script>a",
        "".join(f"<e{n}>a" for n in range(1500)),
    ],
)
def test_hostile_html_does_not_hold_the_reader_up(html: str) -> None:
    started = time.process_time()

    with suppress(FileError):
        read(f"<!doctype html><body>x{html}")

    assert time.process_time() - started < 10


def test_headings_and_tables_are_segments() -> None:
    document = read(FEATURES)

    kinds = {document.text[part.start : part.end]: part for part in document.segments}
    assert kinds["wtitle"].kind is SegmentKind.HEADING
    assert kinds["wheading"].level == 1
    assert kinds["wname | wsize\nwmerged | wcell - wpoint\nwmerged | wlast wline"].kind is SegmentKind.TABLE
