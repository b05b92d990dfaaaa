"""The table of duties in the docstring is the list of duties in the code."""

from __future__ import annotations

import re
from typing import cast

from emberq.dispatch import maintenance
from emberq.dispatch.maintenance import Maintenance
from emberq.store.services import Services


def test_the_docstring_lists_each_duty_with_its_period() -> None:
    # Nothing is run, so nothing is asked of the services.
    duties = Maintenance(cast("Services", None)).duties
    listed = re.findall(r"^(\w+) +(\d+) s +\w", maintenance.__doc__ or "", re.MULTILINE)
    assert listed == [(duty.name, f"{duty.every_seconds:.0f}") for duty in duties]
