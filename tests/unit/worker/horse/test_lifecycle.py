"""Where a horse comes from, and when another one takes its place."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from emberq.system.messages import receive, send
from emberq.worker.horse.handle import Horse
from emberq.worker.horse.lifecycle import HorseLifecycle
from emberq.worker.job.policy import HorsePolicy
from emberq.worker.preloader.preloader import Preloader, PreloaderLost, PreloadFailed
from tests.harness.clock import FakeClock
from tests.harness.preloader_peer import PreloaderPeer, Sockets

NO_LIMITS = HorsePolicy(horse_max_jobs=0, horse_max_memory_growth=0)
MIB = 1 << 20


@pytest.fixture
def peer(sockets: Sockets) -> PreloaderPeer:
    """The preloader, which belongs to a supervisor."""
    return PreloaderPeer(sockets)


@pytest.fixture
def lifecycle(peer: PreloaderPeer, clock: FakeClock) -> Iterator[HorseLifecycle]:
    def start_preloader() -> Preloader:
        raise AssertionError("there is one already")

    made = HorseLifecycle(start_preloader, preloader=peer.preloader, spec={"name": "w"}, clock=clock)
    yield made
    # The preloader is gone then, so that nothing waits for the ends of its children.
    peer.die()
    made.close()


def run_job(horse: Horse, far: socket.socket, *, leaked: int = 0, private_bytes: int = 100 * MIB) -> None:
    """Let a horse run a job and clean up after it, as its worker hears of it."""
    send(far, {"done": "job"})
    horse.read()
    leaks = {"threads": leaked} if leaked else {}
    send(far, {"idle": True, "leaked": leaks, "private_bytes": private_bytes})


def test_a_horse_is_forked_once_and_stays(lifecycle: HorseLifecycle, peer: PreloaderPeer) -> None:
    far = peer.will_fork()
    horse = lifecycle.ensure_ready(NO_LIMITS)
    for _ in range(20):
        run_job(horse, far)
        assert lifecycle.ensure_ready(NO_LIMITS) is horse
    assert (horse.jobs, lifecycle.restarts) == (20, {})


def test_a_horse_that_has_ended_is_replaced(lifecycle: HorseLifecycle, peer: PreloaderPeer) -> None:
    far = peer.will_fork()
    first = lifecycle.ensure()
    far.close()
    peer.will_fork()
    assert lifecycle.ensure() is not first
    assert lifecycle.restarts == {"died": 1}


def test_a_horse_that_says_something_while_it_is_idle_is_not_trusted(
    lifecycle: HorseLifecycle, peer: PreloaderPeer
) -> None:
    far = peer.will_fork()
    first = lifecycle.ensure()
    send(far, {"progress": 1, "total": 2, "stage": None})
    peer.will_fork()
    assert lifecycle.ensure() is not first


def test_a_discarded_horse_is_told_to_end_and_counted(lifecycle: HorseLifecycle, peer: PreloaderPeer) -> None:
    far = peer.will_fork()
    lifecycle.ensure()
    init, [stack_file] = receive(far)
    os.close(stack_file)
    assert init == {"init": True}
    lifecycle.discard("killed")
    assert far.recv(1) == b""
    assert lifecycle.horse is None
    assert lifecycle.restarts == {"killed": 1}
    lifecycle.discard("killed")
    assert lifecycle.restarts == {"killed": 1}


def test_the_last_job_but_one_has_the_successor_ready(lifecycle: HorseLifecycle, peer: PreloaderPeer) -> None:
    policy = HorsePolicy(horse_max_jobs=3, horse_max_memory_growth=0)
    far = peer.will_fork()
    first = lifecycle.ensure_ready(policy)
    run_job(first, far)
    assert lifecycle.ensure_ready(policy) is first
    run_job(first, far)
    peer.will_fork()
    assert lifecycle.ensure_ready(policy) is first
    assert peer.listen().forks == 2
    run_job(first, far)
    assert lifecycle.ensure_ready(policy) is not first
    assert peer.listen().forks == 2
    assert lifecycle.restarts == {"max_jobs": 1}


def test_a_spawned_successor_takes_over_only_once_it_has_loaded(
    lifecycle: HorseLifecycle, peer: PreloaderPeer
) -> None:
    policy = HorsePolicy(horse_max_jobs=1, horse_max_memory_growth=0)
    far = peer.will_fork()
    successor = peer.will_fork(is_spawned=True)
    first = lifecycle.ensure_ready(policy)
    run_job(first, far)
    assert lifecycle.ensure_ready(policy) is first
    send(successor, {"loaded": 1})
    assert lifecycle.ensure_ready(policy) is not first


def test_a_horse_that_leaks_does_not_wait_for_its_successor_to_load(
    lifecycle: HorseLifecycle, peer: PreloaderPeer
) -> None:
    far = peer.will_fork()
    first = lifecycle.ensure_ready(NO_LIMITS)
    run_job(first, far, leaked=1)
    successor = peer.will_fork(is_spawned=True)
    send(successor, {"loaded": 1})
    assert lifecycle.ensure_ready(NO_LIMITS) is not first
    assert lifecycle.restarts == {"leak": 1}


def test_a_horse_that_has_grown_is_replaced_but_not_more_often_than_every_30_seconds(
    lifecycle: HorseLifecycle, peer: PreloaderPeer, clock: FakeClock
) -> None:
    policy = HorsePolicy(horse_max_jobs=0, horse_max_memory_growth=10 * MIB)

    def grow() -> bool:
        """Run eleven jobs on a new horse, the last of which takes memory; tells whether it is replaced."""
        horse = lifecycle.ensure_ready(policy)
        for number in range(11):
            run_job(horse, far, private_bytes=(100 + 20 * (number == 10)) * MIB)
            next_horse = lifecycle.ensure_ready(policy)
        return next_horse is not horse

    far, successor = peer.will_fork(), peer.will_fork()
    assert grow()
    far = successor
    clock.advance(29)
    assert not grow()
    clock.advance(2)
    peer.will_fork()
    lifecycle.ensure_ready(policy)
    assert lifecycle.restarts == {"memory": 2}


def test_memory_that_the_first_jobs_take_is_no_growth(lifecycle: HorseLifecycle, peer: PreloaderPeer) -> None:
    policy = HorsePolicy(horse_max_jobs=0, horse_max_memory_growth=10 * MIB)
    far = peer.will_fork()
    horse = lifecycle.ensure_ready(policy)
    for number in range(10):
        run_job(horse, far, private_bytes=(100 + 50 * number) * MIB)
        assert lifecycle.ensure_ready(policy) is horse
    assert horse.grown_bytes() == 0


def test_a_resource_that_cannot_be_loaded_in_a_spawned_horse_is_told(
    lifecycle: HorseLifecycle, peer: PreloaderPeer
) -> None:
    far = peer.will_fork(is_spawned=True)
    horse = lifecycle.ensure()
    send(far, {"failed": "no card found"})
    with pytest.raises(PreloadFailed, match="no card found"):
        horse.wait_until_loaded()


def test_without_a_preloader_there_is_no_new_horse(lifecycle: HorseLifecycle, peer: PreloaderPeer) -> None:
    peer.die()
    with pytest.raises(PreloaderLost):
        lifecycle.ensure()
    assert lifecycle.exit_status(1, timeout_seconds=0) is None


def test_the_exit_status_of_a_horse_comes_from_its_preloader(
    lifecycle: HorseLifecycle, peer: PreloaderPeer
) -> None:
    peer.say(exited=12, status=9)
    assert lifecycle.exit_status(12, timeout_seconds=60) == 9
    assert lifecycle.exit_status(13, timeout_seconds=0) is None


@pytest.fixture
def own(peer: PreloaderPeer, clock: FakeClock) -> HorseLifecycle:
    """With a preloader of the worker's own."""
    return HorseLifecycle(lambda: peer.preloader, preloader=None, spec={}, clock=clock)


def test_a_preloader_of_its_own_is_started_once_and_waited_for(
    own: HorseLifecycle, peer: PreloaderPeer
) -> None:
    assert own.start() is own.start() is peer.preloader
    peer.say(ready=True)
    far = peer.will_fork()
    assert own.ensure().child.channel.fileno() > 0
    far.close()
    own.discard("died")
    own.close()
    assert peer.listen().was_stopped


def test_a_preloader_of_its_own_that_fails_to_load_is_told_with_the_reason(
    own: HorseLifecycle, peer: PreloaderPeer
) -> None:
    peer.say(failed="no such module")
    with pytest.raises(PreloadFailed, match="no such module"):
        own.ensure()


def test_a_lost_preloader_is_forgotten_with_its_horse_and_started_anew(sockets: Sockets) -> None:
    peers = [PreloaderPeer(sockets), PreloaderPeer(sockets)]
    for one in peers:
        one.say(ready=True)
        one.will_fork()
    preloaders = iter([one.preloader for one in peers])
    own = HorseLifecycle(lambda: next(preloaders), preloader=None, spec={})
    first = own.ensure()
    peers[0].die()
    own.forget_preloader()
    assert own.horse is None
    assert own.ensure() is not first
    assert own.restarts == {"preloader_lost": 1}
    peers[1].die()
    own.close()
