"""Detects markup other than HTML, subtitles and programs: by their beginning, then by the file's name."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Final

from emberq.pipeline.extract import media
from emberq.pipeline.extract.web import xml_words

#: What may stand before the root element of XML, and the element's name. No quantifier backtracks.
_ROOT: Final = re.compile(
    r"\s*+(?:<\?xml\b[^>]*+>\s*+)?+(?:(?:<!--(?:[^-]|-(?!->))*+-->|<\?[^>]*+>)\s*+)*+"
    r"(?P<doctype><!DOCTYPE\s[^\[>]*+(?:\[[^\]]*+\]\s*+)?+>\s*+)?+(?:(?:<!--(?:[^-]|-(?!->))*+-->|<\?[^>]*+>)\s*+)*+"
    r"<(?:[\w.-]+:)?+(?P<name>[A-Za-z_][\w.-]*+)(?P<attributes>[^>]*+)>"
)
_SUBTITLE: Final = re.compile(r"\s*+\d{1,6}[ \t]*+\r?\n\d{1,3}:\d\d:\d\d[,.]\d{1,3}[ \t]*+-->")
_LATEX: Final = re.compile(r"^[ \t]*+\\(?:documentclass|documentstyle|begin\{document\})", re.MULTILINE)
_ORG: Final = re.compile(r"^#\+(?:title|author|options|startup|begin_src):?\s", re.MULTILINE | re.IGNORECASE)
_RST_DIRECTIVE: Final = re.compile(r"^\.\. (?:[\w-]+::|_[^:\n]+:)", re.MULTILINE)
_RST_TITLE: Final = re.compile(r"^\S[^\n]{2,}\n([=\-~^\"'`#*+.:_])\1{2,}[ \t]*$", re.MULTILINE)
_SHEBANG: Final = re.compile(r"#![ \t]*+/\S")

_SUFFIXES: Final = {
    **dict.fromkeys((".rst", ".rest"), media.RST),
    ".org": media.ORG,
    **dict.fromkeys((".tex", ".ltx", ".latex"), media.LATEX),
}
_XML_SUFFIXES: Final = frozenset(
    (".xml", ".fb2", ".svg", ".docbook", ".dbk", ".nxml", ".tei", ".dita", ".rss")
)
#: The endings of names of programs and of their settings.
_PROGRAMS: Final = frozenset(
    (
        *(
            ".py",
            ".pyi",
            ".pyx",
            ".js",
            ".mjs",
            ".cjs",
            ".jsx",
            ".ts",
            ".tsx",
            ".vue",
            ".svelte",
            ".java",
            ".kt",
        ),
        *(
            ".kts",
            ".scala",
            ".groovy",
            ".c",
            ".h",
            ".cc",
            ".cpp",
            ".cxx",
            ".hh",
            ".hpp",
            ".cs",
            ".fs",
            ".vb",
            ".go",
        ),
        *(
            ".rs",
            ".swift",
            ".m",
            ".mm",
            ".rb",
            ".php",
            ".pl",
            ".pm",
            ".lua",
            ".r",
            ".jl",
            ".hs",
            ".ml",
            ".mli",
        ),
        *(
            ".ex",
            ".exs",
            ".erl",
            ".clj",
            ".lisp",
            ".el",
            ".scm",
            ".sql",
            ".sh",
            ".bash",
            ".zsh",
            ".fish",
            ".ps1",
        ),
        *(
            ".bat",
            ".cmd",
            ".awk",
            ".tcl",
            ".asm",
            ".s",
            ".f",
            ".f90",
            ".f95",
            ".pas",
            ".ada",
            ".adb",
            ".cob",
            ".d",
        ),
        *(
            ".dart",
            ".zig",
            ".nim",
            ".v",
            ".sv",
            ".vhd",
            ".vhdl",
            ".proto",
            ".graphql",
            ".thrift",
            ".tf",
            ".hcl",
        ),
        *(
            ".css",
            ".scss",
            ".sass",
            ".less",
            ".yaml",
            ".yml",
            ".toml",
            ".ini",
            ".cfg",
            ".conf",
            ".properties",
        ),
        *(".cmake", ".gradle", ".mk", ".bzl", ".nix", ".sol", ".cu", ".cl", ".glsl", ".wgsl", ".bib", ".sty"),
    )
)
_PROGRAM_NAMES: Final = frozenset(
    ("makefile", "dockerfile", "jenkinsfile", "rakefile", "gemfile", "cmakelists.txt")
)


def markup_kind(text: str, name: str | None) -> str | None:
    """Return the media type of markup, subtitles or a program; None if a text is none of them.

    Args:
        text: The beginning of the text, which is not HTML.
        name: The file's name.
    """
    return _xml_kind(text, name) or _kind_by_beginning(text) or _kind_by_name(name) or _kind_by_marks(text)


def _kind_by_beginning(text: str) -> str | None:
    if text.startswith("WEBVTT"):
        return media.VTT
    if _SUBTITLE.match(text):
        return media.SRT
    return media.SOURCE if _SHEBANG.match(text) else None


def _kind_by_name(name: str | None) -> str | None:
    path = PurePath((name or "").lower())
    is_program = path.suffix in _PROGRAMS or path.name in _PROGRAM_NAMES
    return media.SOURCE if is_program else _SUFFIXES.get(path.suffix)


def _kind_by_marks(text: str) -> str | None:
    if _LATEX.search(text):
        return media.LATEX
    if _RST_DIRECTIVE.search(text) and _RST_TITLE.search(text):
        return media.RST
    return media.ORG if _ORG.search(text) else None


def _xml_kind(text: str, name: str | None) -> str | None:
    root = _ROOT.match(text) if text.lstrip().startswith("<") else None
    if root is None:
        return None
    about = f"{root['doctype'] or ''} {root['attributes']}".lower()
    known = xml_words.ROOTS.get(root["name"])
    for mark, kind in xml_words.ARTICLES:
        if mark in about:
            return kind
    if root["name"] == "article":
        known = media.JATS if "<front" in text else media.DOCBOOK
    is_declared = text.lstrip().startswith("<?xml") or root["doctype"] or "xmlns" in about
    is_declared = is_declared or PurePath((name or "").lower()).suffix in _XML_SUFFIXES
    return (known or media.XML) if is_declared else None
