from __future__ import annotations

import pytest

from emberq.worker.preloader.generations import Generations, NoGeneration
from emberq.worker.preloader.preloader import Preloader, PreloadFailed
from tests.harness.preloader_peer import PreloaderPeer, Sockets


class Peers:
    """Every preloader that was started."""

    def __init__(self, sockets: Sockets) -> None:
        self.started: list[PreloaderPeer] = []
        self.loads_at_once = False
        self._sockets = sockets

    def start(self) -> Preloader:
        self.started.append(PreloaderPeer(self._sockets))
        if self.loads_at_once:
            self.started[-1].say(ready=True)
        return self.started[-1].preloader


@pytest.fixture
def peers(sockets: Sockets) -> Peers:
    return Peers(sockets)


@pytest.fixture
def generations(peers: Peers) -> Generations:
    labels = iter("abcdefgh")
    return Generations(peers.start, max_failed_loads=3, label=lambda: next(labels))


def load_first(generations: Generations, peers: Peers) -> None:
    """Start the first generation; its preloader is ready at once."""
    peers.loads_at_once = True
    generations.start(is_wanted=lambda: True)
    peers.loads_at_once = False


def newest(generations: Generations) -> tuple[int, str]:
    """Return number and reason of the newest generation, 0 and nothing where there is none."""
    found = generations.newest
    return (found.number, found.reason) if found is not None else (0, "")


def test_the_first_generation_is_the_newest_once_it_has_loaded(
    generations: Generations, peers: Peers
) -> None:
    assert newest(generations) == (0, "")
    load_first(generations, peers)
    assert newest(generations) == (1, "start")
    assert [one.label for one in [generations.newest] if one] == ["a"]


def test_a_first_generation_that_is_no_longer_wanted_is_not_waited_for(
    generations: Generations, peers: Peers
) -> None:
    answers = iter([True, False])
    generations.start(is_wanted=lambda: next(answers))
    assert newest(generations) == (0, "")
    assert len(peers.started) == 1


def test_a_requested_generation_takes_over_when_it_has_loaded(generations: Generations, peers: Peers) -> None:
    load_first(generations, peers)
    generations.request("sighup")
    generations.advance()
    assert newest(generations) == (1, "start")
    peers.started[1].say(ready=True)
    generations.advance()
    assert newest(generations) == (2, "sighup")


def test_one_generation_loads_at_a_time_and_the_last_request_counts(
    generations: Generations, peers: Peers
) -> None:
    load_first(generations, peers)
    for reason in ("sighup", "reload", "configuration"):
        generations.request(reason)
        generations.advance()
    assert len(peers.started) == 2
    peers.started[1].say(ready=True)
    generations.advance()
    assert len(peers.started) == 3
    peers.started[2].say(ready=True)
    generations.advance()
    assert newest(generations) == (3, "configuration")


def test_a_generation_that_cannot_be_loaded_leaves_the_old_one_however_often(
    generations: Generations, peers: Peers
) -> None:
    load_first(generations, peers)
    for _ in range(5):
        generations.request("sighup")
        generations.advance()
        peers.started[-1].say(failed="broken on purpose")
        generations.advance()
    assert newest(generations) == (1, "start")


def test_a_lost_preloader_is_replaced_without_a_request(generations: Generations, peers: Peers) -> None:
    load_first(generations, peers)
    peers.started[0].die()
    assert generations.poll_exits() == {}
    assert newest(generations) == (0, "")
    generations.advance()
    peers.started[1].say(ready=True)
    generations.advance()
    assert newest(generations) == (2, "preloader_lost")


def test_with_nothing_to_run_on_loading_may_not_fail_time_and_again(
    generations: Generations, peers: Peers
) -> None:
    load_first(generations, peers)
    peers.started[0].die()
    generations.poll_exits()
    for _ in range(2):
        generations.advance()
        peers.started[-1].say(failed="broken on purpose")
    generations.advance()
    peers.started[-1].say(failed="broken on purpose")
    with pytest.raises(NoGeneration) as raised:
        generations.advance()
    assert isinstance(raised.value.__cause__, PreloadFailed)


def test_a_generation_whose_processes_die_before_they_serve_is_abandoned(
    generations: Generations, peers: Peers
) -> None:
    load_first(generations, peers)
    old = generations.newest
    generations.request("reload")
    generations.advance()
    peers.started[1].say(ready=True)
    generations.advance()
    new = generations.newest
    assert new is not None
    for _ in range(3):
        assert generations.newest is new
        new.note_failure()
    assert generations.newest is old


def test_a_generation_without_processes_is_ended_except_the_newest(
    generations: Generations, peers: Peers
) -> None:
    load_first(generations, peers)
    old = generations.newest
    assert old is not None
    generations.request("reload")
    generations.advance()
    peers.started[1].say(ready=True)
    generations.advance()
    generations.end_unused({old})
    assert not peers.started[0].listen().was_stopped
    generations.end_unused(set())
    assert peers.started[0].listen().was_stopped
    assert not peers.started[1].listen().was_stopped


def test_a_generation_that_loads_is_not_ended_as_unused(generations: Generations, peers: Peers) -> None:
    load_first(generations, peers)
    generations.request("reload")
    generations.advance()
    generations.end_unused(set())
    assert not peers.started[1].listen().was_stopped


def test_exits_of_all_generations_are_told_once(generations: Generations, peers: Peers) -> None:
    load_first(generations, peers)
    generations.request("reload")
    generations.advance()
    peers.started[1].say(ready=True)
    generations.advance()
    peers.started[0].say(exited=11, status=0)
    peers.started[1].say(exited=12, status=9)
    assert generations.poll_exits() == {11: 0, 12: 9}
    assert generations.poll_exits() == {}


def test_all_are_ended_at_the_end(generations: Generations, peers: Peers) -> None:
    load_first(generations, peers)
    generations.request("reload")
    generations.advance()
    generations.end_all()
    assert all(peer.listen().was_stopped for peer in peers.started)
