from __future__ import annotations

import re
import runpy

from tests.harness.paths import DOCS, ROOT

MAKE = DOCS / "make_settings.py"


def test_every_variable_that_the_code_reads_is_on_the_page() -> None:
    page = runpy.run_path(str(MAKE))["PAGE"].read_text(encoding="utf-8")
    named = {
        name
        for file in (ROOT / "src").rglob("*.py")
        for name in re.findall(r"\bEMBERQ_[A-Z_]*[A-Z]\b", file.read_text(encoding="utf-8"))
    }
    assert "EMBERQ_MODELS_DIR" in named
    assert [name for name in sorted(named) if f"| `{name}` |" not in page] == []
