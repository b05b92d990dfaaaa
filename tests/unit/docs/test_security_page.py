"""SECURITY.md: every file that it names exists, and each boundary names a test or what is open."""

from __future__ import annotations

import re

import pytest

from tests.harness.paths import ROOT

PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
#: A file or folder of the repository, in code or as the target of a link.
NAMED = sorted(set(re.findall(r"[`(]((?:src|tests|docs|deploy|requirements)/[\w./-]+)", PAGE)))
BOUNDARIES = dict(
    re.findall(
        r"^### ([^\n]+)\n(.*?)(?=^##|\Z)",
        PAGE.partition("## Boundaries")[2].partition("\n## ")[0],
        re.MULTILINE | re.DOTALL,
    )
)


@pytest.mark.parametrize("path", NAMED)
def test_a_named_file_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", BOUNDARIES)
def test_a_boundary_names_a_test_or_what_is_open(name: str) -> None:
    assert re.search(r"`tests/[\w/]+\.py`", BOUNDARIES[name]) or "*Open*" in BOUNDARIES[name]


def test_each_attacker_leads_to_a_boundary() -> None:
    linked = re.findall(r"\(#([\w-]+)\)", PAGE)
    assert linked
    assert set(linked) <= {name.lower().replace(" ", "-") for name in BOUNDARIES}
