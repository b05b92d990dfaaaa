"""What it costs to read a small file in a child of the reader, beyond the reading itself."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from outcome import Figure, Outcome
from stage import Stage, base_environment

__all__ = ["NAME", "measure"]

NAME = "reading"
FILES = 600
QUICK_FILES = 100
ROUNDS = 5
#: Milliseconds of processor time that a small file may cost beyond reading it.
GOAL_MS = 5.0
TEXT = "First paragraph, line one.\nLine two.\n\nSecond paragraph: naïve café, 5 €.\n"


def measure(stage: Stage, *, quick: bool) -> Outcome:
    """Read a small text again and again in a process that has a model in it, as a horse has."""
    files, rounds = (QUICK_FILES, 2) if quick else (FILES, ROUNDS)
    stage.tell(f"{rounds} rounds of {files} files")
    done = subprocess.run(
        [sys.executable, __file__, str(files), str(rounds)],
        env=base_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads(done.stdout.splitlines()[-1])
    best = min(rows, key=lambda row: row["cpu"])
    return Outcome(
        name=NAME,
        title="A small text, read in a child of the reader",
        how=(
            f"Each of {rounds} rounds reads {files} times a text of {len(TEXT)} characters through the "
            "sandbox, in a process that has loaded the default model, as a horse has. Processor time is that "
            "of this process, the reader and its children together; reading alone is the same text, read in "
            "a process that reads nothing else. The figure is of the round with the least processor time: "
            "the rest is what other programs on the machine cost."
        ),
        columns=["round", "files/s", "ms of processor per file", "of these reading", "beyond reading"],
        rows=[
            [str(number), *(f"{row[name]:.2f}" for name in ("rate", "cpu", "read", "beyond"))]
            for number, row in enumerate(rows, 1)
        ],
        figures=[Figure("processor time per file beyond reading", best["beyond"], "ms", "≤", GOAL_MS)],
        raw={"rounds": rows},
    )


def _measure_here(files: int, rounds: int) -> list[dict[str, float]]:
    from emberq.models.embedder import Embedder
    from emberq.models.files import find_model
    from emberq.pipeline.sandbox.run import extract_sandboxed
    from emberq.system.memory import freeze_objects

    model = Embedder.load(find_model())
    freeze_objects()
    read = _read_here()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "file.txt"
        path.write_text(TEXT, encoding="utf-8")

        def sandboxed() -> None:
            extract_sandboxed(path, name="file.txt", timeout_seconds=60, memory_bytes=1 << 30)

        for run in (sandboxed, lambda: read(path)):
            _repeat(run, 20)
        for _ in range(rounds):
            alone, _ = _repeat(lambda: read(path), files)
            cpu, seconds = _repeat(sandboxed, files)
            row = {"rate": files / seconds, "cpu": cpu / files * 1000, "read": alone / files * 1000}
            rows.append({**row, "beyond": row["cpu"] - row["read"]})
    del model
    return rows


def _read_here() -> Callable[[Path], object]:
    from emberq.pipeline.extract.detect import detect
    from emberq.pipeline.extract.read import extract

    return lambda path: extract(path, media_type=detect(path, name=path.name))


def _repeat(run: Callable[[], object], times: int) -> tuple[float, float]:
    """Return the seconds of processor time, all processes together, and of the clock."""
    before, started = _processor_seconds(), time.perf_counter()
    for _ in range(times):
        run()
    return _processor_seconds() - before, time.perf_counter() - started


def _processor_seconds() -> float:
    """Return what this process, its ended children, the reader and the reader's ended children have used."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    return own + sum(_family_seconds(pid) for pid in _children())


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def _family_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    print(json.dumps(_measure_here(int(sys.argv[1]), int(sys.argv[2]))))
