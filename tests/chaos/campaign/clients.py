"""Clients of the API under attack: they upload, replace, delete, cancel, retry and search all the time."""

from __future__ import annotations

import random
import threading
import uuid

from tests.chaos.campaign.caller import Caller, File

__all__ = ["Client", "Reader"]

#: Seconds between two looks at a job.
_LOOK_SECONDS = 0.3
#: Jobs a client has under way at once; all together keep every slot busy and no queue long.
_UNDER_WAY = 3
#: How often in a hundred a client does what next.
_CHOICES = {"upload": 40, "replace": 22, "delete": 12, "cancel": 8, "retry": 5, "twins": 5, "read": 8}


class _Actor(threading.Thread):
    """A thread that acts until its caller is told to stop.

    Attributes:
        error: What ended it before that.
    """

    def __init__(self, name: str, caller: Caller) -> None:
        super().__init__(name=name, daemon=True)
        self._caller = caller
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while not self._caller.stop.is_set():
                self.act()
        except Exception as exc:  # noqa: BLE001 - raised again by whoever joins it
            self.error = exc
        finally:
            self._caller.close()

    def act(self) -> None:
        """Do the next thing."""
        raise NotImplementedError


class Client(_Actor):
    """One writer with files of its own, so that what each should hold is known."""

    def __init__(self, number: int, caller: Caller, names: list[str], *, seed: str) -> None:
        """Make client `number`; `names` is shared by all and tells readers what to look for."""
        super().__init__(f"client{number}", caller)
        self._number = number
        self._names = names
        self._choose = random.Random(f"{seed}/client{number}")
        self._files: list[File] = []
        self._made = 0

    def act(self) -> None:
        """Do something with a file, or look at jobs while enough of them are under way."""
        if sum(len(file.jobs) for file in self._files) >= _UNDER_WAY:
            self._look_at_jobs()
            return
        (choice,) = self._choose.choices(list(_CHOICES), list(_CHOICES.values()))
        getattr(self, f"_do_{choice}")()

    def _look_at_jobs(self) -> None:
        for file in self._files:
            file.jobs = [job for job in file.jobs if not self._caller.look(file, *job)]
        self._caller.stop.wait(_LOOK_SECONDS)

    def _lines(self) -> int:
        return self._choose.randint(1, 7)

    def _add(self) -> File:
        self._made += 1
        file = File(f"c{self._number}n{self._made}")
        self._files.append(file)
        self._names.append(file.name)
        return file

    def _pick(self, *, deleted: bool = False) -> File | None:
        # The youngest are the most interesting: they are being processed.
        young = [file for file in self._files[-12:] if file.edition and file.is_deleted == deleted]
        return self._choose.choice(young) if young else None

    def _do_upload(self) -> None:
        file = self._pick(deleted=True) if self._choose.random() < 0.2 else None
        self._caller.upload(file or self._add(), lines=self._lines())

    def _do_replace(self) -> None:
        if file := self._pick():
            self._caller.upload(file, lines=self._lines())

    def _do_delete(self) -> None:
        if file := self._pick():
            answer = self._caller.do(
                "delete", file.name, lambda http: http.delete(f"/files/{file.file_id}"), edition=file.edition
            )
            file.is_deleted = answer is not None

    def _do_cancel(self) -> None:
        if file := self._pick():
            self._on_job(file, "cancel")

    def _do_retry(self) -> None:
        if file := self._pick():
            self._on_job(file, "retry")

    def _on_job(self, file: File, verb: str) -> None:
        self._caller.do(
            verb,
            file.name,
            lambda http: http.post(f"/jobs/{file.job_id}/{verb}"),
            edition=file.edition,
            job_id=file.job_id,
        )
        if (file.job_id, file.edition) not in file.jobs:
            file.jobs.append((file.job_id, file.edition))

    def _do_twins(self) -> None:
        """Upload the same edition twice at once, as a client does whose first request seems to hang."""
        file = self._add()
        key, lines = uuid.uuid4().hex, self._lines()
        other = File(file.name)
        twin = threading.Thread(
            target=self._caller.upload, args=(other,), kwargs={"lines": lines, "key": key}
        )
        twin.start()
        self._caller.upload(file, lines=lines, key=key)
        twin.join()

    def _do_read(self) -> None:
        if file := self._pick():
            self._caller.read_text(file)


class Reader(_Actor):
    """Searches for what others write."""

    def __init__(self, caller: Caller, names: list[str], *, seed: str) -> None:
        """Search for one of the shared names at a time."""
        super().__init__("reader", caller)
        self._names = names
        self._choose = random.Random(f"{seed}/reader")

    def act(self) -> None:
        """Search once."""
        self._caller.stop.wait(self._choose.uniform(0.02, 0.12))
        if young := self._names[-60:]:
            mode = "hybrid" if self._choose.random() < 0.25 else "keyword"
            self._caller.read(self._choose.choice(young), mode=mode)
