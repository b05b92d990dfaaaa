"""Write reference_vectors.json: what sentence-transformers makes of some texts.

Run it in an environment of its own, because emberq does without torch:

    pip install torch sentence-transformers
    HF_HUB_OFFLINE=1 python tests/data/make_reference_vectors.py MODEL_FOLDER

MODEL_FOLDER holds all-MiniLM-L6-v2 as published, with its modules.json and 1_Pooling.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

TEXTS = [
    "",
    " ",
    "\n\n\t",
    ".",
    "a",
    "Invoice",
    "42",
    "Where is the invoice for the second pump?",
    "WHERE IS THE INVOICE FOR THE SECOND PUMP?",
    "The ferry leaves at seven, unless the wind is above force eight.",
    "A warm worker keeps its model in memory, so the next file does not wait for it.",
    "naïve café façade — coöperate, Ångström, São Tomé",
    "Die Lieferung verzögert sich um drei Wochen, weil ein Bauteil fehlt.",
    "Поезд отходит с третьего пути в половине девятого.",  # noqa: RUF001
    "会议改到星期四下午三点，请带上合同。",  # noqa: RUF001
    "東京の天気は明日も晴れでしょう。",
    "배송은 월요일에 시작됩니다.",
    "يبدأ الاجتماع في الساعة التاسعة صباحا",
    "τὸ πλοῖον ἔφυγε πρὶν ξημερώσει",
    "🚢🐟🌧️ 👩‍🔧 done",
    "e\u0301 versus \u00e9, ﬁne ligatures, zero\u200bwidth, soft\u00adhyphen",
    "control \x01\x02 characters and a \ufffd replacement",
    "def total(rows):\n    return sum(row.price * row.count for row in rows if not row.cancelled)",
    "SELECT name, count(*) FROM parts WHERE stock < 5 GROUP BY name HAVING count(*) > 1;",
    '{"id": 17, "tags": ["pump", "valve"], "price": 12.5}',
    "| part | stock |\n|---|---|\n| pump | 3 |\n| valve | 12 |",
    "[CLS] and [SEP] and [MASK] as plain text",
    "https://example.org/a/b?c=d&e=f#part-7",
    "x" * 99,
    "x" * 300,
    "Each valve was tested at four bar for ten minutes. " * 8,
    "The harbour log names every ship, its cargo, its draught and the hour it came in. " * 30,
    " ".join(f"measurement {number} gave {number * 7 % 13}.{number * 3 % 10} units" for number in range(120)),
    "一二三四五六七八九十" * 40,
    "tabs\tand\n\n  runs   of\r\nblanks,\u00a0hard\u2003and wide\u3000ones  ",
    "\ufeffa byte order mark in front",
    "นัดหมายเวลาเก้าโมงเช้า",
    "अगली ट्रेन शाम को सात बजे चलेगी।",
    "הפגישה נדחתה ליום חמישי",
    "🇳🇴🇯🇵 👍🏽 ❤️‍🔥 1️⃣",
    "∑ xᵢ² ≤ ½·√π ⇒ α≈0.05 ± 3 µm",  # noqa: RUF001
    '#!/bin/sh\nset -eu\nfor f in *.log; do\n\tgzip -9 -- "$f" || exit 1\ndone\n',
    "<table><tr><td>pump</td><td>3&nbsp;bar</td></tr></table><!-- draft -->",
    "2026-03-31T07:15:00+02:00 ERROR worker-3 job=8f1c2a lease lost after 30.5 s",
    "word " * 254,
    "word " * 255,
    "def step(n):\n    return n * 3 + 1 if n % 2 else n // 2\n\n" * 20,
    "📦🚚 parcel on its way, пакет в пути, 包裹在路上. " * 25,
    "x" * 100,
    "x" * 101,
]


def main(folder: str) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu")
    assert model.max_seq_length == 256, model.max_seq_length
    # One at a time: no padding, so that nothing but the text decides.
    vectors = [model.encode(text, normalize_embeddings=True) for text in TEXTS]
    content = {
        "made_with": {name: version(name) for name in ("sentence-transformers", "transformers", "torch")},
        "max_tokens": model.max_seq_length,
        "texts": [
            {"text": text, "vector": [round(float(x), 6) for x in vector]}
            for text, vector in zip(TEXTS, vectors, strict=True)
        ],
    }
    target = Path(__file__).with_name("reference_vectors.json")
    lines = json.dumps(content, ensure_ascii=True).replace('{"text"', '\n{"text"')
    target.write_text(lines + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
