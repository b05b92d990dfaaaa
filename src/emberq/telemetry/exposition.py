"""The sums of what the processes of a host counted, the dead ones included.

Each process counts in memory-mapped files of its own, so that a killed one loses nothing that it counted in
the middle of a job. The files of dead processes are absorbed into one file for each kind.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from emberq.system.file_lock import locked_file
from emberq.system.processes import is_process_alive
from emberq.telemetry.metrics import metrics_directory, metrics_registry, sample

if TYPE_CHECKING:
    from prometheus_client.core import Metric


#: Kinds of files whose values count on after the death of their process.
_SUMMED = ("counter", "histogram", "summary")
#: Locked by a process that absorbs files, and shared by those that read them.
_LOCK = ".lock"
#: Seconds a reader waits for the absorber, which takes milliseconds.
_LOCK_SECONDS = 1.0


def collect_host(directory: Path | None = None) -> list[Metric]:
    """Return the metric families of this host, or of this process where it counts in memory.

    Args:
        directory: The directory of the files; this process's own where left out.
    """
    sample()
    directory, registry = directory or metrics_directory(), metrics_registry()
    if directory is not None:
        return _read(directory)
    return list(registry.collect()) if registry is not None else []


def render_host() -> bytes:
    """Return the host's metrics as Prometheus reads them."""
    return exposition(collect_host())


def exposition(families: Iterable[Metric]) -> bytes:
    """Write metric families in the text format."""
    from prometheus_client import generate_latest
    from prometheus_client.registry import Collector

    class Given(Collector):
        def collect(self) -> Iterable[Metric]:
            return families

    return generate_latest(Given())


def absorb_dead(directory: Path | None = None) -> int:
    """Add the counts of dead processes to one file for each kind, and delete their own files.

    Counters and histograms count on, gauges are deleted. Does nothing while another process absorbs. Killed
    at any point it leaves a directory from which the same sums are read.

    Args:
        directory: The directory of the files; this process's own where left out.

    Returns:
        How many files were deleted.
    """
    directory = directory or metrics_directory()
    if directory is None:
        return 0
    dead = [file for file in directory.glob("*.db") if _is_of_dead_process(file)]
    if not dead:
        return 0
    with locked_file(directory / _LOCK, wait_seconds=0.0) as is_locked:
        if not is_locked:
            return 0
        for kind in _SUMMED:
            _absorb(directory, kind, [file for file in dead if file.name.startswith(f"{kind}_")])
        gauges = [file for file in dead if file.name.startswith("gauge_live")]
        for file in gauges:
            file.unlink(missing_ok=True)
    return len(dead)


def _absorb(directory: Path, kind: str, dead: list[Path]) -> None:
    from prometheus_client.mmap_dict import MmapedDict

    sums, note, new = (directory / f"{kind}_0.{suffix}" for suffix in ("db", "note", "new"))
    done = _absorbed(sums, note)
    for file in done:
        file.unlink(missing_ok=True)
    note.unlink(missing_ok=True)
    new.unlink(missing_ok=True)
    left = [file for file in dead if file not in done]
    if not left:
        return
    totals: defaultdict[str, float] = defaultdict(float)
    for file in (sums, *left):
        if _has_values(file):
            for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]
                totals[key] += value
    book = MmapedDict(str(new))  # type: ignore[no-untyped-call]
    for key, value in totals.items():
        book.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    book.close()  # type: ignore[no-untyped-call]
    # The note lists the files that the new file includes; it is true from the moment of the rename on.
    note.write_text(json.dumps({"inode": new.stat().st_ino, "absorbed": [file.name for file in left]}))
    new.replace(sums)
    for file in left:
        file.unlink(missing_ok=True)
    note.unlink()


def _absorbed(sums: Path, note: Path) -> set[Path]:
    """Return the files that the sums include and that are still there after a kill."""
    try:
        record = json.loads(note.read_text())
        if sums.stat().st_ino == record["inode"]:
            return {note.with_name(name) for name in record["absorbed"]}
    except (OSError, ValueError):
        pass
    return set()


def _read(directory: Path) -> list[Metric]:
    from prometheus_client.multiprocess import MultiProcessCollector

    with locked_file(directory / _LOCK, shared=True, wait_seconds=_LOCK_SECONDS):
        counted_twice = {
            file
            for kind in _SUMMED
            for file in _absorbed(directory / f"{kind}_0.db", directory / f"{kind}_0.note")
        }
        files = [
            str(file)
            for file in sorted(directory.glob("*.db"))
            if file not in counted_twice
            and _has_values(file)
            and not (file.name.startswith("gauge_live") and _is_of_dead_process(file))
        ]
        return list(MultiProcessCollector.merge(files, accumulate=True))  # type: ignore[no-untyped-call]


def _has_values(file: Path) -> bool:
    """Tell whether a process has written to a file; it is empty if the process was killed before."""
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:
        return False


def _is_of_dead_process(file: Path) -> bool:
    pid = file.stem.rpartition("_")[2]
    return pid.isdigit() and pid != "0" and not is_process_alive(int(pid))
