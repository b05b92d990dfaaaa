"""A file's budget depends on its kind and size, and a stage ends when its time is used up."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from emberq.errors import JobTimeout
from emberq.pipeline.budget import Budget, TimeBudget
from tests.harness import sample_files

MIB = 1 << 20


def budget_of(path: Path, data: bytes, *, size: int | None = None, factor: float = 1.0) -> Budget:
    blob = path / "blob"
    with blob.open("wb") as stream:
        stream.write(data)
        if size is not None:
            stream.truncate(size)
    return Budget.of(blob, factor=factor)


@pytest.mark.parametrize("data", [b"a", sample_files.make_pdf(), sample_files.make_xlsx(), b"PK\x03\x04"])
def test_a_small_file_gets_little(tmp_path: Path, data: bytes) -> None:
    budget = budget_of(tmp_path, data)
    assert budget.cpu_seconds < 20
    assert budget.memory_bytes <= 520 * MIB


def test_a_large_file_gets_more_and_a_packed_one_most(tmp_path: Path) -> None:
    text = budget_of(tmp_path, b"words", size=100 * MIB)
    packed = budget_of(tmp_path, b"PK\x03\x04", size=100 * MIB)
    assert 60 < text.cpu_seconds < packed.cpu_seconds
    assert text.memory_bytes == packed.memory_bytes > 1024 * MIB


def test_no_file_gets_more_than_the_most(tmp_path: Path) -> None:
    budget = budget_of(tmp_path, b"%PDF-1.4", size=1 << 40)
    assert budget.cpu_seconds <= 1200
    assert budget.memory_bytes <= 2048 * MIB


def test_a_setting_multiplies_it(tmp_path: Path) -> None:
    once, thrice = budget_of(tmp_path, b"a"), budget_of(tmp_path, b"a", factor=3.0)
    assert thrice.cpu_seconds == pytest.approx(3 * once.cpu_seconds)
    assert thrice.memory_bytes == 3 * once.memory_bytes
    assert thrice.max_chunks(10**6, chunk_size=200) == 3 * once.max_chunks(10**6, chunk_size=200)


def test_any_text_may_have_the_chunks_that_the_settings_make_of_it(tmp_path: Path) -> None:
    # A token of one character, and half of each chunk is overlap.
    for chunk_size in (16, 200, 8000):
        made = 1_000_000 / (chunk_size / 2)
        assert budget_of(tmp_path, b"a").max_chunks(1_000_000, chunk_size=chunk_size) >= made


def test_a_stage_ends_when_its_processor_time_is_used_up() -> None:
    budget = TimeBudget("Splitting the text", 0.05)
    budget.check()
    end = time.thread_time() + 0.1
    while time.thread_time() < end:
        pass
    with pytest.raises(JobTimeout, match="Splitting the text took more than its 0 seconds") as caught:
        budget.check()
    assert "file_budget" in caught.value.hint


def test_only_what_ocr_reads_gets_time_and_memory_for_it(tmp_path: Path) -> None:
    scan, text = tmp_path / "scan", tmp_path / "text"
    scan.write_bytes(b"%PDF-1.7\n")
    text.write_bytes(b"Some words.")

    budgets = [Budget.of(scan), Budget.of(scan, ocr=True), Budget.of(text, ocr=True)]

    assert [budget.ocr_seconds for budget in budgets] == [0, 300, 0]
    assert budgets[0].cpu_seconds == budgets[1].cpu_seconds
    assert budgets[0].memory_bytes < budgets[1].memory_bytes
    assert Budget.of(scan, factor=2, ocr=True).ocr_seconds == 600
