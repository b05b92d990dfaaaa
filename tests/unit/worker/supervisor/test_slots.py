from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from emberq.system.messages import send
from emberq.worker.preloader.generations import Generation
from emberq.worker.supervisor.slots import CrashLoop, Slot, SlotProcess
from tests.harness.clock import FakeClock
from tests.harness.preloader_peer import PreloaderPeer, Sockets, no_process


@pytest.fixture
def slot(clock: FakeClock) -> Slot:
    def start(_generation: Generation) -> SlotProcess:
        raise AssertionError("a slot starts no process by itself")

    return Slot("slot 1", start, clock=clock)


#: Makes a process that was started now, and the far end of its channel.
MakeProcess = Callable[[], tuple[SlotProcess, socket.socket]]


@pytest.fixture
def process(clock: FakeClock, sockets: Sockets) -> MakeProcess:
    generation = Generation(1, "start", PreloaderPeer(sockets).preloader)

    def make() -> tuple[SlotProcess, socket.socket]:
        ours, theirs = sockets.pair()
        made = SlotProcess(no_process(), generation, ours, is_preloader_child=False, started_at=clock())
        return made, theirs

    return make


def test_the_second_crash_in_a_row_waits_and_each_further_one_waits_longer(
    slot: Slot, clock: FakeClock, process: MakeProcess
) -> None:
    delays = []
    for _ in range(9):
        crashing, _ = process()
        clock.advance(1)
        delays.append(slot.note_crash(crashing, most=100))
    assert delays == [0, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30]


def test_no_process_is_started_before_the_delay_is_over(
    slot: Slot, clock: FakeClock, process: MakeProcess
) -> None:
    crashing, _ = process()
    slot.note_crash(crashing, most=100)
    assert slot.may_start()
    slot.note_crash(crashing, most=100)
    assert not slot.may_start()
    clock.advance(0.39)
    assert not slot.may_start()
    clock.advance(0.02)
    assert slot.may_start()


def test_a_process_that_lived_long_enough_begins_the_count_anew(
    slot: Slot, clock: FakeClock, process: MakeProcess
) -> None:
    for _ in range(5):
        slot.note_crash(process()[0], most=100)
    healthy, _ = process()
    clock.advance(10.1)
    assert slot.note_crash(healthy, most=100) == 0
    assert slot.crashes == 1


def test_too_many_crashes_in_a_row_are_a_crash_loop(slot: Slot, process: MakeProcess) -> None:
    for _ in range(2):
        slot.note_crash(process()[0], most=3)
    with pytest.raises(CrashLoop, match="slot 1 died 3 times in a row"):
        slot.note_crash(process()[0], most=3)


def test_a_process_is_ready_once_it_says_so_with_its_workers_name(process: MakeProcess) -> None:
    one, far = process()
    one.read_ready()
    assert not one.is_ready
    send(far, {"ready": "host-1-7"})
    one.read_ready()
    assert (one.is_ready, one.worker) == (True, "host-1-7")


def test_a_process_that_ended_without_a_word_is_not_ready(process: MakeProcess) -> None:
    one, far = process()
    far.close()
    one.read_ready()
    assert not one.is_ready


def test_a_successor_serves_while_the_process_before_it_drains(slot: Slot, process: MakeProcess) -> None:
    old, new = process()[0], process()[0]
    slot.current, slot.successor = old, new
    slot.promote_successor()
    assert slot.draining == [old]
    assert slot.processes() == [new, old]
    assert slot.remove(new) == "current"


@pytest.mark.parametrize("place", ["current", "successor", "draining"])
def test_a_removed_process_tells_its_place_and_its_workers_name(
    slot: Slot, process: MakeProcess, place: str
) -> None:
    one, far = process()
    if place == "draining":
        slot.draining.append(one)
    else:
        setattr(slot, place, one)
    send(far, {"ready": "host-1-7"})
    assert slot.remove(one) == place
    assert slot.processes() == []
    assert one.worker == "host-1-7"
    assert one.channel.fileno() == -1
