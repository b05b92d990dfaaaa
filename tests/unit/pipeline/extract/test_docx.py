"""Word files are read as Word shows them."""
# ruff: noqa: E501 - XML is easier to read in long lines

from __future__ import annotations

import io
from collections.abc import Mapping

import docx
import pytest

from emberq.errors import NoTextFound
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.document import Document
from emberq.pipeline.extract import media
from tests.harness import sample_files as files

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
LINKS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
MATHS = "http://schemas.openxmlformats.org/officeDocument/2006/math"
DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"
SPACES = (
    f'xmlns:w="{WORD}" xmlns:r="{LINKS}" xmlns:m="{MATHS}" xmlns:a="{DRAWING}" xmlns:v="urn:schemas-microsoft-com:vml"'
    ' xmlns:o="urn:schemas-microsoft-com:office:office"'
    ' xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart"'
    ' xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing"'
    ' xmlns:pic="http://schemas.openxmlformats.org/drawingml/2006/picture"'
    ' xmlns:w14="http://schemas.microsoft.com/office/word/2010/wordml"'
)


def word_file(
    body: str,
    *,
    numbering: str = "",
    styles: str = "",
    parts: Mapping[str, tuple[str, bytes | str]] | None = None,
    targets: Mapping[str, str] | None = None,
) -> bytes:
    """Write a Word file.

    Args:
        body: The blocks of its body.
        numbering: The definitions of its lists.
        styles: Its styles.
        parts: By name in the folder `word`, the kind of the link to a part, whose id is the name, and its content.
        targets: Targets of links by id.
    """
    linked: dict[str, tuple[str, bytes | str]] = dict(parts or {})
    if numbering:
        linked["numbering.xml"] = ("numbering", f"<w:numbering {SPACES}>{numbering}</w:numbering>")
    if styles:
        linked["styles.xml"] = ("styles", f"<w:styles {SPACES}>{styles}</w:styles>")
    links = "".join(
        f'<Relationship Id="{name}" Type="{LINKS}/{kind}" Target="{name}"/>'
        for name, (kind, _) in linked.items()
    )
    links += "".join(
        f'<Relationship Id="{key}" Type="{LINKS}/hyperlink" Target="{target}" TargetMode="External"/>'
        for key, target in (targets or {}).items()
    )
    main = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    members: dict[str, bytes | str] = {
        "[Content_Types].xml": f'<Types><Override PartName="/word/document.xml" ContentType="{main}"/></Types>',
        "_rels/.rels": f'<R><Relationship Id="d" Type="{LINKS}/officeDocument" Target="word/document.xml"/></R>',
        "word/_rels/document.xml.rels": f"<R>{links}</R>",
        "word/document.xml": f"<w:document {SPACES}><w:body>{body}</w:body></w:document>",
        **{f"word/{name}": content for name, (_, content) in linked.items()},
    }
    return files.make_zip(
        **{name: text.encode() if isinstance(text, str) else text for name, text in members.items()}
    )


def paragraph(text: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr>{run(text)}</w:p>"


def run(text: str) -> str:
    return f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'


def item(text: str, level: int = 0, number: str = "1", style: str = "") -> str:
    place = f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>'
    return paragraph(text, f'<w:pStyle w:val="{style}"/>{place}' if style else place)


def level(at: int, way: str, text: str, more: str = "") -> str:
    return (
        f'<w:lvl w:ilvl="{at}"><w:start w:val="1"/><w:numFmt w:val="{way}"/>{more}'
        f'<w:lvlText w:val="{text}"/></w:lvl>'
    )


def definition(*levels: str, identity: str = "0") -> str:
    return f'<w:abstractNum w:abstractNumId="{identity}">{"".join(levels)}</w:abstractNum>'


def listed(number: str = "1", identity: str = "0", more: str = "") -> str:
    return f'<w:num w:numId="{number}"><w:abstractNumId w:val="{identity}"/>{more}</w:num>'


def read(data: bytes) -> Document:
    return files.extract_bytes(data, media.DOCX)


def lines(
    body: str, numbering: str = "", styles: str = "", targets: Mapping[str, str] | None = None
) -> list[str]:
    text = read(word_file(body, numbering=numbering, styles=styles, targets=targets)).text
    return [line for line in text.split("\n") if line]


def cell(text: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{paragraph(text)}</w:tc>"


def table(*rows: str) -> str:
    return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in rows)}</w:tbl>"


def test_clauses_have_their_numbers() -> None:
    body = item("Term") + item("Start", 1) + item("End", 1) + item("Liability") + item("Limits", 1)
    numbering = definition(level(0, "decimal", "%1."), level(1, "decimal", "%1.%2")) + listed()

    assert lines(body, numbering) == ["1. Term", "1.1 Start", "1.2 End", "2. Liability", "2.1 Limits"]


@pytest.mark.parametrize(
    ("way", "shown"),
    [
        ("decimalZero", ["(01)", "(02)", "(03)"]),
        ("upperRoman", ["(I)", "(II)", "(III)"]),
        ("lowerRoman", ["(i)", "(ii)", "(iii)"]),
        ("upperLetter", ["(A)", "(B)", "(C)"]),
        ("lowerLetter", ["(a)", "(b)", "(c)"]),
        ("ordinal", ["(1st)", "(2nd)", "(3rd)"]),
        ("japaneseCounting", ["(一)", "(二)", "(三)"]),
        ("bullet", ["-", "-", "-"]),
        ("unknown", ["(1)", "(2)", "(3)"]),
    ],
)
def test_numbers_are_written_in_the_way_of_their_list(way: str, shown: list[str]) -> None:
    body = "".join(item("x") for _ in range(3))

    assert lines(body, definition(level(0, way, "(%1)")) + listed()) == [f"{label} x" for label in shown]


def test_legal_numbering_writes_all_levels_with_digits() -> None:
    levels = (level(0, "upperRoman", "%1."), level(1, "decimal", "%1.%2", "<w:isLgl/>"))

    assert lines(item("a") + item("b", 1), definition(*levels) + listed()) == ["I. a", "1.1 b"]


def test_a_list_that_starts_anew_and_one_that_goes_on() -> None:
    anew = '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="5"/></w:lvlOverride>'
    numbering = definition(level(0, "decimal", "%1.")) + listed("1") + listed("2", more=anew) + listed("3")
    body = item("a") + item("b", number="2") + item("c", number="2") + item("d", number="3")

    assert lines(body, numbering) == ["1. a", "5. b", "6. c", "7. d"]


def test_a_level_that_never_starts_again_counts_on() -> None:
    levels = (level(0, "decimal", "%1."), level(1, "decimal", "Article %2", '<w:lvlRestart w:val="0"/>'))
    body = item("a") + item("b", 1) + item("c") + item("d", 1)

    assert lines(body, definition(*levels) + listed()) == ["1. a", "Article 1 b", "2. c", "Article 2 d"]


def test_styles_number_their_paragraphs() -> None:
    styles = (
        '<w:style w:type="paragraph" w:styleId="H1"><w:name w:val="heading 1"/><w:pPr><w:numPr>'
        '<w:numId w:val="1"/></w:numPr></w:pPr></w:style>'
        '<w:style w:type="paragraph" w:styleId="H2"><w:name w:val="heading 2"/><w:basedOn w:val="H1"/></w:style>'
    )
    levels = (
        level(0, "decimal", "%1", '<w:pStyle w:val="H1"/>'),
        level(1, "decimal", "%1.%2", '<w:pStyle w:val="H2"/>'),
    )
    body = "".join(
        paragraph(text, f'<w:pStyle w:val="{style}"/>') for text, style in (("a", "H1"), ("b", "H2"))
    )
    body += paragraph("c", '<w:pStyle w:val="H1"/><w:numPr><w:numId w:val="0"/></w:numPr>')

    document = read(word_file(body, numbering=definition(*levels) + listed(), styles=styles))

    assert [(s.level, document.text[s.start : s.end]) for s in document.segments] == [
        (1, "1 a"),
        (2, "1.1 b"),
        (1, "c"),
    ]


def test_styles_that_are_based_on_each_other_in_a_circle_end() -> None:
    styles = "".join(
        f'<w:style w:styleId="{name}"><w:basedOn w:val="{parent}"/></w:style>'
        for name, parent in ("ab", "bc", "ca")
    )

    assert lines(paragraph("x", '<w:pStyle w:val="a"/>'), styles=styles) == ["x"]


def test_columns_of_a_table_with_merged_cells_stay_in_their_place() -> None:
    body = table(
        cell("Name") + cell("Q1") + cell("Q2"),
        cell("Both", '<w:gridSpan w:val="2"/>') + cell("Second"),
        cell("North", '<w:vMerge w:val="restart"/>') + cell("1") + cell("2"),
        cell("", "<w:vMerge/>") + cell("3") + cell("4"),
    )

    assert lines(body) == ["Name | Q1 | Q2", "Both |  | Second", "North | 1 | 2", "North | 3 | 4"]


def test_a_comment_stands_after_its_paragraph_with_its_author() -> None:
    comment = (
        f'<w:comments {SPACES}><w:comment w:id="7" w:author="Zoë">{paragraph("Check this.")}</w:comment>'
        f'<w:comment w:id="8">{paragraph("Nowhere.")}</w:comment></w:comments>'
    )
    body = f'<w:p>{run("First.")}<w:r><w:commentReference w:id="7"/></w:r></w:p>' + paragraph("Second.")

    document = read(word_file(body, parts={"comments.xml": ("comments", comment)}))

    assert document.text.split("\n\n") == [
        "First.",
        "Comment by Zoë: Check this.",
        "Second.",
        "Comment: Nowhere.",
    ]


def test_pieces_of_other_documents_are_read_in_their_place() -> None:
    chunks: dict[str, tuple[str, bytes | str]] = {
        "one.html": ("aFChunk", "<html><body><h1>Rules</h1><p>Quiet after ten.</p></body></html>"),
        "two.txt": ("aFChunk", "Plain words of a text.\n"),
        "three.docx": ("aFChunk", files.make_docx()),
    }
    body = (
        paragraph("Before.")
        + "".join(f'<w:altChunk r:id="{name}"/>' for name in chunks)
        + paragraph("After.")
    )

    text = read(word_file(body, parts=chunks)).text

    wanted = ["Before.", "Rules", "Quiet after ten.", "Plain words of a text.", "Before the table.", "After."]
    assert [text.index(words) for words in wanted] == sorted(text.index(words) for words in wanted)
    assert "one.html" not in text


def test_an_embedded_file_is_read_under_its_name() -> None:
    body = f'<w:p>{run("See:")}<w:r><w:object><o:OLEObject r:id="sizes.xlsx"/></w:object></w:r></w:p>'

    text = read(word_file(body, parts={"sizes.xlsx": ("package", files.make_xlsx())})).text

    assert "sizes.xlsx\n\nSizes\n\nname | size" in text


def test_a_chart_has_its_titles_categories_and_values() -> None:
    def cached(name: str, *values: str) -> str:
        points = "".join(f'<c:pt idx="{at}"><c:v>{value}</c:v></c:pt>' for at, value in enumerate(values))
        return f"<c:{name}><c:strRef><c:strCache>{points}</c:strCache></c:strRef></c:{name}>"

    def numbers(*values: str) -> str:
        points = "".join(f'<c:pt idx="{at}"><c:v>{value}</c:v></c:pt>' for at, value in enumerate(values))
        return f"<c:val><c:numRef><c:numCache><c:formatCode>0%</c:formatCode>{points}</c:numCache></c:numRef></c:val>"

    places = cached("cat", "Kassel", "Fulda")
    chart = (
        f"<c:chartSpace {SPACES}><c:chart><c:title><c:tx><c:rich><a:p><a:r><a:t>Sales</a:t></a:r></a:p></c:rich>"
        f"</c:tx></c:title><c:plotArea><c:barChart><c:ser>{cached('tx', 'Plan')}{places}{numbers('0.5', '0.25')}"
        f"</c:ser><c:ser>{cached('tx', 'Real')}{places}{numbers('0.4', '1')}</c:ser></c:barChart></c:plotArea>"
        "</c:chart></c:chartSpace>"
    )
    body = '<w:p><w:r><w:drawing><a:graphic><c:chart r:id="c.xml"/></a:graphic></w:drawing></w:r></w:p>' * 2

    document = read(word_file(body, parts={"c.xml": ("chart", chart)}))

    assert document.text == "Sales\n\n| Plan | Real\nKassel | 50% | 40%\nFulda | 25% | 100%"


def test_a_diagram_and_its_words() -> None:
    diagram = (
        f"<d:dataModel xmlns:d='urn:d' {SPACES}><d:ptLst><d:pt><d:t><a:p><a:r><a:t>Plan</a:t></a:r></a:p></d:t></d:pt>"
        "<d:pt type='pres'><d:t><a:p><a:r><a:t>unseen</a:t></a:r></a:p></d:t></d:pt></d:ptLst></d:dataModel>"
    )
    body = '<w:p><w:r><w:drawing><d:relIds xmlns:d="urn:d" r:dm="d.xml"/></w:drawing></w:r></w:p>'

    assert read(word_file(body, parts={"d.xml": ("diagramData", diagram)})).text == "Plan"


def picture(described: str = "") -> str:
    return (
        f'<w:p><w:r><w:drawing><wp:inline><wp:docPr id="1" name="x" {described}/><a:graphic><a:graphicData><pic:pic>'
        '<pic:nvPicPr><pic:cNvPr id="0" name="image.png"/></pic:nvPicPr></pic:pic></a:graphicData></a:graphic>'
        "</wp:inline></w:drawing></w:r></w:p>"
    )


def test_pictures_are_their_description_or_counted() -> None:
    document = read(word_file(paragraph("Words.") + picture('descr="A red lorry"') + picture() + picture()))

    assert document.text == "Words.\n\nA red lorry"
    assert [(warning.code, warning.count) for warning in document.warnings] == [
        (WarningCode.IMAGES_SKIPPED, 2)
    ]


def maths(inner: str) -> str:
    return f"<w:p><m:oMath>{inner}</m:oMath></w:p>"


def m(text: str) -> str:
    return f"<m:r><m:t>{text}</m:t></m:r>"


@pytest.mark.parametrize(
    ("inner", "written"),
    [
        (f"<m:f><m:num>{m('a+b')}</m:num><m:den>{m('2c')}</m:den></m:f>", r"\frac{a+b}{2c}"),
        (f"<m:sSup><m:e>{m('x')}</m:e><m:sup>{m('2')}</m:sup></m:sSup>", "x^{2}"),
        (f"<m:sSub><m:e>{m('ab')}</m:e><m:sub>{m('i')}</m:sub></m:sSub>", "{ab}_{i}"),
        (
            f"<m:sSubSup><m:e>{m('x')}</m:e><m:sub>{m('i')}</m:sub><m:sup>{m('2')}</m:sup></m:sSubSup>",
            "x_{i}^{2}",
        ),
        (f"<m:rad><m:radPr><m:degHide/></m:radPr><m:deg/><m:e>{m('x')}</m:e></m:rad>", r"\sqrt{x}"),
        (f"<m:rad><m:deg>{m('3')}</m:deg><m:e>{m('x')}</m:e></m:rad>", r"\sqrt[3]{x}"),
        (
            f"<m:nary><m:naryPr><m:chr m:val='∑'/></m:naryPr><m:sub>{m('i=1')}</m:sub><m:sup>{m('n')}</m:sup><m:e>{m('i')}</m:e></m:nary>",
            r"\sum_{i=1}^{n}{i}",
        ),
        (f"<m:nary><m:sub/><m:sup/><m:e>{m('x')}</m:e></m:nary>", r"\int{x}"),
        (f"<m:d><m:e>{m('x')}</m:e></m:d>", r"\left( x \right)"),
        (
            f"<m:d><m:dPr><m:begChr m:val='{{'/><m:endChr m:val=''/></m:dPr><m:e>{m('x')}</m:e></m:d>",
            r"\left\{ x \right.",
        ),
        (f"<m:func><m:fName>{m('sin')}</m:fName><m:e>{m('x')}</m:e></m:func>", r"\sin{x}"),
        (f"<m:acc><m:accPr><m:chr m:val='\u20d7'/></m:accPr><m:e>{m('v')}</m:e></m:acc>", r"\vec{v}"),
        (f"<m:bar><m:barPr><m:pos m:val='top'/></m:barPr><m:e>{m('z')}</m:e></m:bar>", r"\overline{z}"),
        (f"<m:limLow><m:e>{m('lim')}</m:e><m:lim>{m('x→0')}</m:lim></m:limLow>", r"\lim_{x→0}"),
        (
            f"<m:m><m:mr><m:e>{m('1')}</m:e><m:e>{m('0')}</m:e></m:mr><m:mr><m:e>{m('0')}</m:e><m:e>{m('1')}</m:e></m:mr></m:m>",
            r"\begin{matrix} 1 & 0 \\ 0 & 1 \end{matrix}",
        ),
        (m("50% &amp; _"), r"50\% \& \_"),
    ],
)
def test_equations_are_latex(inner: str, written: str) -> None:
    assert lines(maths(inner)) == [f"${written}$"]


def test_deep_equations_are_read_to_their_end() -> None:
    inner = m("x")
    for _ in range(80):
        inner = f"<m:rad><m:deg/><m:e>{inner}</m:e></m:rad>"

    assert "x" in lines(maths(inner))[0]


def field(code: str, result: str, control: str = "") -> str:
    mark = '<w:r><w:fldChar w:fldCharType="{}">{}</w:fldChar></w:r>'
    middle = mark.format("separate", "") + result if result else ""
    return f"{mark.format('begin', control)}<w:r><w:instrText>{code}</w:instrText></w:r>{middle}{mark.format('end', '')}"


def test_fields_are_their_results() -> None:
    body = f"<w:p>{field('PAGE', run('7'))}{run(' of ')}{field('IF ' + '', field('X', run('hidden')) + run('nine'))}</w:p>"
    nested = field("IF", "").replace(
        "IF</w:instrText></w:r>", f"IF</w:instrText></w:r>{field('PAGE', run('3'))}"
    )

    assert lines(body) == ["7 of hiddennine"]
    assert lines(f"<w:p>{run('a')}{nested}{run('b')}</w:p>") == ["ab"]


def test_links_tell_their_targets_once() -> None:
    link = f'<w:hyperlink r:id="web">{run("our page")}</w:hyperlink>'
    same = f'<w:hyperlink r:id="own">{run("https://example.org/own")}</w:hyperlink>'
    code = field('HYPERLINK "mailto:a@example.org"', run("write"))
    body = f"<w:p>{link}</w:p><w:p>{link}</w:p><w:p>{same}</w:p><w:p>{code}</w:p>"

    assert lines(body, targets={"web": "https://example.org/web", "own": "https://example.org/own"}) == [
        "our page (https://example.org/web)",
        "our page",
        "https://example.org/own",
        "write (a@example.org)",
    ]


def test_boxes_to_check_and_lists_to_choose_from() -> None:
    new = "<w:sdt><w:sdtPr><w14:checkbox><w14:checked w14:val='{}'/></w14:checkbox></w:sdtPr><w:sdtContent>{}</w:sdtContent></w:sdt>"
    old = field("FORMCHECKBOX", "", "<w:ffData><w:checkBox><w:default w:val='1'/></w:checkBox></w:ffData>")
    choice = field(
        "FORMDROPDOWN",
        "",
        "<w:ffData><w:ddList><w:result w:val='1'/><w:listEntry w:val='red'/><w:listEntry w:val='blue'/></w:ddList></w:ffData>",
    )
    body = (
        f"<w:p>{new.format(1, run('x'))}{run(' yes ')}{new.format(0, run('x'))}{run(' no')}</w:p>"
        f"<w:p>{old}{run(' old')}</w:p><w:p>{choice}</w:p>"
    )

    assert lines(body) == ["☒ yes ☐ no", "☒ old", "blue"]


def test_readings_stand_once_behind_their_text() -> None:
    ruby = "<w:r><w:ruby><w:rt>{}</w:rt><w:rubyBase>{}</w:rubyBase></w:ruby></w:r>"
    body = f"<w:p>{ruby.format(run('とう'), run('東'))}{ruby.format(run('きょう'), run('京'))}{run('支店です。')}</w:p>"

    assert lines(body) == ["東京支店です。 (とうきょう)"]


def test_signs_of_symbol_fonts_and_hyphens() -> None:
    body = (
        '<w:p><w:r><w:sym w:font="Wingdings" w:char="F0FC"/><w:t xml:space="preserve"> Win\u00adkel</w:t><w:softHyphen/>'
        "<w:t>schleifer E</w:t><w:noBreakHyphen/><w:t>Mail o\ufb03ce \uff12\uff10</w:t></w:r>"
        '<w:r><w:rPr><w:rFonts w:ascii="Symbol"/></w:rPr><w:t>\uf061</w:t></w:r></w:p>'
    )

    assert lines(body) == ["✓ Winkelschleifer E-Mail office 20\u03b1"]


def test_word_art_and_old_boxes_are_text() -> None:
    box = f"<w:pict><v:shape><v:textbox><w:txbxContent>{paragraph('boxed')}</w:txbxContent></v:textbox></v:shape></w:pict>"
    art = '<w:pict><v:shape><v:textpath string="ARTFUL"/></v:shape></w:pict>'

    assert lines(f"<w:p><w:r>{box}</w:r><w:r>{art}</w:r></w:p>") == ["ARTFUL", "boxed"]


def test_a_header_is_read_once_though_it_has_a_copy_for_old_programs() -> None:
    box = f"<w:txbxContent>{paragraph('Draft')}</w:txbxContent>"
    copies = "http://schemas.openxmlformats.org/markup-compatibility/2006"
    header = (
        f'<w:hdr {SPACES} xmlns:mc="{copies}"><w:p><w:r><mc:AlternateContent><mc:Choice Requires="wps">{box}</mc:Choice>'
        f"<mc:Fallback>{box}</mc:Fallback></mc:AlternateContent></w:r></w:p></w:hdr>"
    )

    assert read(word_file(paragraph("Body"), parts={"h.xml": ("header", header)})).text == "Draft\n\nBody"


def test_properties_that_are_not_in_the_text_stand_at_its_end() -> None:
    document = docx.Document()
    document.add_paragraph("About lorries.")
    document.core_properties.title = "The Lorry Book"
    document.core_properties.keywords = "lorries"
    document.core_properties.author = "Zoë Writer"
    target = io.BytesIO()
    document.save(target)

    assert read(target.getvalue()).text == "About lorries.\n\nTitle: The Lorry Book\nAuthor: Zoë Writer"


def test_a_title_alone_is_no_text() -> None:
    document = docx.Document()
    document.core_properties.title = "The Lorry Book"
    target = io.BytesIO()
    document.save(target)

    with pytest.raises(NoTextFound):
        read(target.getvalue())


def test_a_damaged_chart_or_comment_costs_only_itself() -> None:
    body = f'{paragraph("Words.")}<w:p><w:r><w:drawing><c:chart r:id="c.xml"/></w:drawing></w:r></w:p>'
    parts = {"c.xml": ("chart", "<broken <<"), "comments.xml": ("comments", "<broken <<")}

    document = read(word_file(body, parts=parts))

    assert document.text == "Words."
    assert [(warning.code, warning.count) for warning in document.warnings] == [
        (WarningCode.PART_UNREADABLE, 2)
    ]
