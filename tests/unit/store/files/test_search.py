from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from emberq.store.files.search import RRF_K, Hit, reciprocal_rank_fusion

FILE = uuid.uuid4()


def hit(number: int) -> Hit:
    return Hit(number, 0.5, "text", FILE, "a.txt", "a", None, 0, 4, None, {})


rankings = st.lists(st.lists(st.integers(0, 30), unique=True, max_size=20), max_size=4)


@given(rankings, st.integers(1, 40))
def test_a_score_is_the_sum_of_reciprocal_ranks(orders: list[list[int]], limit: int) -> None:
    fused = reciprocal_rank_fusion([[hit(number) for number in order] for order in orders], limit=limit)
    for found in fused:
        expected = sum(
            1 / (RRF_K + order.index(found.chunk_id) + 1) for order in orders if found.chunk_id in order
        )
        assert abs(found.score - expected) < 1e-12
    assert [found.score for found in fused] == sorted((found.score for found in fused), reverse=True)
    assert len(fused) == min(limit, len({number for order in orders for number in order}))


def test_what_both_rankings_like_comes_first() -> None:
    fused = reciprocal_rank_fusion([[hit(1), hit(2)], [hit(3), hit(2)]], limit=3)
    assert fused[0].chunk_id == 2
