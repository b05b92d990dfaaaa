"""`emberq ingest` and `emberq sync`: no file is lost, and what is done is told."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness.stack import Stack

BIRDS = ("Terns fly from pole to pole.", "Herons stand still.", "Dippers walk under water.")


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders with a file of the same name, and one with a subfolder."""
    for name, text in zip(("a/README.md", "b/README.md", "a/below/c.txt"), BIRDS, strict=True):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def shelf(stack: Stack, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a collection of the test's own."""
    name = request.node.name[:90].replace("[", "-").replace("]", "")
    yield name
    stack.cli("collections", "delete", name, "--yes")


def outcomes(stack: Stack, *arguments: str, expect: int = 0) -> dict[str, str]:
    results = json.loads(stack.cli(*arguments, "--json", expect=expect).stdout)
    return {one["path"]: one["outcome"] for one in results}


def stored(client: httpx.Client, collection: str) -> list[Any]:
    items: list[Any] = client.get(f"/api/v1/collections/{collection}/files?limit=500").json()["items"]
    return items


def test_no_file_of_one_run_or_of_two_replaces_another(
    stack: Stack, client: httpx.Client, folders: Path, shelf: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = stack.cli("ingest", "a", "b", "-c", shelf)
    assert "2 files: 2 new, 0 replaced, 0 unchanged, 0 skipped, 0 failed" in done.stdout
    assert "1 subfolder left out; use --recursive." in done.stdout
    assert f":{folders.resolve()}/a/PATH" in done.stderr
    for folder in ("a", "b"):
        monkeypatch.chdir(folders / folder)
        assert outcomes(stack, "ingest", ".", "-c", shelf) == {"README.md": "unchanged"}
    assert Counter(file["name"] for file in stored(client, shelf)) == {"README.md": 2}


def test_a_changed_file_replaces_only_on_request(stack: Stack, folders: Path, shelf: str) -> None:
    stack.cli("ingest", "a", "b", "-c", shelf)
    (folders / "a/README.md").write_text("Godwits probe the mud.")
    kept = stack.cli("ingest", "a", "b", "-c", shelf, expect=1)
    assert "0 new, 0 replaced, 1 unchanged, 1 skipped, 0 failed" in kept.stdout
    assert "a/README.md: skipped. It has changed; --replace" in kept.stdout
    dry = outcomes(stack, "ingest", "a", "b", "-c", shelf, "--dry-run", "--replace")
    assert dry == {"a/README.md": "replaced", "b/README.md": "unchanged"}
    done = stack.cli("ingest", "a", "b", "-c", shelf, "--replace")
    assert "1 changed file, in place of the older version:\n  a/README.md" in done.stderr
    assert "0 new, 1 replaced, 1 unchanged, 0 skipped, 0 failed" in done.stdout
    found = json.loads(stack.cli("search", "godwits", "-c", shelf, "--json").stdout)["results"]
    assert "Godwits" in found[0]["text"]


def test_two_files_that_would_get_one_id_are_told(stack: Stack, folders: Path, shelf: str) -> None:
    (folders / "b/copy.md").write_text(BIRDS[0])
    by_name = stack.cli("ingest", "a", "b", "-c", shelf, "--external-id", "name", expect=1)
    assert "b/README.md: skipped. It has the same id as a/README.md: README.md" in by_name.stdout
    by_hash = outcomes(stack, "ingest", "a", "b", "-c", shelf, "--external-id", "hash", expect=1)
    assert by_hash == {"a/README.md": "new", "b/README.md": "new", "b/copy.md": "skipped"}


def test_odd_names_are_taken_or_refused_for_themselves_alone(
    stack: Stack, client: httpx.Client, folders: Path, shelf: str
) -> None:
    names = ['say "hi" %22.txt', "a\nb\\c.txt", "Ka\u0308se.txt", "K\u00e4se.txt", "\u202efdp.txt", "x" * 255]
    for name in names:
        (folders / "a" / name).write_text(f"The file {name}.")
    Path(os.fsdecode(os.fsencode(folders / "a") + b"/caf\xe9.txt")).write_text("Not UTF-8.")
    (folders / "a" / "lost").symlink_to("nowhere")
    done = outcomes(stack, "ingest", "a", "-c", shelf, expect=1)
    assert Counter(done.values()) == {"new": len(names) + 1, "skipped": 2}
    assert (done[r"a/caf\xe9.txt"], done["a/lost"]) == ("skipped", "skipped")
    assert {file["name"] for file in stored(client, shelf)} == {*names, "README.md"}


def test_an_unchanged_file_that_failed_is_tried_again_in_place(
    stack: Stack, client: httpx.Client, folders: Path, shelf: str
) -> None:
    (folders / "b/README.md").write_text(" \n ")
    first = json.loads(stack.cli("ingest", "b", "-c", shelf, "--json", expect=1).stdout)[0]
    again = json.loads(stack.cli("ingest", "b", "-c", shelf, "--json", expect=1).stdout)[0]
    assert (again["job_id"], again["outcome"]) == (first["job_id"], "failed")
    assert again["error"]["code"] == "no_text_found"
    assert [file["version"] for file in stored(client, shelf)] == [1]


def test_a_folder_is_mirrored_and_only_its_own_files_are_deleted(
    stack: Stack, client: httpx.Client, folders: Path, shelf: str
) -> None:
    assert outcomes(stack, "sync", "a", "-c", shelf) == {"a/README.md": "new", "a/below/c.txt": "new"}
    stack.cli("ingest", "b", "-c", shelf)
    stack.cli("ingest", "b", "-c", shelf, "--prefix", "of-another-root")
    uploaded = stack.upload(client, "x.txt", b"From elsewhere.", shelf, external_id="x").json()["file"]["id"]
    (folders / "a/below/c.txt").unlink()
    (folders / "b/README.md").unlink()
    (folders / "a/README.md").write_text("Godwits probe the mud.")
    told = stack.cli("sync", "a", "-c", shelf)
    assert "1 replaced" in told.stdout
    assert "--delete deletes them" in told.stdout
    assert outcomes(stack, "sync", "a", "-c", shelf, "--delete", "--dry-run")["a/below/c.txt"] == "deleted"
    done = stack.cli("sync", "a", "-c", shelf, "--delete")
    assert "Gone from the folder, and deleted: 1 of 2 files:\n  a/below/c.txt" in done.stderr
    assert "1 deleted" in done.stdout
    left = stored(client, shelf)
    assert sorted(file["name"] for file in left) == ["README.md", "README.md", "README.md", "x.txt"]
    assert uploaded in {file["id"] for file in left}


def test_an_empty_folder_deletes_nothing(
    stack: Stack, client: httpx.Client, folders: Path, shelf: str
) -> None:
    stack.cli("sync", "a", "-c", shelf)
    (folders / "a").rename(folders / "unmounted")
    (folders / "a").mkdir()
    for options in (["--delete"], ["--delete", "--yes"]):
        kept = stack.cli("sync", "a", "-c", shelf, *options, expect=1)
        assert "a disk may be missing" in kept.stdout
    stack.cli("sync", "nowhere", "-c", shelf, "--delete", expect=2)
    assert len(stored(client, shelf)) == 2


def test_most_of_a_folder_is_not_deleted_without_consent(
    stack: Stack, client: httpx.Client, folders: Path, shelf: str
) -> None:
    for number in range(14):
        (folders / "b" / f"{number}.txt").write_text(f"Bird {number}.")
    stack.cli("sync", "b", "-c", shelf, "--no-wait")
    for number in range(14):
        (folders / "b" / f"{number}.txt").unlink()
    assert Counter(outcomes(stack, "sync", "b", "-c", shelf, "--delete", expect=1).values())["skipped"] == 14
    assert Counter(outcomes(stack, "sync", "b", "-c", shelf, "--delete", "-y").values())["deleted"] == 14
    assert len(stored(client, shelf)) == 1
