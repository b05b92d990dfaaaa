from __future__ import annotations

from pathlib import Path

import pytest

from emberq.errors import InvalidRequest
from emberq.openwebui.sidecar.attempts import Attempts, AttemptsFile, state_path


def test_what_was_put_is_there_after_a_restart(tmp_path: Path) -> None:
    path = state_path(tmp_path, "watch", "http://a")
    path.parent.mkdir()
    kept = AttemptsFile(path)
    kept.put("f", Attempts(2, 10.0, 11.0, "away", "k"))
    kept.put("g", Attempts(1))
    again = AttemptsFile(path)
    assert again.get("f") == Attempts(2, 10.0, 11.0, "away", "k")
    again.delete("f")
    assert AttemptsFile(path).get("f") == Attempts()
    again.keep_only({"f"})
    assert AttemptsFile(path).get("g") == AttemptsFile(path).get("f") == Attempts()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "watch.json"
    path.write_text('{"f": 3}')
    with pytest.raises(InvalidRequest, match=r"watch\.json"):
        AttemptsFile(path)


def test_each_server_has_a_path_of_its_own(tmp_path: Path) -> None:
    assert state_path(tmp_path, "watch", "http://a") != state_path(tmp_path, "watch", "http://b")
    assert state_path(tmp_path, "import", "http://a", "k") != state_path(tmp_path, "import", "http://a", "l")
