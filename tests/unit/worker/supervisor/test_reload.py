from __future__ import annotations

from pathlib import Path

import pytest

from emberq.worker.supervisor.reload import SourceWatcher
from tests.harness.clock import FakeClock


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "module.py").write_text("value = 1\n")
    return tmp_path


def change(project: Path, what: str) -> None:
    module = project / "package" / "module.py"
    if what == "changed":
        module.write_text("value = 22\n")
    elif what == "added":
        module.with_name("new.py").touch()
    elif what == "removed":
        module.unlink()
    elif what == "no source":
        module.with_name("notes.txt").touch()
    else:
        cache = project / what
        cache.mkdir()
        (cache / "module.py").touch()


@pytest.mark.parametrize("what", ["changed", "added", "removed"])
def test_a_changed_source_file_is_told_once(project: Path, clock: FakeClock, what: str) -> None:
    watcher = SourceWatcher(project, clock=clock)
    change(project, what)
    clock.advance(0.6)
    assert watcher.has_changed()
    clock.advance(0.6)
    assert not watcher.has_changed()


@pytest.mark.parametrize("what", ["no source", "__pycache__", ".venv", "site-packages"])
def test_other_files_are_not_watched(project: Path, clock: FakeClock, what: str) -> None:
    watcher = SourceWatcher(project, clock=clock)
    change(project, what)
    clock.advance(0.6)
    assert not watcher.has_changed()


def test_files_are_scanned_twice_a_second(project: Path, clock: FakeClock) -> None:
    watcher = SourceWatcher(project, clock=clock)
    change(project, "added")
    clock.advance(0.4)
    assert not watcher.has_changed()
    clock.advance(0.1)
    assert watcher.has_changed()
