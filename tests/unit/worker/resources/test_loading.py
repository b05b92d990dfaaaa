from __future__ import annotations

from collections.abc import Iterator

from emberq.worker.resources.loading import LoadLedger


def test_growth_is_booked_on_what_is_at_work_and_split_evenly_among_several() -> None:
    readings: Iterator[int] = iter([100, 110, 140, 160, 200])
    ledger = LoadLedger(memory=lambda: next(readings))
    ledger.switch(start="a")
    ledger.switch(start="b")
    ledger.switch(stop="a")
    ledger.switch(stop="b", start="c")
    ledger.switch(stop="c")
    of_a, of_b, of_c = (ledger.close(key) for key in "abc")
    # 10 alone and half of 30; half of 30 and 20 alone; 40 alone: 100 in all.
    assert [taken[1] for taken in (of_a, of_b, of_c)] == [25, 35, 40]
    assert [taken[2] for taken in (of_a, of_b, of_c)] == [True, True, False]


def test_growth_while_nothing_is_loaded_is_nobodys() -> None:
    readings: Iterator[int] = iter([0, 10, 500, 520])
    ledger = LoadLedger(memory=lambda: next(readings))
    ledger.switch(start="a")
    ledger.switch(stop="a")
    ledger.switch(start="b")
    ledger.switch(stop="b")
    assert [ledger.close(key)[1] for key in "ab"] == [10, 20]
