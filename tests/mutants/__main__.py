"""Show that each of the ten mechanisms is needed by its tests: `make mutants`.

The tests run once on a copy of the tree as it is, where all have to pass, and once on each mutant, where all
tests of that mutant have to fail. The exit code is 0 only if every mutant is found out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.harness.paths import ROOT
from tests.mutants.mutants import MUTANTS, Edit, Mutant

#: What the tests need of the tree.
COPIED = ("src", "tests", "docs", "examples", "pyproject.toml")
#: Seconds that one test may take: without its mechanism it may wait for what never comes.
TEST_SECONDS = 120
#: The tests' own limits on waiting, as a part of the usual ones; the same for the tree as it is.
SLOWNESS = "0.25"
NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

#: What became of each test: `passed`, `failed: why` or `did not run: why`.
Outcomes = dict[str, str]


def main() -> int:
    """Run the tests on the tree as it is and on each mutant, and return the exit code."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="how many trees are tried at a time")
    parser.add_argument("--only", type=int, action="append", help="number of a finding; may be repeated")
    options = parser.parse_args()
    mutants = [mutant for mutant in MUTANTS if not options.only or mutant.finding in options.only]
    every_test = [test for mutant in mutants for test in mutant.tests]
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="emberq-mutants-") as name,
        ThreadPoolExecutor(options.jobs) as pool,
    ):
        unmutated = pool.submit(try_tests, Path(name, "unmutated"), (), every_test)
        tries = [
            pool.submit(try_tests, Path(name, f"mutant-{mutant.finding}"), mutant.edits, mutant.tests)
            for mutant in mutants
        ]
        found = sum(
            show(mutant, unmutated.result(), tried.result())
            for mutant, tried in zip(mutants, tries, strict=True)
        )
    say(f"{time.monotonic() - began:.0f} s")
    say(f"{NUMBERS[found]} of {NUMBERS[len(mutants)]}")
    return 0 if found == len(mutants) else 1


def show(mutant: Mutant, unmutated: Outcomes, mutated: Outcomes) -> bool:
    """Print what became of a mutant and tell whether it was found out."""
    is_found = all(
        unmutated[test] == "passed" and mutated[test].startswith("failed") for test in mutant.tests
    )
    say(f"{mutant.finding:2}  {'found out' if is_found else 'NOT FOUND OUT'}: {mutant.without}")
    for test in mutant.tests:
        say(f"      {test}\n        as it is: {unmutated[test]}\n        mutant:   {mutated[test]}")
    return is_found


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def try_tests(directory: Path, edits: Sequence[Edit], tests: Sequence[str]) -> Outcomes:
    """Run tests on a copy of the tree with some edits, and delete it afterwards."""
    copy_tree(directory)
    try:
        for edit in edits:
            edit.apply(directory)
        python = make_environment(directory)
        report = directory / "report.xml"
        said = run_tests(python, directory, report, tests)
        cases = read_report(report) if report.is_file() else []
        return {test: outcome_of(test, cases) or f"did not run: {said}" for test in tests}
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def copy_tree(target: Path) -> None:
    """Copy what the tests need."""
    target.mkdir()
    for part in COPIED:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, target / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / part, target / part)


def make_environment(tree: Path) -> Path:
    """Make a virtual environment in which emberq is the tree's, and return its interpreter.

    All else is this environment's. A PYTHONPATH would not do: tests start processes with their own.
    """
    home = tree / ".venv"
    venv.create(home, symlinks=True)
    packages = sysconfig.get_path("purelib")
    paths = f"{tree / 'src'}\nimport site; site.addsitedir({packages!r})\n"
    Path(sysconfig.get_path("purelib", vars={"base": str(home)}), "tree.pth").write_text(
        paths, encoding="utf-8"
    )
    python = home / "bin" / "python"
    for script in Path(sys.executable).parent.iterdir():
        if (
            script.is_file()
            and script.read_bytes().startswith(b"#!")
            and not (home / "bin" / script.name).exists()
        ):
            body = script.read_text(encoding="utf-8").partition("\n")[2]
            (home / "bin" / script.name).write_text(f"#!{python}\n{body}", encoding="utf-8")
            (home / "bin" / script.name).chmod(0o755)
    return python


def run_tests(python: Path, tree: Path, report: Path, tests: Sequence[str]) -> str:
    """Run tests, write a JUnit report, and return the last line that was printed."""
    plugins = ["-p", "no:cacheprovider", "-p", "no:randomly", f"--timeout={TEST_SECONDS}"]
    done = subprocess.run(
        [
            python,
            "-m",
            "pytest",
            "-q",
            *plugins,
            f"--junit-xml={report}",
            "-o",
            "junit_family=xunit1",
            *tests,
        ],
        cwd=tree,
        env={"TEST_SLOWNESS": SLOWNESS, **os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return ((done.stdout.strip() or done.stderr.strip()).splitlines() or [""])[-1]


def read_report(report: Path) -> list[tuple[str, str]]:
    """Return id and outcome of each case in a JUnit report."""
    cases = []
    for case in ET.parse(report).iter("testcase"):
        outcome = "passed"
        for kind, word in (("skipped", "did not run"), ("error", "did not run"), ("failure", "failed")):
            if (told := case.find(kind)) is not None:
                outcome = f"{word}: {told.get('message', '').partition(chr(10))[0][:100]}"
        cases.append((f"{case.get('file')}::{case.get('name')}", outcome))
    return cases


def outcome_of(test: str, cases: list[tuple[str, str]]) -> str:
    """Return the outcome of a test: of its cases, if it has parameters, the first that did not pass."""
    outcomes = [outcome for name, outcome in cases if name == test or name.startswith(f"{test}[")]
    return next((outcome for outcome in outcomes if outcome != "passed"), outcomes[0] if outcomes else "")


if __name__ == "__main__":
    sys.exit(main())
