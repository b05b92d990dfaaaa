from __future__ import annotations

import runpy

from emberq.store.schema.job_states import ACTORS, Actor
from tests.harness.paths import DOCS

MAKE = DOCS / "make_job_states.py"


def test_the_page_is_what_the_code_says() -> None:
    script = runpy.run_path(str(MAKE))
    page = script["PAGE"].read_text(encoding="utf-8")
    assert page == script["render"](), "run `python docs/make_job_states.py`"


def test_every_actor_is_told_of() -> None:
    assert set(ACTORS) == set(Actor)
