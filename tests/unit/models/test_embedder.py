"""How texts are grouped before they go through the model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emberq.models.embedder import plan_batches

lengths_of_texts = st.lists(st.integers(0, 300), max_size=200)
limits = st.none() | st.integers(1, 40)


@given(lengths=lengths_of_texts, batch_tokens=st.integers(1, 2048), max_batch=limits)
def test_every_text_is_in_exactly_one_batch(
    lengths: list[int], batch_tokens: int, max_batch: int | None
) -> None:
    batches = plan_batches(lengths, batch_tokens=batch_tokens, max_batch=max_batch)
    assert all(batches)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))


@given(lengths=lengths_of_texts, batch_tokens=st.integers(1, 2048), max_batch=limits)
def test_a_batch_keeps_its_bounds_unless_one_text_alone_exceeds_them(
    lengths: list[int], batch_tokens: int, max_batch: int | None
) -> None:
    for batch in plan_batches(lengths, batch_tokens=batch_tokens, max_batch=max_batch):
        padded = len(batch) * max(lengths[index] for index in batch)
        assert padded <= batch_tokens or len(batch) == 1
        assert max_batch is None or len(batch) <= max_batch


@given(lengths=lengths_of_texts, batch_tokens=st.integers(1, 2048))
def test_batches_are_sorted_so_that_neighbours_are_alike(lengths: list[int], batch_tokens: int) -> None:
    batches = plan_batches(lengths, batch_tokens=batch_tokens, max_batch=None)
    in_order = [lengths[index] for batch in batches for index in batch]
    assert in_order == sorted(lengths, reverse=True)


@given(count=st.integers(1, 100), length=st.integers(1, 64))
def test_batches_are_filled(count: int, length: int) -> None:
    batches = plan_batches([length] * count, batch_tokens=1024, max_batch=None)
    assert [len(batch) for batch in batches[:-1]] == [1024 // length] * (len(batches) - 1)


def test_no_texts_make_no_batches() -> None:
    assert plan_batches([], batch_tokens=1024, max_batch=8) == []
