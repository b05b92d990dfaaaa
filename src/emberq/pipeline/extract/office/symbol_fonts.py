"""The characters of symbol fonts, whose codes mean other signs than in Unicode."""

from __future__ import annotations

import re
from typing import Final

#: Codes of symbol fonts in Word's texts.
PRIVATE: Final = re.compile("[\uf020-\uf0ff]")


#: What Word adds to the codes of symbol fonts.
_OFFSET: Final = 0xF000


def _table(codes: str, signs: str) -> dict[int, str]:
    return {int(code, 16): sign for code, sign in zip(codes.split(), signs.split(), strict=True)}


_SYMBOL: Final = {
    **dict(zip(range(0x41, 0x5B), "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ", strict=True)),
    **dict(zip(range(0x61, 0x7B), "αβχδεφγηιϕκλμνοπθρστυϖωξψζ", strict=True)),
    **_table(
        "22 24 27 2a 2d 40 5c 5e 7e a0 a2 a3 a5 a7 a8 a9 aa",
        "∀ ∃ ∋ \u2217 \u2212 ≅ ∴ ⊥ \u223c € \u2032 ≤ ∞ ♣ ♦ ♥ ♠",
    ),
    **_table(
        "ab ac ad ae af b0 b1 b2 b3 b4 b5 b6 b7 b8 b9 ba bb bc", "↔ ← ↑ → ↓ ° ± ″ ≥ \u00d7 ∝ ∂ • ÷ ≠ ≡ ≈ …"
    ),
    **_table(
        "c5 c7 c8 cb cc ce cf d0 d1 d5 d6 d7 d8 d9 da db dc de",
        "⊕ ∩ \u222a ⊄ ⊂ ∈ ∉ ∠ ∇ ∏ √ ⋅ ¬ ∧ \u2228 ⇔ ⇐ ⇒",
    ),
    **_table("e5 f2", "∑ ∫"),
}
_WINGDINGS: Final = _table(
    "28 2a 46 4a 4c 51 6c 6e 6f 71 72 76 9f a7 a8 d8 df e0 e1 e2 e8 ef f0 f1 f2 fb fc fd fe",
    "☎ ✉ ☞ ☺ ☹ ✈ ● ■ ☐ ❑ ❒ ❖ • ▪ ☐ ➢ ← → ↑ ↓ ➔ ⇦ ⇨ ⇧ ⇩ ✗ ✓ ☒ ☑",
)
_WINGDINGS_2: Final = _table("4f 50 51 52 53 54 97 a2 a3", "✗ ✓ ☒ ☑ ☒ ☒ ● ■ ☐")
_FONTS: Final = {"symbol": _SYMBOL, "wingdings": _WINGDINGS, "wingdings 2": _WINGDINGS_2}


def symbol(code: int, font: str) -> str:
    """Return the sign that a font shows for a code; an empty text if it is not known.

    Args:
        code: The code, also with the offset F000 that Word adds.
        font: The name of the font.
    """
    table = _FONTS.get(font.lower())
    if table is not None:
        return table.get(code & 0xFF if code >= _OFFSET else code, "")
    return chr(code) if _OFFSET > code != 0 else ""


def replace_private(text: str, font: str) -> str:
    """Return a text with the codes of a symbol font replaced by the signs that it shows."""
    return PRIVATE.sub(lambda found: symbol(ord(found[0]), font), text)
