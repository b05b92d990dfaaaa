"""Run the measurements and print their tables; `make bench` sets everything up and calls this.

Nothing is left behind: not a process, not a file, except the documentation page with `--write`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import embeddings
import kill
import memory
import page
import pickup
import reading
import recycle
import roundtrips
import soak
import throughput
from contenders import peer_python
from machine import describe_machine
from outcome import Outcome
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from stage import Stage, StageError, stage


class Measurement(Protocol):
    """What each of the modules is."""

    NAME: str

    def measure(self, stage: Stage, *, quick: bool) -> Outcome:
        """Make the measurement on a stage of its own."""


#: In the order in which they are run.
MEASUREMENTS: tuple[Measurement, ...] = (
    throughput,
    roundtrips,
    kill,
    recycle,
    pickup,
    memory,
    reading,
    soak,
    embeddings,
)
#: They compare with the peers, which `make bench` installs.
NEED_PEERS = {throughput.NAME, roundtrips.NAME}


def main() -> int:
    """Measure, print, and write; 0 when every measurement could be made, whatever it found."""
    options = _parse()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Set even where a shell has started us with Ctrl-C ignored.
        signal.signal(number, signal.default_int_handler)
    console = Console(stderr=True)
    chosen = [each for each in MEASUREMENTS if not options.only or each.NAME in options.only]
    if NEED_PEERS & {each.NAME for each in chosen} and not _has(peer_python()):
        console.print("The workers to compare with are not installed: run [bold]make bench[/bold].")
        return 2
    when, machine = datetime.now(UTC), describe_machine()
    command = shlex.join(["python", "bench/run.py", *_remembered(options)])
    outcomes: list[Outcome] = []
    try:
        failures = _measure_all(chosen, console, outcomes.append, quick=options.quick)
    except KeyboardInterrupt:
        console.print("Interrupted; every process it started has ended.")
        return 130
    if options.json:
        report = {
            "date": when.isoformat(timespec="seconds"),
            "command": command,
            "machine": machine,
            "outcomes": [outcome.as_json() for outcome in outcomes],
        }
        sys.stdout.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    else:
        _print(Console(), outcomes, machine)
    if options.write:
        page.write(outcomes, when=when, command=command, machine=machine)
        console.print(f"Written to {page.PATH.relative_to(page.ROOT)}")
    return 1 if failures else 0


def _measure_all(
    chosen: Sequence[Measurement], console: Console, keep: Callable[[Outcome], Any], *, quick: bool
) -> int:
    """Make the measurements, each on a stage of its own; returns how many could not be made."""
    failures = 0
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    # No thread of its own: the processes here are started by forks.
    with Progress(*columns, console=console, auto_refresh=False) as progress:
        task = progress.add_task("", total=len(chosen))
        for each in chosen:

            def tell(text: str, name: str = each.NAME) -> None:
                progress.update(task, description=f"[bold]{name}[/bold] {text}")
                progress.refresh()

            try:
                with stage(tell) as made:
                    keep(each.measure(made, quick=quick))
            except StageError as exc:
                failures += 1
                console.print(
                    f"{each.NAME} could not be made: {exc}", markup=False, highlight=False, soft_wrap=True
                )
            progress.advance(task)
    return failures


def _print(console: Console, outcomes: Sequence[Outcome], machine: dict[str, str]) -> None:
    for outcome in outcomes:
        table = Table(title=outcome.title, caption=outcome.how, title_justify="left", caption_justify="left")
        for index, column in enumerate(outcome.columns):
            table.add_column(column, justify="right" if index else "left")
        for row in outcome.rows:
            table.add_row(*row)
        console.print(table)
        for figure in outcome.figures:
            colour = {True: "green", False: "red", None: "default"}[figure.is_met]
            console.print(f"  [{colour}]{figure}[/{colour}]", highlight=False)
        console.print()
    console.print(", ".join(f"{name}: {value}" for name, value in machine.items()), highlight=False)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    names = [each.NAME for each in MEASUREMENTS]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--quick", action="store_true", help="a short form: fewer rounds, jobs and samples")
    parser.add_argument("--json", action="store_true", help="print everything as JSON, every sample included")
    parser.add_argument("--write", action="store_true", help="put the tables into the documentation")
    return parser.parse_args()


def _remembered(options: argparse.Namespace) -> list[str]:
    """Return the options that decide what was measured."""
    only = [word for name in options.only or () for word in ("--only", name)]
    return [*only, *(["--quick"] if options.quick else [])]


def _has(program: str) -> bool:
    from shutil import which

    return which(program) is not None


if __name__ == "__main__":
    sys.exit(main())
