"""Two hosts, one of which is lost for good: the other finishes everything."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.campaign.documents import read_lines, write_document
from tests.chaos.campaign.end_state import wait_until_quiet
from tests.chaos.campaign.system import COLLECTION, System, run_system
from tests.chaos.campaign.witness import InHand, Witness
from tests.harness.eventually import came_true, eventually, scaled
from tests.harness.processes import send

__all__ = ["Survival", "lose_a_host"]

#: Documents in all; most of them wait when the host dies.
_DOCUMENTS = 40
_LINES = 6
#: Seconds after which the survivor has to be done.
_DONE_SECONDS = scaled(300.0)


@dataclass(frozen=True, slots=True)
class Survival:
    """What became of the work of two hosts when one of them died.

    Attributes:
        documents: How many were acknowledged.
        whole: How many of them can be found, whole and once.
        interrupted: Jobs the dead host had in hand.
        taken_over: Those of them that the other one has completed.
        taken_over_seconds: From the death until the last of them ran again, nothing if one never did.
        networks: In how many networks the two hosts and we live.
    """

    documents: int
    whole: int
    interrupted: int
    taken_over: int
    taken_over_seconds: float | None
    networks: int

    @property
    def is_complete(self) -> bool:
        """Whether nothing was lost with the host."""
        return self.whole == self.documents and 0 < self.interrupted == self.taken_over


def lose_a_host(directory: Path) -> Survival:
    """Run two hosts, lose one while both are at work, and look at what the other makes of it.

    It is stopped rather than killed: of a host elsewhere that lost its power nobody sees that its processes
    are gone, so that only its lease tells.
    """
    with run_system(directory, is_wired=False) as system, Witness(system) as witness:
        pause = {"scope": "collection", "name": COLLECTION}
        with system.client(seconds=30.0) as client:
            # So that all of them wait when the hosts begin, however quick these are.
            client.post("/pauses", json=pause).raise_for_status()
            for number in range(_DOCUMENTS):
                content = write_document(f"n{number}", 1, lines=_LINES, seed="hosts")
                client.post(
                    f"/collections/{COLLECTION}/files",
                    files={"file": (f"n{number}.txt", content)},
                    data={"external_id": f"n{number}"},
                ).raise_for_status()
            client.request("DELETE", "/pauses", params=pause).raise_for_status()
        dead = system.hosts[0]
        networks = _networks(system)
        interrupted = eventually(lambda: _in_hand_of(dead.processes(), witness), longest_pause=0.005)
        dead.is_gone_for_good = True
        died_at = time.monotonic()
        lost = dead.processes()
        for pid in lost:
            send(pid, signal.SIGSTOP)
        is_taken_up = came_true(lambda: not witness.not_taken_up(interrupted), seconds=_DONE_SECONDS)
        seconds = time.monotonic() - died_at if is_taken_up else None
        wait_until_quiet(witness, seconds=_DONE_SECONDS)
        system.kill(lost)
        return Survival(
            documents=_DOCUMENTS,
            whole=sum(_is_whole(system, f"n{number}") for number in range(_DOCUMENTS)),
            interrupted=len(interrupted),
            taken_over=_completed([job.job for job in interrupted], witness),
            taken_over_seconds=seconds,
            networks=networks,
        )


def _in_hand_of(pids: list[int], witness: Witness) -> list[InHand]:
    return [job for job in witness.in_hand() if job.slot in pids]


def _networks(system: System) -> int:
    pids = ["self", *(str(host.pid) for host in system.hosts)]
    return len({str(Path(f"/proc/{pid}/ns/net").readlink()) for pid in pids})


def _completed(jobs: list[str], witness: Witness) -> int:
    with witness.connect() as connection:
        found = connection.execute(
            "SELECT count(*) FROM jobs WHERE id = ANY(%s::uuid[]) AND state = 'completed'", [jobs]
        ).fetchone()
    return int(found[0]) if found else 0


def _is_whole(system: System, name: str) -> bool:
    with system.client() as client:
        body = {"query": name, "k": 100, "mode": "keyword"}
        answer = client.post(f"/collections/{COLLECTION}/search", json=body).raise_for_status()
    texts = [result["text"] for result in answer.json()["results"]]
    found = sorted(line.number for text in texts for line in read_lines(text) if line.file == name)
    return found == list(range(1, _LINES + 1))
