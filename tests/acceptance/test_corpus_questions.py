"""The demo corpus through `emberq up`: every file is found by the questions written for it."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from tests.harness.paths import CORPUS
from tests.harness.stack import Stack

QUESTIONS = json.loads((CORPUS.parent / "questions.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def corpus(stack: Stack) -> Callable[[str], list[str]]:
    """Ingest the corpus and return a function from a question to the names of the best three files."""
    stack.cli("ingest", str(CORPUS), "-c", "corpus", "--recursive")

    def ask(question: str) -> list[str]:
        with stack.http() as client:
            answer = client.post("/api/v1/collections/corpus/search", json={"query": question, "k": 30})
        names = [result["file"]["name"] for result in answer.raise_for_status().json()["results"]]
        return list(dict.fromkeys(names))[:3]

    return ask


def test_every_file_is_in_the_top_three_for_a_question_written_for_it(
    corpus: Callable[[str], list[str]],
) -> None:
    table = [(item["file"], item["question"], corpus(item["question"])) for item in QUESTIONS]
    rows = "\n".join(
        f"{'found' if file in best else 'NOT  '}  {file:<48} {question}" for file, question, best in table
    )
    found = {file for file, _, best in table if file in best}
    assert {path.name for path in CORPUS.iterdir()} - found == set(), rows
    assert sum(file in best for file, _, best in table) >= 0.9 * len(table), rows


def test_every_file_completed_with_chunks(stack: Stack, corpus: object, client: httpx.Client) -> None:
    assert corpus is not None
    items = client.get("/api/v1/collections/corpus/files", params={"limit": 100}).json()["items"]
    assert {item["name"] for item in items} == {path.name for path in CORPUS.iterdir()}
    assert {item["state"] for item in items} == {"completed"}
