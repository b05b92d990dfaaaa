"""Which files of a folder are imported into Open WebUI."""

from __future__ import annotations

import os
from pathlib import Path

from emberq.cli.openwebui.importing import find_paths


def test_a_name_that_is_not_utf8_is_refused_for_itself_alone(tmp_path: Path) -> None:
    for name in ("b.txt", "a.md", "below/c.txt", ".hidden", os.fsdecode(b"caf\xe9.txt")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    paths, refused = find_paths(tmp_path, include=[], exclude=[])
    assert paths == ["a.md", "b.txt", "below/c.txt"]
    assert [(Path(one.path).name, one.state) for one in refused] == [(r"caf\xe9.txt", "failed")]
    assert find_paths(tmp_path, include=["*.md"], exclude=["a.*"]) == ([], [])
