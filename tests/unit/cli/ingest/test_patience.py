"""Waiting for an API that is away: within bounds, in words, and once."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from emberq.cli.client import Client, NotReachable, Problem
from emberq.cli.ingest import patience
from emberq.cli.ingest.patience import Patience
from emberq.retry.backoff import Backoff

AWAY = NotReachable("http://h", OSError("refused"))


def problem(status: int) -> Problem:
    return Problem(httpx.Response(status, json={"detail": f"It is {status}."}, headers={"Retry-After": "0"}))


class Answers:
    """Answers with each of these in turn."""

    def __init__(self, *answers: Any) -> None:
        self.left = list(answers)

    def __call__(self) -> Any:
        answer = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Patience:
    monkeypatch.setattr(patience, "_BACKOFF", Backoff(first_seconds=0.001, longest_seconds=0.002))
    return Patience(Client("http://h", ""))


def test_it_waits_and_says_so_once_for_each_outage(api: Patience, capsys: pytest.CaptureFixture[str]) -> None:
    assert api.send(Answers(AWAY, AWAY, problem(503), problem(429), "here")) == "here"
    assert capsys.readouterr().err.count("Trying again for up to 60 s") == 1
    assert api.send(Answers(problem(503), "here")) == "here"
    assert "It is 503. Trying again for up to 300 s" in capsys.readouterr().err


def test_a_refusal_is_final(api: Patience) -> None:
    with pytest.raises(Problem, match="404"):
        api.send(Answers(problem(404), "never"))


def test_it_gives_up_within_its_bounds(api: Patience, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_SECONDS", 0.01)
    with pytest.raises(NotReachable):
        api.send(Answers(AWAY))
    assert api.send(Answers(problem(503), *[AWAY] * 30, "here")) == "here"
    monkeypatch.setattr(patience, "_RETRY_SECONDS", 0.01)
    with pytest.raises(NotReachable):
        api.send(Answers(AWAY))


def test_a_stop_ends_the_waiting(api: Patience) -> None:
    api.stop.set()
    with pytest.raises(NotReachable):
        api.send(Answers(AWAY, "never"))
