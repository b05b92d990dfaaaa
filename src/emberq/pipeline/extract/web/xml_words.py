"""The elements of XML documents: what DocBook, JATS, FictionBook, and formats like them use for what."""

from __future__ import annotations

from typing import Final

from emberq.pipeline.extract import media

#: The media types of documents, by the name of the root element.
ROOTS: Final = {
    **dict.fromkeys(("book", "chapter", "set", "part", "refentry", "section"), media.DOCBOOK),
    "FictionBook": media.FB2,
    "svg": media.SVG,
}
#: Namespaces and types of documents whose root element is also that of other formats.
ARTICLES: Final = (("docbook", media.DOCBOOK), ("jats", media.JATS), ("nlm", media.JATS))

#: Elements that are a level of headings, if they have a title.
SECTIONS: Final = frozenset(
    (
        *(
            "set",
            "book",
            "part",
            "chapter",
            "appendix",
            "preface",
            "article",
            "section",
            "simplesect",
            "partintro",
        ),
        *(
            "sect1",
            "sect2",
            "sect3",
            "sect4",
            "sect5",
            "refentry",
            "refsect1",
            "refsect2",
            "refsect3",
            "glossary",
        ),
        *(
            "bibliography",
            "index",
            "dedication",
            "colophon",
            "reference",
            "refsection",
            "sec",
            "app",
            "ref-list",
        ),
        *(
            "abstract",
            "ack",
            "fn-group",
            "FictionBook",
            "topic",
            "div",
            "div1",
            "div2",
            "div3",
            "concept",
            "task",
        ),
        *("TEI", "feed", "channel", "item", "entry"),
    )
)
#: Elements that hold the title of the section around them.
HOLDERS: Final = frozenset(
    (
        *(
            "info",
            "bookinfo",
            "articleinfo",
            "chapterinfo",
            "sectioninfo",
            "setinfo",
            "partinfo",
            "prefaceinfo",
        ),
        *("front", "article-meta", "title-group", "front-stub", "book-meta", "title-info", "description"),
        *("refnamediv", "refmeta", "prolog", "body"),
        *("teiHeader", "fileDesc", "titleStmt"),
    )
)
TITLES: Final = frozenset(("title", "article-title", "book-title", "refentrytitle", "head"))

#: Elements whose content is one paragraph.
LINES: Final = TITLES | frozenset(
    (
        *(
            "para",
            "simpara",
            "p",
            "subtitle",
            "titleabbrev",
            "term",
            "author",
            "editor",
            "translator",
            "contrib",
        ),
        *(
            "name",
            "person-group",
            "mixed-citation",
            "element-citation",
            "nlm-citation",
            "biblioentry",
            "bibliomixed",
        ),
        *(
            "date",
            "pub-date",
            "history",
            "copyright",
            "permissions",
            "kwd-group",
            "keywordset",
            "v",
            "text-author",
        ),
        *(
            "l",
            "seg",
            "label",
            "aff",
            "legalnotice",
            "refname",
            "refpurpose",
            "glossterm",
            "phrase",
            "attribution",
        ),
        *("article-id", "journal-id", "issn", "kwd", "shortdesc", "subject", "address", "ab"),
    )
)
#: Elements that are paragraphs of their own inside a paragraph.
BREAKS: Final = frozenset(
    (
        *(
            "itemizedlist",
            "orderedlist",
            "variablelist",
            "simplelist",
            "segmentedlist",
            "procedure",
            "list",
            "ul",
        ),
        *("ol", "listitem", "list-item", "li", "step", "member", "varlistentry", "def-item", "glossentry"),
        *(
            "blockquote",
            "disp-quote",
            "epigraph",
            "cite",
            "poem",
            "stanza",
            "note",
            "tip",
            "warning",
            "caution",
        ),
        *(
            "important",
            "figure",
            "informalfigure",
            "mediaobject",
            "caption",
            "example",
            "informalexample",
            "fig",
        ),
        *("table-wrap", "table", "informaltable", "boxed-text", "sidebar", "qandaset", "question", "answer"),
        *("disp-formula", "equation", "informalequation", "speech", "verse-group", "title", "para", "p"),
    )
)
PREFORMATTED: Final = frozenset(
    ("programlisting", "screen", "literallayout", "synopsis", "preformat", "code-block", "codeblock", "pre")
)
TABLES: Final = frozenset(("table", "informaltable"))
NOTES: Final = frozenset(("footnote", "fn"))
ITEMS: Final = frozenset(("listitem", "list-item", "li", "step", "member"))
ORDERED: Final = frozenset(("orderedlist", "procedure", "ol"))
LISTS: Final = ORDERED | {"itemizedlist", "simplelist", "list", "ul", "variablelist"}

#: Elements that are no text: pictures as base64, numbers of programs, and descriptions of columns.
SILENT: Final = frozenset(
    ("binary", "document-info", "custom-info", "style", "script", "colspec", "indexterm")
)

#: Attributes with the target of a link.
TARGETS: Final = ("url", "href")
