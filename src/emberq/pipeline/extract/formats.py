"""The formats that emberq reads: how each is told and read, what is kept of its structure, and what is not.

The reference page is made from this table, so each media type has its row.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from emberq.pipeline.extract import media


class Format(NamedTuple):
    """One row of the table.

    Attributes:
        name: What people call it.
        suffixes: The usual endings of names; they decide only between kinds of plain text.
        types: Its media types.
        told_by: By what its bytes are told.
        read_by: What reads it.
        kept: What of its structure is kept; the unit that counts as a page.
        left_out: What is not read.
    """

    name: str
    suffixes: str
    types: tuple[str, ...]
    told_by: str
    read_by: str
    kept: str
    left_out: str


_OFFICE: Final = "the types of its parts"
_OPEN: Final = "its member `mimetype`"
_STREAMS: Final = "the names of its streams"
_NAME: Final = "marks in the text, and the name"

#: All formats, in the order of the page.
FORMATS: Final = (
    Format(
        "PDF",
        ".pdf, .ai",
        (media.PDF,),
        "`%PDF-`",
        "pypdfium2",
        "pages, outline, columns, form values, notes, links, attachments",
        "pages that are pictures, unless OCR is on",
    ),
    Format(
        "Word",
        ".docx, .docm, .dotx",
        (media.DOCX,),
        _OFFICE,
        "lxml",
        "headings, numbers of lists, tables, notes, comments, headers, text boxes",
        "pictures, deleted text; it has no pages",
    ),
    Format(
        "Word 95 to 2003",
        ".doc, .dot",
        (media.DOC,),
        _STREAMS,
        "own reader",
        "headings, tables, results of fields, notes, comments, headers, text boxes",
        "pictures, numbers of lists, deleted and hidden text; it has no pages",
    ),
    Format(
        "PowerPoint",
        ".pptx, .pptm, .ppsx",
        (media.PPTX,),
        _OFFICE,
        "lxml",
        "slides as pages, titles, tables, charts, diagrams, notes, comments",
        "pictures",
    ),
    Format(
        "PowerPoint 97 to 2003",
        ".ppt, .pps",
        (media.PPT,),
        _STREAMS,
        "own reader",
        "slides as pages, titles, texts of shapes, notes",
        "pictures, charts, the rows of tables",
    ),
    Format(
        "Excel",
        ".xlsx, .xlsm, .xltx",
        (media.XLSX,),
        _OFFICE,
        "lxml",
        "sheets as pages, rows, values as shown, comments, charts",
        "formulas: their last values are read",
    ),
    Format(
        "Excel, binary",
        ".xlsb, .xls",
        (media.XLSB, media.XLS),
        f"{_OFFICE}, or {_STREAMS}",
        "python-calamine",
        "sheets as pages, rows, values",
        "formulas, comments, charts",
    ),
    Format(
        "OpenDocument workbook",
        ".ods",
        (media.ODS,),
        _OPEN,
        "lxml",
        "sheets as pages, rows, values as shown",
        "formulas: their last values are read",
    ),
    Format(
        "OpenDocument text",
        ".odt, .ott",
        (media.ODT,),
        _OPEN,
        "lxml",
        "headings and lists with their numbers, tables, frames, charts, formulas, notes, comments, headers",
        "pictures, deleted text; it has no pages",
    ),
    Format(
        "OpenDocument presentation",
        ".odp, .otp",
        (media.ODP,),
        _OPEN,
        "lxml",
        "slides as pages, titles, lists, tables, charts, comments, notes",
        "pictures",
    ),
    Format(
        "RTF",
        ".rtf",
        (media.RTF,),
        "`{\\rtf`",
        "own reader",
        "headings, numbers of lists, tables, notes, comments, headers",
        "pictures, embedded objects, hidden and deleted text; it has no pages",
    ),
    Format(
        "EPUB",
        ".epub",
        (media.EPUB,),
        _OPEN,
        "lxml",
        "title, authors, parts of the spine as pages, titles of chapters, headings, lists, tables, notes",
        "pictures, books with digital rights management",
    ),
    Format(
        "HTML",
        ".html, .htm, .xhtml",
        (media.HTML,),
        "its elements, also without `<html>`",
        "lxml",
        "title, headings, numbers of lists, merged cells, forms, targets of links, formulas as LaTeX",
        "scripts, styles, comments",
    ),
    Format(
        "Mail",
        ".eml",
        (media.EML,),
        "fields of its header",
        "the standard library",
        "parts as pages, header, attachments",
        "encrypted parts, attachments deeper than three levels",
    ),
    Format(
        "Mailbox",
        ".mbox",
        (media.MBOX,),
        "its lines `From `",
        "the standard library",
        "mails, each as a mail of its own",
        "as for mail",
    ),
    Format(
        "Outlook message",
        ".msg",
        (media.MSG,),
        _STREAMS,
        "own reader",
        "header, body, attachments",
        "as for mail",
    ),
    Format(
        "TNEF", "winmail.dat", (media.TNEF,), "its mark", "own reader", "body, attachments", "as for mail"
    ),
    Format(
        "Web archive",
        ".mhtml, .mht",
        (media.MHTML,),
        "fields of its header",
        "the standard library, lxml",
        "the pages as HTML",
        "pictures, styles",
    ),
    Format(
        "Calendar",
        ".ics",
        (media.ICALENDAR,),
        "`BEGIN:VCALENDAR`",
        "own reader",
        "entries in words",
        "alarms",
    ),
    Format(
        "Markdown",
        ".md, .markdown",
        (media.MARKDOWN,),
        _NAME,
        "own reader",
        "headings, tables, code, paragraphs",
        "embedded pictures",
    ),
    Format(
        "reStructuredText, Org, LaTeX",
        ".rst, .org, .tex",
        (media.RST, media.ORG, media.LATEX),
        _NAME,
        "own reader",
        "headings, blocks, tables",
        "what macros of LaTeX would print",
    ),
    Format(
        "Source code",
        ".py, .js, .c, …",
        (media.SOURCE,),
        "the name, or `#!` in its first line",
        "own reader",
        "functions, classes and blocks as they are written",
        "",
    ),
    Format(
        "Text",
        ".txt, .log, …",
        (media.TEXT,),
        "everything else whose bytes are text",
        "own reader",
        "paragraphs",
        "colours and other commands of terminals",
    ),
    Format(
        "CSV, TSV",
        ".csv, .tsv, .tab",
        (media.CSV,),
        "a delimiter that makes columns, and the name",
        "the standard library",
        "rows; each chunk with the column names",
        "",
    ),
    Format(
        "JSON, JSON Lines",
        ".json, .jsonl",
        (media.JSON, media.JSON_LINES),
        "its syntax",
        "the standard library",
        "lines of `path: value`",
        "embedded files in base64",
    ),
    Format(
        "Notebook",
        ".ipynb",
        (media.NOTEBOOK,),
        "its keys",
        "the standard library",
        "cells, and the text of their outputs",
        "pictures",
    ),
    Format(
        "XML",
        ".xml, .fb2, .svg",
        (media.XML, media.DOCBOOK, media.JATS, media.FB2, media.SVG),
        "its root element",
        "lxml",
        "headings and tables of DocBook, JATS and FictionBook; of others the text in its order",
        "attributes of text, pictures",
    ),
    Format(
        "Subtitles",
        ".vtt, .srt",
        (media.VTT, media.SRT),
        "its time stamps",
        "own reader",
        "what is said, with its time",
        "styles",
    ),
    Format(
        "Picture",
        ".png, .jpg, .tiff, .bmp, .webp",
        (media.PNG, media.JPEG, media.TIFF, media.BMP, media.WEBP),
        "its mark",
        "RapidOCR, with the extra `emberq[ocr]`",
        "lines in reading order; pictures of a TIFF as pages",
        "everything without the extra, or with `ocr_enabled` off",
    ),
    Format(
        "Archive of documents",
        ".zip, .tar, .tgz, .tar.bz2, .tar.xz",
        (media.ZIP, media.TAR),
        "its mark, or the checksum of its header",
        "the standard library, own reader of TAR",
        "files as pages, each with its path as heading",
        "hidden files, links, archives deeper than three levels, encrypted files",
    ),
    Format(
        "Packed file",
        ".gz, .bz2, .xz",
        (media.GZIP, media.BZIP2, media.XZ),
        "its mark",
        "the standard library",
        "the file in it",
        "",
    ),
)
