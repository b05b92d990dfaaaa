"""What a supervisor decides: which slot gets a process, and which process has to end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from emberq.system.messages import send
from emberq.system.processes import process_state
from emberq.worker.preloader.generations import Generation, Generations
from emberq.worker.preloader.preloader import Preloader, PreloaderLost
from emberq.worker.supervisor.slots import CrashLoop, Slot, SlotProcess
from emberq.worker.supervisor.upkeep import SlotUpkeep
from tests.harness.clock import FakeClock
from tests.harness.eventually import LIMIT_SECONDS, eventually
from tests.harness.preloader_peer import PreloaderPeer, Sockets, no_process

SIGKILL_STATUS = int(signal.SIGKILL)
EXIT_0, EXIT_1 = 0, 1 << 8


class Host:
    """Two slots whose processes are sockets; the test decides what each process does."""

    def __init__(self, clock: FakeClock, sockets: Sockets) -> None:
        self._clock = clock
        self._sockets = sockets
        self.peers: list[PreloaderPeer] = []
        self.far: dict[int, socket.socket] = {}
        self.started: list[str] = []
        self.deaths: list[str] = []
        self.may_fork = True
        self.generations = Generations(self._start_preloader, max_failed_loads=3)
        self.slots = [Slot(name, self._starter(name), clock=clock) for name in ("one", "two")]
        self.upkeep = SlotUpkeep(
            self.slots, self.generations, max_crashes=3, on_death=self.deaths.append, clock=clock
        )

    def _start_preloader(self) -> Preloader:
        self.peers.append(PreloaderPeer(self._sockets))
        self.peers[-1].say(ready=True)
        return self.peers[-1].preloader

    def _starter(self, name: str) -> Callable[[Generation], SlotProcess]:
        def start(generation: Generation) -> SlotProcess:
            if not self.may_fork:
                raise PreloaderLost
            ours, theirs = self._sockets.pair()
            made = SlotProcess(
                no_process(), generation, ours, is_preloader_child=True, started_at=self._clock()
            )
            self.far[made.pid] = theirs
            self.started.append(name)
            return made

        return start

    def serve(self) -> None:
        """Start everything; all processes are ready."""
        self.generations.start(is_wanted=lambda: True)
        self.upkeep.fill()
        self.all_ready()

    def all_ready(self) -> None:
        """Let every process say that it serves."""
        for one in self.upkeep.processes():
            if not one.is_ready:
                send(self.far[one.pid], {"ready": f"worker-{one.pid}"})
        self.upkeep.check()

    def end(self, one: SlotProcess, status: int) -> None:
        """End a process; its preloader reports it."""
        self.far[one.pid].close()
        self.peers[one.generation.number - 1].say(exited=one.pid, status=status)

    def reload(self) -> None:
        """Load a new generation."""
        self.generations.request("reload")
        self.generations.advance()
        self.generations.advance()


@pytest.fixture
def host(clock: FakeClock, sockets: Sockets) -> Host:
    return Host(clock, sockets)


def current(host: Host, number: int) -> SlotProcess:
    found = host.slots[number].current
    assert found is not None
    return found


def test_nothing_is_started_before_a_generation_is_ready(host: Host) -> None:
    host.upkeep.fill()
    assert host.started == []


def test_every_slot_is_filled_and_serves_once_its_process_says_so(host: Host) -> None:
    host.generations.start(is_wanted=lambda: True)
    host.upkeep.fill()
    assert host.started == ["one", "two"]
    assert not host.upkeep.all_serve()
    host.all_ready()
    assert host.upkeep.all_serve()


def test_a_dead_process_is_replaced_at_once_and_its_death_is_reported(host: Host) -> None:
    host.serve()
    dead = current(host, 0)
    host.end(dead, SIGKILL_STATUS)
    host.upkeep.check()
    assert host.started == ["one", "two", "one"]
    assert current(host, 0) is not dead
    assert host.deaths == [f"worker-{dead.pid}"]


def test_a_process_that_leaves_unasked_with_0_counts_as_a_death(host: Host) -> None:
    host.serve()
    host.end(current(host, 0), EXIT_0)
    host.upkeep.check()
    assert len(host.deaths) == 1
    assert host.slots[0].crashes == 1


def test_a_second_death_in_a_row_delays_the_next_start(host: Host, clock: FakeClock) -> None:
    host.serve()
    for _ in range(2):
        host.end(current(host, 0), EXIT_1)
        host.upkeep.check()
    assert host.slots[0].current is None
    clock.advance(0.5)
    host.upkeep.check()
    assert host.slots[0].current is not None


def test_a_crash_loop_is_raised_after_all_deaths_were_noted(host: Host, clock: FakeClock) -> None:
    host.serve()
    for _ in range(2):
        host.end(current(host, 0), EXIT_1)
        host.upkeep.check()
        clock.advance(1)
        host.upkeep.check()
    for number in (0, 1):
        host.end(current(host, number), EXIT_1)
    with pytest.raises(CrashLoop, match="one died 3 times"):
        host.upkeep.check()
    # Both are gone: a drain that waits for the second one would never end.
    assert host.upkeep.processes() == []


def test_a_start_that_fails_is_tried_again(host: Host) -> None:
    host.serve()
    host.may_fork = False
    host.end(current(host, 0), EXIT_1)
    host.upkeep.check()
    assert host.slots[0].current is None
    host.may_fork = True
    host.upkeep.check()
    assert host.slots[0].current is not None


def test_a_lost_preloader_takes_its_children_and_they_are_no_crashes(host: Host) -> None:
    host.serve()
    host.peers[0].die()
    host.upkeep.check()
    assert host.upkeep.processes() == []
    assert [slot.crashes for slot in host.slots] == [0, 0]
    host.generations.advance()
    host.generations.advance()
    host.upkeep.check()
    assert host.started == ["one", "two", "one", "two"]


def test_a_reload_moves_one_slot_after_the_other_and_never_leaves_one_empty(host: Host) -> None:
    host.serve()
    old = [current(host, 0), current(host, 1)]
    host.reload()
    host.upkeep.move_next_slot()
    assert host.started == ["one", "two", "one"]
    host.upkeep.move_next_slot()
    # Until its successor serves, the old process does, and the second slot waits.
    assert [slot.current for slot in host.slots] == old
    host.all_ready()
    host.upkeep.move_next_slot()
    assert current(host, 0).generation.number == 2
    assert host.slots[0].draining == [old[0]]
    assert current(host, 1) is old[1]
    host.upkeep.move_next_slot()
    host.all_ready()
    host.upkeep.move_next_slot()
    assert [current(host, number).generation.number for number in (0, 1)] == [2, 2]


def test_a_drained_process_that_leaves_with_0_is_no_death(host: Host) -> None:
    host.serve()
    old = current(host, 0)
    host.reload()
    host.upkeep.move_next_slot()
    host.all_ready()
    host.upkeep.move_next_slot()
    host.end(old, EXIT_0)
    host.upkeep.check()
    assert (host.deaths, host.slots[0].crashes, host.slots[0].draining) == ([], 0, [])


def test_a_drained_process_that_is_killed_is_reported_and_no_crash(host: Host) -> None:
    host.serve()
    old = current(host, 0)
    host.reload()
    host.upkeep.move_next_slot()
    host.all_ready()
    host.upkeep.move_next_slot()
    host.end(old, SIGKILL_STATUS)
    host.upkeep.check()
    assert (host.deaths, host.slots[0].crashes) == ([f"worker-{old.pid}"], 0)


def test_successors_that_die_abandon_their_generation_and_the_old_one_serves(host: Host) -> None:
    host.serve()
    old = [current(host, 0), current(host, 1)]
    host.reload()
    for _ in range(3):
        host.upkeep.move_next_slot()
        successor = host.slots[0].successor
        assert successor is not None
        host.end(successor, EXIT_1)
        host.upkeep.check()
    host.upkeep.move_next_slot()
    assert [slot.current for slot in host.slots] == old
    assert host.slots[0].successor is None
    host.upkeep.end_unused_generations()
    assert host.peers[1].listen().was_stopped
    assert not host.peers[0].listen().was_stopped


def test_the_old_generation_ends_with_its_last_process(host: Host) -> None:
    host.serve()
    old = [current(host, 0), current(host, 1)]
    host.reload()
    for _ in range(2):
        host.upkeep.move_next_slot()
        host.all_ready()
        host.upkeep.move_next_slot()
    host.end(old[0], EXIT_0)
    host.upkeep.check()
    host.upkeep.end_unused_generations()
    assert not host.peers[0].listen().was_stopped
    host.end(old[1], EXIT_0)
    host.upkeep.check()
    host.upkeep.end_unused_generations()
    assert host.peers[0].listen().was_stopped


def test_ended_processes_are_only_removed_while_all_are_told_to_end(host: Host) -> None:
    host.serve()
    host.end(current(host, 0), SIGKILL_STATUS)
    host.upkeep.remove_ended()
    assert host.slots[0].current is None
    assert host.deaths == []
    assert host.started == ["one", "two"]


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGSTOP)
    eventually(lambda: process_state(process.pid) == "T")


@pytest.fixture
def stopped() -> Iterator[subprocess.Popen[bytes]]:
    """A process that was stopped by a signal."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        stop(process)
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the state of a process")
def test_a_process_that_stays_stopped_is_killed_and_one_that_goes_on_is_not(
    host: Host, clock: FakeClock, stopped: subprocess.Popen[bytes]
) -> None:
    host.serve()
    one = current(host, 0)
    host.far[stopped.pid] = host.far[one.pid]
    one.pid = stopped.pid
    host.upkeep.check()
    clock.advance(9)
    host.upkeep.check()
    stopped.send_signal(signal.SIGCONT)
    eventually(lambda: process_state(stopped.pid) != "T")
    host.upkeep.check()
    stop(stopped)
    for seconds in (2, 9):
        clock.advance(seconds)
        host.upkeep.check()
        assert process_state(stopped.pid) == "T"
    clock.advance(2)
    host.upkeep.check()
    assert stopped.wait(LIMIT_SECONDS) == -signal.SIGKILL
