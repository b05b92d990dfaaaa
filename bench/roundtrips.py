"""No-op jobs per second, and round trips per job, with a server that is 2 ms away."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from contenders import CONTENDERS, Contender
from outcome import Figure, Outcome
from proxy import read_counters
from redis import Redis
from stage import HERE, Stage, StageError, read_mark
from throughput import FORKING, SIMPLE, WARM, median_ratio

__all__ = ["NAME", "measure"]

NAME = "roundtrips"
#: Seconds each direction takes; 2 ms there and back is a server in the next data centre.
DELAY_SECONDS = 0.001
ROUNDS = 3
QUICK_ROUNDS = 1
#: What one contender gets, of the jobs it gets without the delay.
SHARE = 0.15
#: PINGs behind the figure of what the proxy really costs.
_PINGS = 200


@dataclass(frozen=True, slots=True)
class _Run:
    """One contender in one round."""

    rate: float
    turns: float
    commands: float


def measure(stage: Stage, *, quick: bool) -> Outcome:
    """Run every contender through the proxy."""
    runs: dict[str, list[_Run]] = {contender.name: [] for contender in CONTENDERS}
    rounds = QUICK_ROUNDS if quick else ROUNDS
    ping = 0.0
    for number in range(1, rounds + 1):
        for contender in CONTENDERS:
            stage.tell(f"round {number} of {rounds}: {contender.name}")
            counters = stage.path("counters")
            command = [sys.executable, str(HERE / "proxy.py"), str(stage.port), str(DELAY_SECONDS)]
            with stage.running([*command, str(counters)], stdout=subprocess.PIPE) as proxy:
                port = _port_of(proxy)
                ping = ping or _ping_seconds(port)
                count = max(5, int(contender.jobs * (SHARE / 2 if quick else SHARE)))
                runs[contender.name].append(_run(stage, contender, count, port, counters))
    rates = {name: [run.rate for run in made] for name, made in runs.items()}
    turns = {name: median(run.turns for run in made) for name, made in runs.items()}
    rows = [
        [
            name,
            f"{median(rates[name]):,.0f}",
            f"{turns[name]:.1f}",
            f"{median(run.commands for run in runs[name]):.1f}",
            f"{median_ratio(rates[name], rates[SIMPLE]):.2f} x",
            f"{median_ratio(rates[name], rates[FORKING]):.2f} x",
        ]
        for name in rates
    ]
    return Outcome(
        name=NAME,
        title="With the server 2 ms away",
        how=(
            f"Through a proxy that holds every message for {DELAY_SECONDS * 1000:g} ms in each direction "
            f"(a PING takes {ping * 1000:.2f} ms). A round trip is counted whenever a connection speaks "
            f"after it was answered, whatever was pipelined. Medians of {rounds} interleaved rounds."
        ),
        columns=["worker", "jobs/s", "round trips per job", "commands per job", "÷ SimpleWorker", "÷ Worker"],
        rows=rows,
        figures=[
            Figure("WarmWorker's round trips less RQ Worker's", turns[WARM] - turns[FORKING], "", "<", 0.0),
            Figure("WarmWorker's round trips per job", turns[WARM]),
        ],
        raw={name: [[run.rate, run.turns, run.commands] for run in made] for name, made in runs.items()},
    )


def _run(stage: Stage, contender: Contender, count: int, port: int, counters: Path) -> _Run:
    stage.connection.flushall()
    first, last = stage.path("first"), stage.path("last")
    contender.fill(stage, count, first, last)
    with contender.start(stage, f"redis://127.0.0.1:{port}/0") as worker:
        stage.wait_for(first, worker)
        turns, commands = read_counters(counters)["turns"], _commands(stage)
        stage.wait_for(last, worker)
        turns, commands = read_counters(counters)["turns"] - turns, _commands(stage) - commands
    rate = (count + 1) / (read_mark(last)[0] - read_mark(first)[0])
    # One of the commands is our own second question for their number.
    return _Run(rate=rate, turns=turns / (count + 1), commands=(commands - 1) / (count + 1))


def _commands(stage: Stage) -> int:
    return int(stage.connection.info("stats")["total_commands_processed"])


def _port_of(proxy: subprocess.Popen[str]) -> int:
    line = proxy.stdout.readline() if proxy.stdout is not None else ""
    if not line:
        raise StageError("The proxy did not start.")
    return int(line)


def _ping_seconds(port: int) -> float:
    samples = []
    with Redis(port=port) as connection:
        connection.ping()
        for _ in range(_PINGS):
            started = time.perf_counter()
            connection.ping()
            samples.append(time.perf_counter() - started)
    return median(samples)
