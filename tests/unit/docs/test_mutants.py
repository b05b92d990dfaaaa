"""The mutants of `make mutants` still apply, one for each finding; the run itself is not repeated here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.paths import ROOT
from tests.mutants.mutants import MUTANTS, Edit, Mutant


def test_there_is_one_mutant_for_each_finding() -> None:
    assert [mutant.finding for mutant in MUTANTS] == list(range(1, 11))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.finding)
def test_a_mutant_applies(mutant: Mutant, tmp_path: Path) -> None:
    for file in {edit.file for edit in mutant.edits}:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, tmp_path / file)
    for edit in mutant.edits:
        edit.apply(tmp_path)
        compile((tmp_path / edit.file).read_text(encoding="utf-8"), edit.file, "exec")


@pytest.mark.slow
def test_every_mutant_names_tests_that_exist() -> None:
    assert all(mutant.tests for mutant in MUTANTS)
    tests = [test for mutant in MUTANTS for test in mutant.tests]
    pytest_command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    found = subprocess.run([*pytest_command, *tests], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_an_edit_that_no_longer_applies_says_so(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("a = 1\nb = 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"module\.py has this text 0 times"):
        Edit("module.py", "c = 1", "c = 2").apply(tmp_path)
    with pytest.raises(ValueError, match="2 times instead of once"):
        Edit("module.py", " = 1", " = 2").apply(tmp_path)
