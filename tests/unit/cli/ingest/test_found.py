"""Which files are found, and under which ids: no two files share one unless they are the same."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from emberq.cli.ingest.found import Found, IdRule, find_files, is_shortened, shown_path, source_of

HOST = socket.gethostname()


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a/README.md", "a/sub/x.txt", "b/README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path.resolve()


def ids(found: Found) -> list[str]:
    return [file.external_id for file in found.files]


def test_files_of_different_folders_have_different_ids(tree: Path) -> None:
    both = find_files([Path("a"), Path("b")], recursive=False)
    assert ids(both) == [f"{HOST}:{tree}/a/README.md", f"{HOST}:{tree}/b/README.md"]
    assert {file.source for file in both.files} == {f"{HOST}:{tree}/a", f"{HOST}:{tree}/b"}


def test_a_file_has_the_same_id_however_it_is_given(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "link").symlink_to("a")
    ways = [Path("a"), Path("./a/"), tree / "a", Path("b/../a"), Path("link"), Path("a/README.md")]
    assert {tuple(ids(find_files([way], recursive=False))) for way in ways} == {
        (f"{HOST}:{tree}/a/README.md",)
    }
    monkeypatch.chdir("a")
    assert ids(find_files([Path()], recursive=False)) == [f"{HOST}:{tree}/a/README.md"]
    assert ids(find_files([Path("README.md")], recursive=False)) == [f"{HOST}:{tree}/a/README.md"]
    monkeypatch.chdir(tree)
    assert len(find_files([*ways, Path()], recursive=True).files) == 3


def test_another_host_has_other_ids(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    assert ids(find_files([Path("b")], recursive=False)) == [f"elsewhere:{tree}/b/README.md"]


def test_a_prefix_stands_for_the_root(tree: Path) -> None:
    found = find_files([Path("a")], recursive=True, prefix="handbook")
    assert ids(found) == ["handbook/README.md", "handbook/sub/x.txt"]
    assert {file.source for file in found.files} == {"handbook"}
    assert ids(find_files([tree / "b/README.md"], recursive=True, prefix="h")) == ["h/README.md"]
    assert ids(find_files([tree / "b"], recursive=True, rule=IdRule.NAME, prefix="h")) == ["h/README.md"]
    [digest] = ids(find_files([tree / "b"], recursive=True, rule=IdRule.HASH))
    assert len(digest) == 64


def test_what_is_left_out_is_counted_and_what_cannot_be_taken_is_told(tree: Path) -> None:
    (tree / "a" / ".hidden").touch()
    (tree / "a" / "linked").symlink_to(tree / "b")
    (tree / "a" / "broken").symlink_to("nowhere")
    (tree / "a" / "loop").symlink_to("loop")
    os.mkfifo(tree / "a" / "fifo")
    found = find_files([Path("a")], recursive=False)
    assert [file.name for file in found.files] == ["README.md"]
    assert found.notes() == [
        "1 subfolder left out; use --recursive.",
        "1 hidden file or folder left out.",
        "1 linked folder left out; give them by their own paths.",
    ]
    assert [path for path, _ in found.not_taken] == ["a/broken", "a/fifo", "a/loop"]
    assert find_files([Path("a/.hidden")], recursive=False).files[0].name == ".hidden"


def test_a_name_that_is_not_utf8_is_refused_for_itself_alone(tree: Path) -> None:
    odd = tree / "b" / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    for name in (b"one.txt", b"\xff.txt"):
        (odd / os.fsdecode(name)).touch()
    found = find_files([Path("b")], recursive=True)
    assert [file.name for file in found.files] == ["README.md"]
    assert [path for path, _ in found.not_taken] == [r"b/caf\xe9/one.txt", r"b/caf\xe9/\xff.txt"]
    # With a prefix only the path below the folder counts.
    assert ids(find_files([odd], recursive=True, prefix="p")) == ["p/one.txt"]
    assert (source_of(odd, "p"), source_of(odd, None)) == ("p", None)


@pytest.mark.parametrize(
    "name",
    ['say "hi".txt', "a\nb.txt", "Ka\u0308se", "K\u00e4se", "\u202efdp.exe", "-x", "%22", "a\\b", "x" * 255],
)
def test_any_other_name_is_taken_as_it_is(tree: Path, name: str) -> None:
    (tree / "b" / name).touch()
    found = find_files([Path("b")], recursive=False)
    assert f"{HOST}:{tree}/b/{name}" in ids(found)
    assert name in {file.name for file in found.files}
    assert found.not_taken == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_told(tree: Path) -> None:
    (tree / "a" / "sub").chmod(0)
    found = find_files([Path("a")], recursive=True)
    (tree / "a" / "sub").chmod(0o700)
    assert (ids(found), found.is_complete) == ([f"{HOST}:{tree}/a/README.md"], False)
    assert found.not_taken[0][0] == "a/sub"


def test_a_folder_that_vanishes_meanwhile_is_told(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def fail(path: Path) -> object:
        if path.name == "sub":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fail)
    found = find_files([Path("a")], recursive=True)
    assert (len(found.files), found.is_complete) == (1, False)
    assert found.not_taken == [("a/sub", "The folder cannot be read: Permission denied.")]


def test_a_path_longer_than_an_id_keeps_an_id_of_its_own(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tree / "deep"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for _ in range(11):
        Path("ä" * 100).mkdir()
        monkeypatch.chdir("ä" * 100)
    for name in ("one.txt", "two.txt"):
        Path(name).touch()
    monkeypatch.chdir(tree)
    found = ids(find_files([folder], recursive=True))
    assert len(set(found)) == 2
    assert all(len(one.encode()) <= 2000 and is_shortened(one) for one in found)
    assert found == ids(find_files([folder], recursive=True))


def test_a_path_is_shown_as_text() -> None:
    assert shown_path(Path(os.fsdecode(b"a\xe9/\xc3\xa4"))) == r"a\xe9/ä"


def test_the_bytes_of_a_name_count_whatever_the_locale(tree: Path) -> None:
    (tree / "b" / "Käse.txt").touch()
    script = (
        "from pathlib import Path; from emberq.cli.ingest.found import find_files;"
        "print(ascii([file.name for file in find_files([Path('b')], recursive=False).files]))"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    printed = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True)
    assert printed.stdout == b"['K\\xe4se.txt', 'README.md']\n"
