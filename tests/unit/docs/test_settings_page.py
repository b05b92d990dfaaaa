from __future__ import annotations

import runpy

from tests.harness.paths import DOCS

MAKE = DOCS / "make_settings.py"


def test_the_reference_page_is_what_the_code_says() -> None:
    script = runpy.run_path(str(MAKE))
    page = script["PAGE"].read_text(encoding="utf-8")
    assert page == script["render"](), "run `python docs/make_settings.py`"
