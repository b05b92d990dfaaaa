"""Every file of the hostile corpus ends as a document or as a typed error, within its budget."""

from __future__ import annotations

import pytest

from emberq.errors import ExtractionCrashed, ExtractionTimeout, FileError, MemoryLimitExceeded
from emberq.pipeline.extract.limits import Limits
from tests.hostile.corpus import make_corpus
from tests.hostile.measuring import read_hostile

CORPUS = make_corpus()
#: Tests that share the corpus, so that they run side by side.
SHARDS = 24
#: Seconds of processor time that a file may cost, also one that is large.
MOST_SECONDS = 20.0
#: Seconds that the kernel and this test may be late.
SLACK_SECONDS = 2.0


def test_the_corpus_has_the_kinds_it_promises() -> None:
    assert len(CORPUS) >= 300
    assert len({file.name for file in CORPUS}) == len(CORPUS)


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_hostile_file_ends_typed_and_within_its_budget(shard: int) -> None:
    wrong = []
    for file in CORPUS[shard::SHARDS]:
        outcome = read_hostile(file)
        if file.code and outcome.code != file.code:
            wrong.append(f"{file.name!r}: {outcome.code} instead of {file.code}: {outcome.error}")
        if outcome.cpu_seconds > min(outcome.budget.cpu_seconds + SLACK_SECONDS, MOST_SECONDS):
            wrong.append(f"{file.name!r}: {outcome.cpu_seconds:.1f} s of processor time")
        if outcome.error is not None:
            wrong += [f"{file.name!r}: {problem}" for problem in _problems(outcome.error)]
        if outcome.document is not None:
            size = len(file.make())
            limits = Limits.of(outcome.document.media_type, size)
            if len(outcome.document.text) > limits.characters + 2 * limits.segments:
                wrong.append(f"{file.name!r}: {len(outcome.document.text)} characters of {size} bytes")
    assert not wrong, "\n".join(wrong)


def _problems(error: Exception) -> list[str]:
    if not isinstance(error, FileError | ExtractionCrashed | ExtractionTimeout | MemoryLimitExceeded):
        return [f"{error!r} is no error of reading"]
    detail = str(getattr(error, "context", {}).get("detail", ""))
    # A parser in C may crash; Python code that raises what it did not expect is a bug of ours.
    return [f"a traceback: {detail}"] if "Traceback" in detail else []
