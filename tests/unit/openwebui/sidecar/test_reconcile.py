"""Each content of a folder ends up in the knowledge base once, whatever an earlier import left behind."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from emberq.openwebui.sidecar.reconcile import LocalFile, make_plan
from emberq.openwebui.sidecar.records import IMPORT_KEY, Status, StoredFile

KNOWLEDGE = "k"


def uploaded(
    file_id: str, path: str, sha256: str, status: Status = "completed", *, knowledge_id: str = KNOWLEDGE
) -> StoredFile:
    client = {"knowledge_id": knowledge_id, IMPORT_KEY: {"path": path, "sha256": sha256}}
    name = path.rsplit("/", 1)[-1]
    return StoredFile(file_id, "u", name, status, bytes_hash=sha256, client=client)


def actions(folder: list[LocalFile], mine: list[StoredFile], linked: list[StoredFile]) -> list[str]:
    return [step.action for step in make_plan(folder, mine, linked, KNOWLEDGE).steps]


def test_an_empty_server_gets_everything_once() -> None:
    folder = [LocalFile("a", "1"), LocalFile("b", "2"), LocalFile("sub/a", "1")]
    plan = make_plan(folder, [], [], KNOWLEDGE)
    assert [step.action for step in plan.steps] == ["upload", "upload", "same_content"]
    assert plan.steps[2].same_as == "a"


def test_what_an_earlier_import_left_is_taken_up() -> None:
    folder = [LocalFile(str(number), str(number)) for number in range(6)]
    mine = [
        uploaded("f0", "0", "0"),
        uploaded("f1", "1", "1"),
        uploaded("f2", "2", "2", "processing"),
        uploaded("f3", "3", "3", "failed"),
        uploaded("f4", "4", "4", knowledge_id="another"),
    ]
    assert actions(folder, mine, mine[:1]) == [
        "already_there",
        "link",
        "follow",
        "reprocess",
        "upload",
        "upload",
    ]


def test_a_file_of_another_user_is_not_uploaded_again() -> None:
    theirs = StoredFile("x", "another user", "theirs.pdf", "completed", bytes_hash="1")
    plan = make_plan([LocalFile("a", "1")], [], [theirs], KNOWLEDGE)
    assert (plan.steps[0].action, plan.steps[0].same_as) == ("same_content", "theirs.pdf")


def test_of_two_uploads_the_linked_one_is_kept() -> None:
    first, second = uploaded("f1", "a", "1"), uploaded("f2", "a", "1")
    plan = make_plan([LocalFile("a", "1")], [first, second], [second], KNOWLEDGE)
    assert plan.steps[0].upload == second
    assert plan.duplicates == ((first, "f2"),)


def test_an_older_version_goes_once_the_new_one_is_there() -> None:
    old = uploaded("old", "a", "1")
    plan = make_plan([LocalFile("a", "2"), LocalFile("b", "1")], [old], [old], KNOWLEDGE)
    assert plan.steps[0].action == "upload"
    assert plan.steps[0].outdated == (old,)
    assert plan.steps[1].action == "upload", "the older version's bytes are about to go"


paths = st.sampled_from(["a", "b", "sub/a"])
contents = st.sampled_from(["1", "2"])
statuses: st.SearchStrategy[Status] = st.sampled_from(
    ["pending", "processing", "completed", "failed", "none"]
)


@given(
    st.dictionaries(paths, contents),
    st.lists(st.tuples(paths, contents, statuses, st.booleans()), max_size=6),
)
def test_after_the_steps_each_content_is_there_once(
    folder: dict[str, str], left: list[tuple[str, str, Status, bool]]
) -> None:
    local = [LocalFile(path, sha256) for path, sha256 in sorted(folder.items())]
    mine = [
        uploaded(f"f{number}", path, sha256, status) for number, (path, sha256, status, _) in enumerate(left)
    ]
    linked = [file for file, (*_, is_linked) in zip(mine, left, strict=True) if is_linked]
    plan = make_plan(local, mine, linked, KNOWLEDGE)
    assert [step.local for step in plan.steps] == local
    there = {file.id: (file.import_path, file.bytes_hash) for file in linked}
    for step in plan.steps:
        if step.action in ("upload", "follow", "reprocess", "link"):
            there[step.upload.id if step.upload else f"new {step.local.path}"] = (
                step.local.path,
                step.local.sha256,
            )
        for file in step.outdated:
            there.pop(file.id, None)
    for duplicate, kept in plan.duplicates:
        assert kept in there
        there.pop(duplicate.id, None)
    ours = [content for path, content in there.values() if path in folder]
    assert set(ours) <= set(folder.values())
    assert set(folder.values()) <= {content for _, content in there.values()}
    assert max(Counter(path for path, _ in there.values() if path in folder).values(), default=1) == 1


@given(st.dictionaries(paths, contents))
def test_a_second_run_has_nothing_to_do(folder: dict[str, str]) -> None:
    local = [LocalFile(path, sha256) for path, sha256 in sorted(folder.items())]
    first = make_plan(local, [], [], KNOWLEDGE)
    mine = [
        replace(uploaded(step.local.path, step.local.path, step.local.sha256))
        for step in first.steps
        if step.action == "upload"
    ]
    assert {step.action for step in make_plan(local, mine, mine, KNOWLEDGE).steps} <= {
        "already_there",
        "same_content",
    }
