from __future__ import annotations

import runpy

from emberq import WarmWorker
from tests.harness.paths import DOCS

MAKE = DOCS / "make_rq_methods.py"


def overridden() -> list[tuple[str, str]]:
    """Return each of RQ's methods that a class of ours overrides, once for each class that does."""
    rq_names = {name for one in WarmWorker.__mro__ if one.__module__.startswith("rq.") for name in vars(one)}
    ours = [one for one in WarmWorker.__mro__ if one.__module__.startswith("emberq.")]
    own = {"__doc__", "__init__", "__module__"}
    return [(name, one.__name__) for one in ours for name in vars(one) if name in rq_names - own]


def test_the_table_lists_each_overridden_method_and_its_class() -> None:
    listed = [(method, owner) for method, owner, _ in runpy.run_path(str(MAKE))["table"]()]
    assert sorted(listed) == sorted(overridden())


def test_no_method_is_overridden_in_two_classes() -> None:
    names = [name for name, _ in overridden()]
    assert sorted(set(names)) == sorted(names)
