"""The lives that a file leads in a round, and what must be true of it afterwards."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from emberq.dispatch.tickets import enqueue
from emberq.search import search
from emberq.store.jobs.claim import claim_job
from emberq.store.jobs.queries import get_job
from emberq.store.schema.job_states import ENDED_STATES, JobState
from tests.chaos.nth.stage import Stage, wait_until
from tests.harness.eventually import scaled

__all__ = ["LIVES", "Life", "Run", "check_always", "rest"]

#: Tries of one request; each round has one fault, so a third would already be one too many.
_REQUESTS = 6
#: Seconds until everything must have come to its end; nothing that a round waits for takes longer by itself.
END_SECONDS = scaled(90.0)
_BIRDS = ("storks", "herons", "ibises", "pelicans")


def text_of(word: str) -> bytes:
    """Return a text of a few chunks that only this word leads to."""
    return "\n\n".join(
        f"# Part {number}\n\nNear {word} {bird} were counted, {number} of them at the {number}th lake."
        for number, bird in enumerate(_BIRDS, 1)
    ).encode()


@dataclass(slots=True)
class Run:
    """What happened in one round so far.

    Attributes:
        stage: Where.
        word: A word that only this round's files have.
        jobs: The jobs that were acknowledged, by what the client calls them.
        answers: The file and the job each key of an upload was answered with, one for each acknowledgement.
        broken: What must hold and does not, in words.
    """

    stage: Stage
    word: str
    jobs: dict[str, str] = field(default_factory=dict)
    answers: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def request(self, method: str, path: str, *, gone_is_fine: bool = False, **options: Any) -> Any:
        """Send a request until it is answered for good, as a client would that knows its duty.

        Raises:
            RuntimeError: If it is not answered after all tries.
        """
        said = ""
        for _ in range(_REQUESTS):
            self.stage.ensure()
            try:
                with self.stage.http() as client:
                    answer = client.request(method, f"/api/v1{path}", **options)
            except httpx.TransportError as exc:
                said = f"{type(exc).__name__}"
                time.sleep(0.02)
                continue
            if answer.status_code < 400 or (gone_is_fine and answer.status_code == 404):
                return answer.json() if answer.content else {}
            said = f"{answer.status_code} {answer.text[:200]}"
            if answer.status_code < 500 and answer.status_code != 429:
                break
        raise RuntimeError(f"{method} {path} was not answered: {said}")

    def upload(self, name: str, *, external_id: str | None = None) -> str:
        """Upload the text of a name and return the job; repeated as often as needed, with the same key."""
        key = f"{self.word}-{name}"
        answer = self.request(
            "POST",
            "/collections/docs/files",
            headers={"Idempotency-Key": key},
            files={"file": (f"{name}.md", text_of(f"{self.word}{name}"))},
            data={"external_id": external_id or key},
        )
        self.answers.setdefault(name, []).append((answer["file"]["id"], answer["job"]["id"]))
        self.jobs[name] = answer["job"]["id"]
        return self.jobs[name]

    def job(self, name: str) -> dict[str, Any]:
        """Return a job's row."""
        with self.stage.services.database.system_transaction() as connection:
            return get_job(connection, "default", uuid.UUID(self.jobs[name]))

    def has_ended(self) -> bool:
        """Tell whether every acknowledged job is over."""
        return all(self.job(name)["state"] in ENDED_STATES for name in self.jobs)

    def settle(self, *, hasten: bool = True) -> bool:
        """Let the system come to rest by itself; tells whether it did."""

        def meanwhile() -> None:
            self.stage.ensure()
            if hasten:
                self.stage.hasten()

        return wait_until(self.has_ended, seconds=END_SECONDS, meanwhile=meanwhile)

    def expect(self, holds: bool, words: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.broken.append(words)


@dataclass(frozen=True, slots=True)
class Life:
    """One kind of round.

    Attributes:
        name: For people.
        processes: Whose operations are counted and broken.
        before: Everything up to the moment where counting begins.
        live: What the client does while one operation is broken.
        check: What must hold in the end, besides what must always hold.
    """

    name: str
    processes: tuple[str, ...]
    before: Callable[[Run], None]
    live: Callable[[Run], None]
    check: Callable[[Run], None]


def _warm(run: Run) -> None:
    """Have every process at rest, with its connections open and a file behind it."""
    run.stage.ensure()
    run.upload("before")
    if not run.settle():
        raise RuntimeError(f"The stage does not work: {run.job('before')}")
    if not rest(run, seconds=10):
        raise RuntimeError(f"The slot does not come to rest: {run.stage.queue_lengths()}")


def _cold(run: Run) -> None:
    """Have an API and a host that have only just started."""
    run.stage.end_api()
    run.stage.end_host()
    run.stage.ensure()
    if not rest(run, seconds=10):
        raise RuntimeError("The slot does not come to rest.")


def rest(run: Run, *, seconds: float) -> bool:
    """Wait until the slot has come back from its last job and blocks in Redis again; tells whether it has."""
    redis = run.stage.redis()

    def is_idle() -> bool:
        clients: Any = redis.info("clients")
        return clients["blocked_clients"] >= 1 and run.stage.queue_lengths()[0] == 0

    return wait_until(is_idle, seconds=seconds, meanwhile=run.stage.ensure)


def _upload(run: Run) -> None:
    run.upload("one")


def _check_completed(run: Run) -> None:
    for name in run.jobs:
        job = run.job(name)
        run.expect(
            job["state"] == JobState.COMPLETED,
            f"{name} is {job['state']} {job['error_code']} after {job['attempt']} attempts: {job['error']}",
        )
        _check_searchable(run, name)


def _check_searchable(run: Run, name: str) -> None:
    file_id = run.answers[name][-1][0]
    texts = chunk_texts(run, file_id)
    # Chunks overlap by whole sentences, never within a text this short: each part is there once.
    for number in range(1, len(_BIRDS) + 1):
        marks = sum(f"at the {number}th lake" in text for text in texts)
        run.expect(marks == 1, f"part {number} of {name} is in {marks} chunks")
    word = f"{run.word}{name}"
    run.expect(all(word in text for text in texts), f"chunks of {name} are of another version")
    hits = search(
        run.stage.services, tenant="default", collection="docs", query=word, limit=50, mode="keyword"
    )
    run.expect(len(hits) == len(texts) > 0, f"a search finds {len(hits)} of {len(texts)} chunks of {name}")


def chunk_texts(run: Run, file_id: str) -> list[str]:
    """Return the texts of a file's chunks."""
    rows = run.stage.sql("SELECT text FROM chunks WHERE file_id = :file ORDER BY ordinal", file=file_id)
    return [row.text for row in rows]


def _replace(run: Run) -> None:
    run.upload("two", external_id=f"{run.word}-before")


def _check_replaced(run: Run) -> None:
    job = run.job("two")
    run.expect(job["state"] == JobState.COMPLETED, f"the new version is {job['state']}: {job['error']}")
    run.expect(job["version"] == 2, f"the new version has the number {job['version']}")
    run.expect(run.answers["two"][-1][0] == run.answers["before"][-1][0], "the new version is another file")
    _check_searchable(run, "two")


def _cancel(run: Run) -> None:
    run.upload("one")
    answer = run.request("POST", f"/jobs/{run.jobs['one']}/cancel")
    run.answers["cancel"] = [(answer["state"], "")]


def _check_cancelled(run: Run) -> None:
    job, said = run.job("one"), run.answers.pop("cancel")[0][0]
    ends = {JobState.CANCELLED} if said == JobState.CANCELLED else {JobState.CANCELLED, JobState.COMPLETED}
    run.expect(job["state"] in ends, f"cancel was answered {said!r}, and the job is {job['state']}")
    chunks = chunk_texts(run, run.answers["one"][-1][0])
    run.expect(bool(chunks) == (job["state"] == JobState.COMPLETED), f"{len(chunks)} chunks, {job['state']}")


def _delete(run: Run) -> None:
    run.request("DELETE", f"/files/{run.answers['before'][-1][0]}", gone_is_fine=True)


def _check_deleted(run: Run) -> None:
    file_id = run.answers.pop("before")[-1][0]
    run.expect(not chunk_texts(run, file_id), "the deleted file still has chunks")
    rows = run.stage.sql("SELECT visible_version, deleted_at FROM files WHERE id = :file", file=file_id)
    run.expect(rows[0].deleted_at is not None and rows[0].visible_version is None, "the file is not deleted")


def _strand(run: Run) -> None:
    """Leave a job of each kind to maintenance: on a dead host, with a lost ticket, and waiting."""
    stage = run.stage
    stage.wants_host = False
    stage.end_host()
    stage.forget_tickets()
    run.upload("orphan")
    job = run.job("orphan")
    with stage.services.database.system_transaction() as connection:
        claimed = claim_job(
            connection, job["id"], ticket=job["ticket"] or "", worker="gone", host_id=uuid.uuid4()
        )
    if claimed is None:
        raise RuntimeError(f"The stage does not work: {job}")
    run.upload("unheard")
    run.upload("waiting")
    stage.forget_tickets()
    stage.sql("UPDATE jobs SET queued_at = queued_at - interval '6 seconds' WHERE state = 'queued'")


def _maintain(run: Run) -> None:
    # One that died is started again; one that met an error has its next turn.
    for _ in range(2):
        run.stage.maintain_once()
    run.stage.wants_host = True


def check_always(run: Run) -> None:
    """Check what must hold after every round, whatever was broken."""
    stage = run.stage
    for name in run.answers:
        if name in run.jobs:
            again = run.request(
                "POST",
                "/collections/docs/files",
                headers={"Idempotency-Key": f"{run.word}-{name}"},
                files={"file": (f"{name}.md", text_of(f"{run.word}{name}"))},
                data={"external_id": _external_id(run, name)},
            )
            run.answers[name].append((again["file"]["id"], again["job"]["id"]))
            run.expect(len({*run.answers[name]}) == 1, f"one upload, several answers: {run.answers[name]}")
    known = set(run.jobs.values())
    rows = stage.sql(
        "SELECT jobs.id, jobs.state, attempt, max_attempts FROM jobs JOIN files ON files.id = file_id"
        " WHERE external_id LIKE :mine",
        mine=f"{run.word}-%",
    )
    run.expect({str(row.id) for row in rows} == known, f"{len(rows)} jobs, {len(known)} acknowledged")
    for row in rows:
        run.expect(row.attempt <= row.max_attempts, f"{row.attempt} of {row.max_attempts} attempts")
    files = stage.sql("SELECT count(*) AS n FROM files WHERE external_id LIKE :mine", mine=f"{run.word}-%")[
        0
    ].n
    expected = len({answers[0][0] for name, answers in run.answers.items() if name in run.jobs})
    run.expect(files >= expected, f"{files} files, {expected} acknowledged")
    _check_old_tickets(run)


def _external_id(run: Run, name: str) -> str:
    return f"{run.word}-before" if name == "two" else f"{run.word}-{name}"


def _check_old_tickets(run: Run) -> None:
    """Deliver every ticket once more: it must open nothing."""
    before = _everything(run)
    tickets = [(job["id"], job["ticket"]) for job in map(run.job, run.jobs) if job["ticket"]]
    enqueue(run.stage.redis(), tickets, job_timeout_seconds=60)
    # A ticket that was taken twice may stay where RQ keeps what was popped, until RQ's next clean-up.
    run.expect(rest(run, seconds=END_SECONDS), f"old tickets are not taken: {run.stage.queue_lengths()}")
    run.expect(_everything(run) == before, "an old ticket opened a job that was over")


def _everything(run: Run) -> str:
    """Return a digest of all that readers can see."""
    rows = [
        *run.stage.sql("SELECT id, state, attempt, fence, ended_at FROM jobs ORDER BY id"),
        *run.stage.sql("SELECT id, visible_version, newest_version, deleted_at FROM files ORDER BY id"),
        *run.stage.sql("SELECT file_id, version, ordinal, text FROM chunks ORDER BY 1, 2, 3, 4"),
    ]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


LIVES = (
    Life("upload", ("api", "slot", "horse"), _warm, _upload, _check_completed),
    Life("replace", ("api", "horse"), _warm, _replace, _check_replaced),
    Life("cancel", ("api", "slot"), _warm, _cancel, _check_cancelled),
    Life("delete", ("api",), _warm, _delete, _check_deleted),
    Life("recovery", ("maintenance",), _strand, _maintain, _check_completed),
    Life("cold start", ("api", "slot", "horse"), _cold, _upload, _check_completed),
)
