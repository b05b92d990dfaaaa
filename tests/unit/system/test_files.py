from __future__ import annotations

import os
from pathlib import Path

import pytest

from emberq.system.files import replace_durably


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    for text in ("one", "zwölf"):
        replace_durably(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert [one.name for one in tmp_path.iterdir()] == ["file.json"]


def test_bytes_and_name_are_on_the_disk_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order decides what a power failure leaves: the bytes first, then the name, then the directory."""
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        done.append("directory" if Path(f"/dev/fd/{descriptor}").is_dir() else "bytes")
        fsync(descriptor)

    def note_replace(source: Path, target: Path) -> None:
        done.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    replace_durably(tmp_path / "file", "text")
    assert done == ["bytes", "name", "directory"]


def test_the_old_text_stays_where_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_durably(path, "old")
    (tmp_path / "file.draft").mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_durably(path, "new")
    assert path.read_text() == "old"
