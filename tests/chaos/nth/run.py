"""The nth-operation loop: break every call to Redis, SQL, disk and model in a file's life, in four ways.

    python tests/chaos/nth/run.py                       all of it, some minutes
    python tests/chaos/nth/run.py --sample 40           some rounds, chosen by a seed that is printed
    python tests/chaos/nth/run.py --only "upload/horse/40/exit after"

It exits with 1 if something did not hold in a round, and says how to play that round again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from emberq.embedded import Engines
from emberq.store.database import Database
from emberq.store.migrate import migrate
from emberq.testing.faults import Crossing, Fault, Variant
from tests.chaos.nth.lives import LIVES
from tests.chaos.nth.rounds import Outcome, Round, count, play
from tests.chaos.nth.stage import PROCESSES, Stage

#: Operations beyond those that were counted: what recovers does more of them.
_MORE = 2
#: Rounds that are played however busy the machine is: one round alone may miss its operation.
_LEAST_ROUNDS = 8
#: Lines of the log that are shown of a round that failed.
_LOG_LINES = 12


@dataclass(frozen=True, slots=True)
class Where:
    """The engines of one shard."""

    directory: Path
    database_url: str
    redis_url: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the loop and print its report; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=2, help="rounds at a time (%(default)s)")
    parser.add_argument("--sample", type=int, help="so many rounds, chosen at random, instead of all")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no round after that (%(default)s)")
    parser.add_argument("--only", action="append", help="LIFE[/PROCESS[/NUMBER[/VARIANT]]]; may be repeated")
    parser.add_argument("--database-url", help="an empty, migrated database to use; means --jobs 1")
    parser.add_argument("--redis-url", help="an empty Redis to use with it")
    options = parser.parse_args(arguments)
    console = Console(width=140 if not sys.stdout.isatty() else None)
    began_at = time.monotonic()
    with ExitStack() as stack:
        places = stack.enter_context(_places(options))
        shards = [stack.enter_context(_shard(place)) for place in places]
        shards[0].send("count")
        counted: dict[str, list[Crossing]] = _receive(shards[0])
        rounds = _chosen(_all_rounds(counted), only=options.only, sample=options.sample, seed=options.seed)
        console.print(f"{len(rounds)} rounds, {len(places)} at a time, --seed {options.seed}")
        deadline = began_at + 60 * options.minutes
        outcomes = _play_all(shards, rounds, console, deadline=deadline)
    _report(console, counted, outcomes)
    console.print(f"{time.monotonic() - began_at:.0f} seconds")
    failed = [outcome for outcome in outcomes if outcome.broken]
    return 1 if failed or not any(outcome.crossing for outcome in outcomes) else 0


@contextmanager
def _places(options: argparse.Namespace) -> Iterator[list[Where]]:
    """Yield a database, a Redis and a directory for each shard."""
    root = Path(tempfile.mkdtemp(prefix="emberq-nth-"))
    # PostgreSQL may run as another user, who must come through.
    root.chmod(0o755)
    try:
        if options.database_url:
            yield [Where(root / "0", options.database_url, options.redis_url)]
            return
        with ExitStack() as stack:
            places = []
            for number in range(options.jobs):
                engines = stack.enter_context(
                    Engines(root / f"engines{number}", database_url=None, redis_url=None)
                )
                database = Database(engines.database_url)
                migrate(database)
                database.close()
                places.append(Where(root / str(number), engines.database_url, engines.redis_admin_url))
            yield places
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def _shard(where: Where) -> Iterator[Connection]:
    """Start a process that plays rounds, one after the other."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_play_rounds, args=(where, theirs))
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(timeout=30)
        process.kill()


def _play_rounds(where: Where, channel: Any) -> None:
    for name in list(os.environ):
        if name.startswith("EMBERQ_") and name != "EMBERQ_MODELS_DIR":
            del os.environ[name]
    # Processes that end in the middle of a job leave its directory behind.
    temporary = where.directory / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
    stage = Stage(where.directory, database_url=where.database_url, redis_url=where.redis_url)
    try:
        while True:
            asked = channel.recv()
            log_begins = stage.log.stat().st_size if stage.log.exists() else 0
            if asked == "count":
                channel.send({life.name: count(stage, life) for life in LIVES})
                continue
            outcome = play(stage, asked)
            if outcome.broken:
                with stage.log.open("rb") as log:
                    log.seek(log_begins)
                    outcome.log = log.read().decode(errors="replace").splitlines()
            channel.send(outcome)
    except EOFError:
        pass
    finally:
        stage.close()


def _receive(channel: Connection) -> Any:
    try:
        return channel.recv()
    except EOFError:
        raise SystemExit("A shard ended before it answered; its traceback is above.") from None


def _all_rounds(counted: dict[str, list[Crossing]]) -> list[Round]:
    return [
        Round(life.name, Fault(process, number, variant))
        for life in LIVES
        for process in life.processes
        for number in range(1, _count_of(counted[life.name], process) + _MORE + 1)
        for variant in Variant
    ]


def _count_of(crossings: list[Crossing], process: str) -> int:
    return max((one.number for one in crossings if one.process == process), default=0)


def _chosen(rounds: list[Round], *, only: list[str] | None, sample: int | None, seed: int) -> list[Round]:
    if only:
        wanted = [one.rstrip("/") + "/" for one in only]
        rounds = [one for one in rounds if any(f"{one.name}/".startswith(begin) for begin in wanted)]
    chosen = random.Random(seed)
    return chosen.sample(rounds, len(rounds) if sample is None else min(sample, len(rounds)))


def _play_all(
    shards: list[Connection], rounds: list[Round], console: Console, *, deadline: float
) -> list[Outcome]:
    """Give every shard its next round as soon as it has played the last one."""
    waiting = list(reversed(rounds))
    outcomes: list[Outcome] = []
    busy: set[Connection] = set()
    columns = (TextColumn("nth"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("no failures", total=len(rounds))
        for shard in shards:
            if waiting:
                shard.send(waiting.pop())
                busy.add(shard)
        while busy:
            for ready in wait(busy):
                shard = next(one for one in busy if one is ready)
                outcome: Outcome = _receive(shard)
                outcomes.append(outcome)
                if outcome.broken:
                    _show(console, outcome)
                failures = sum(bool(one.broken) for one in outcomes)
                progress.update(bar, advance=1, description=f"{failures or 'no'} failures")
                if waiting and (time.monotonic() < deadline or len(outcomes) < _LEAST_ROUNDS):
                    shard.send(waiting.pop())
                else:
                    busy.discard(shard)
    return outcomes


def _show(console: Console, outcome: Outcome) -> None:
    what = f" ({outcome.crossing.kind} {outcome.crossing.name})" if outcome.crossing else ""
    console.print(f"FAILED {outcome.round.name}{what}, {outcome.seconds:.1f} s", style="red", markup=False)
    for words in outcome.broken:
        console.print(f"  {words}", markup=False)
    for line in outcome.log[-_LOG_LINES:]:
        console.print(f"    {_brief(line)}", markup=False, style="dim")
    console.print(f'  again: python tests/chaos/nth/run.py --only "{outcome.round.name}"', markup=False)


def _brief(line: str) -> str:
    """Return what a record says, without what every record says."""
    try:
        record = json.loads(line)
    except ValueError:
        return line
    event = record.pop("event", "")
    hidden = ("level", "logger", "trace", "tenant", "rq_job", "file", "config_version", "timestamp")
    fields = " ".join(f"{name}={value}" for name, value in record.items() if name not in hidden)
    return f"{str(record.get('timestamp'))[17:23]} {event} {fields}"


def _report(console: Console, counted: dict[str, list[Crossing]], outcomes: list[Outcome]) -> None:
    kinds = ("sql", "redis", "disk", "model")
    table = Table(title="The nth-operation loop")
    for heading in ("life", "process", *kinds, "rounds", "reached", "failed", "attempts", "slowest end"):
        table.add_column(heading, justify="left" if heading in ("life", "process") else "right")
    for life in LIVES:
        for process in (one for one in PROCESSES if one in life.processes):
            seen = Counter(one.kind for one in counted[life.name] if one.process == process)
            mine = [
                one
                for one in outcomes
                if one.round.life == life.name and one.round.fault and one.round.fault.process == process
            ]
            table.add_row(
                life.name,
                process,
                *(str(seen[kind] or "") for kind in kinds),
                str(len(mine)),
                str(sum(one.crossing is not None for one in mine)),
                str(sum(bool(one.broken) for one in mine)),
                str(max((one.attempts for one in mine), default=0)),
                f"{max((one.seconds for one in mine), default=0.0):.1f} s",
            )
    console.print(table)
    reached = Counter(one.round.fault.variant for one in outcomes if one.crossing and one.round.fault)
    console.print(
        f"{sum(len(one) for one in counted.values())} operations counted, {len(outcomes)} rounds played, "
        f"{sum(reached.values())} reached their operation "
        f"({', '.join(f'{variant} {number}' for variant, number in sorted(reached.items()))}), "
        f"{sum(bool(one.broken) for one in outcomes)} failed"
    )


if __name__ == "__main__":
    sys.exit(main())
