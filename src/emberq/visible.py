"""How names, messages and addresses are shown to people."""

from __future__ import annotations

import unicodedata
from typing import Final

#: Printable characters that show as nothing: fillers of Hangul, and the empty pattern of Braille.
_BLANK: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def visible(text: str, *, keep: str = "") -> str:
    r"""Return a text in which every character that a reader does not see is escaped, as `\n` or `\u202e`.

    These are control and format characters, bidirectional and zero-width ones among them, separators of
    lines, and what is no character. A file's name may otherwise move the cursor of a terminal, forge a line
    of a log, or show `fdp.exe` as `exe.pdf`.

    Args:
        text: The text.
        keep: Characters that stay, such as the newlines of a text of several lines.
    """
    if text.isprintable() and _BLANK.isdisjoint(text):
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if _is_hidden(character) and character not in keep
        else character
        for character in text
    )


def host_and_port(host: str, port: int) -> str:
    """Return an address as it stands in a URL: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_hidden(character: str) -> bool:
    # Spaces of other widths are not printable for Python, and are seen.
    return character in _BLANK or not (character.isprintable() or unicodedata.category(character) == "Zs")
