"""Two hosts with data directories and, where it is permitted, networks of their own; one dies for good."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.campaign.two_hosts import lose_a_host
from tests.harness.eventually import scaled


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_when_a_host_dies_for_good_the_other_finishes_everything(tmp_path: Path) -> None:
    survival = lose_a_host(tmp_path)
    assert survival.whole == survival.documents
    assert survival.interrupted > 0
    assert survival.taken_over == survival.interrupted
    # 12 s by design; a shared machine is slower.
    assert survival.taken_over_seconds is not None
    assert survival.taken_over_seconds < scaled(60)
