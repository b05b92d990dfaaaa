"""The report: one page for people, and one line for programs."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime

from tests.chaos.campaign.campaign import Result
from tests.chaos.campaign.killer import Outcome
from tests.chaos.campaign.plan import FAULTS, VICTIMS
from tests.chaos.campaign.two_hosts import Survival

__all__ = ["MAX_SECONDS", "P95_SECONDS", "as_markdown", "broken_goals", "last_line", "survival_section"]

#: Bounds for the time from a kill until everything it interrupted runs again, in seconds.
P95_SECONDS = 10.0
MAX_SECONDS = 15.0
#: Findings shown one by one.
_MOST_FINDINGS = 50


def last_line(result: Result) -> str:
    """Return the line for programs; a file that came back counts as duplicated, an overrun one as stuck."""
    verdict = result.verdict
    figures = {
        "kills": sum(outcome.action.is_kill for outcome in result.outcomes),
        "lost": verdict.count("lost"),
        "duplicated": verdict.count("duplicated", "resurrected"),
        "stuck": verdict.count("stuck", "overrun"),
        "mixed": verdict.count("mixed"),
        "slowest_recovery": f"{max(_recoveries(result.outcomes, kills=True), default=0.0):.1f}s",
        "failed_starts": result.failed_starts,
        "orphans": len(result.orphans),
    }
    return " ".join(f"{name}={value}" for name, value in figures.items())


def broken_goals(result: Result, *, must_reach_rare_states: bool) -> list[str]:
    """Return in words what was not as it should be."""
    kinds = {finding.kind for finding in result.verdict.findings}
    broken = [f"{kind}: {result.verdict.count(kind)} files" for kind in sorted(kinds)]
    if result.failed_starts:
        broken.append(f"`emberq up` could not start {result.failed_starts} times")
    broken += [f"outlived its parent: {one}" for one in result.orphans]
    if not result.is_quiet:
        broken.append("some jobs did not come to an end")
    for kills, what in ((True, "kills"), (False, "faults")):
        seconds = _recoveries(result.outcomes, kills=kills)
        if not seconds:
            continue
        if max(seconds) > MAX_SECONDS:
            broken.append(f"slowest recovery from {what}: {max(seconds):.1f} s, bound {MAX_SECONDS:.0f} s")
    # Without `up`: after its kill all starts anew, engines and model too, beside two hosts under load.
    parts = [outcome for outcome in result.outcomes if outcome.action.what != "up"]
    if seconds := _recoveries(parts, kills=True):
        p95 = percentile(seconds, 95)
        if p95 > P95_SECONDS:
            broken.append(f"p95 of recovery from kills of parts: {p95:.1f} s, bound {P95_SECONDS:.0f} s")
    if must_reach_rare_states:
        broken += [f"not reached: {state}" for state, count in result.rare.items() if not count]
    return broken


def as_markdown(result: Result, *, command: str, broken: Sequence[str]) -> str:
    """Return the whole report."""
    kills = [outcome for outcome in result.outcomes if outcome.action.is_kill]
    faults = [outcome for outcome in result.outcomes if not outcome.action.is_kill]
    verdict = result.verdict
    lines = [
        "# Report of a kill campaign",
        "",
        f"`{last_line(result)}`",
        "",
        (
            f"Run on {datetime.now(UTC):%Y-%m-%d} with `{command}`: seed `{result.seed}`,"
            f" {len(kills)} kills and {len(faults)} other faults in {result.seconds / 60:.0f} minutes,"
            f" on {os.cpu_count()} processors"
            f" ({platform.machine()}), Python {platform.python_version()}. How it works and how to read it:"
            " [the kill campaign](../explanation/kill-campaign.md)."
        ),
        "",
        "All goals were met." if not broken else "**Goals that were not met:** " + "; ".join(broken) + ".",
        "",
        "## What became of the files",
        "",
        *_table(
            ["lost", "duplicated", "stuck", "mixed", "came back after deletion", "too many attempts"],
            [
                [
                    str(verdict.count(kind))
                    for kind in ("lost", "duplicated", "stuck", "mixed", "resurrected", "overrun")
                ]
            ],
        ),
        "",
        *[f"- {one.kind}: `{one.file}`: {one.what}" for one in verdict.findings[:_MOST_FINDINGS]],
        "",
        *_table(
            ["operation", "asked", "acknowledged"],
            [[kind, str(asked), str(done)] for kind, (asked, done) in sorted(result.operations.items())],
        ),
        "",
        *_table(["jobs ended", "number"], [[end, str(count)] for end, count in sorted(result.ends.items())]),
        "",
        "## From the kill until everything runs again, in seconds",
        "",
        *_recovery_table(kills, list(VICTIMS)),
        "",
        "## What outlived its parent",
        "",
        (
            f"`emberq up` failed to start {result.failed_starts} times. {len(result.orphans)} processes"
            " outlived their parents by more than two seconds; the longest for"
            f" {result.longest_orphan_seconds:.1f} s. {len(result.left_directories)} temporary directories"
            " were there before the stop."
        ),
        "",
        "## From a fault until everything runs again, in seconds",
        "",
        "From the beginning of what stands still or is lost; from the end of what passes (wires, disk).",
        "",
        *_recovery_table(faults, list(FAULTS)),
        "",
        "## Throughput",
        "",
        *_table(
            ["kills", "seconds", "jobs completed", "jobs a second", "share of before"],
            [
                [
                    phase.name,
                    f"{phase.seconds:.0f}",
                    str(phase.completed),
                    f"{phase.per_second:.1f}",
                    f"{phase.per_second / (result.phases[0].per_second or 1):.0%}",
                ]
                for phase in result.phases
            ],
        ),
        "",
        "## Rare states that were reached",
        "",
        *_table(["state", "times"], [[state, str(count)] for state, count in result.rare.items()]),
        "",
    ]
    return "\n".join(lines)


def survival_section(survival: Survival) -> str:
    """Return the part of the report that tells of the host that died for good."""
    seconds = "never" if survival.taken_over_seconds is None else f"after {survival.taken_over_seconds:.1f} s"
    apart = "" if survival.networks == 1 else f" {survival.networks} network namespaces,"
    return (
        "\n## Two hosts, one of which is lost for good\n\n"
        f"Two hosts with data directories of their own,{apart} {survival.documents} documents. One host was"
        f" stopped for good with {survival.interrupted} jobs in hand and not started again. The other ran"
        f" them again {seconds}, completed {survival.taken_over} of them, and in the end {survival.whole}"
        " documents were"
        " found, each whole and once.\n"
    )


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that so many percent of all samples do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _recoveries(outcomes: Sequence[Outcome], *, kills: bool) -> list[float]:
    """Return the recoveries' seconds; one that did not come counts as endless."""
    return [_seconds(one.recovery_seconds) for one in outcomes if one.action.is_kill is kills]


def _seconds(measured: float | None) -> float:
    return math.inf if measured is None else measured


def _recovery_table(outcomes: list[Outcome], order: list[str]) -> list[str]:
    groups = [(what, [outcome for outcome in outcomes if outcome.action.what == what]) for what in order]
    rows = [_recovery_row(what, group) for what, group in [*groups, ("all", outcomes)] if group]
    head = ["what", "times", "p50", "p95", "max", "with work in hand", "work again: p50", "max"]
    return _table(head, rows)


def _recovery_row(what: str, outcomes: list[Outcome]) -> list[str]:
    seconds = _recoveries(outcomes, kills=outcomes[0].action.is_kill)
    figures = [percentile(seconds, 50), percentile(seconds, 95), max(seconds)]
    again = [
        _seconds(outcome.taken_up_seconds)
        for outcome in outcomes
        if outcome.interrupted and outcome.action.is_kill
    ]
    work = [percentile(again, 50), max(again)] if again else []
    return [
        what.replace("_", " "),
        str(len(outcomes)),
        *(f"{figure:.2f}" for figure in figures),
        str(len(again)),
        *(f"{figure:.2f}" for figure in work),
        *[""] * (2 - len(work)),
    ]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in [head, rule, *rows]]
