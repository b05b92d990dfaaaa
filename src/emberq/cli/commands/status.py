"""`emberq status` and `emberq doctor`: the state of the service and of this machine."""

from __future__ import annotations

import typer

from emberq.cli.client import connect
from emberq.cli.output import AsJson, print_findings, print_json, print_table, say, seconds


def status(json_output: AsJson = False) -> None:
    """Show the health of the service, its jobs, and its workers."""
    from emberq.cli.client import Problem

    with connect() as client:
        try:
            ready = client.get("//readyz")
        except Problem as exc:
            ready = {"status": "not ready", "checks": {"api": exc.message}}
        stats, workers = client.get("/stats"), client.get("/workers")["items"]
    if json_output:
        print_json({"ready": ready, "stats": stats, "workers": workers})
        return
    for name, answer in ready["checks"].items():
        say(f"{name}: {answer}")
    jobs = ", ".join(f"{count} {state}" for state, count in stats["jobs"].items() if count) or "none"
    say(f"jobs: {jobs}; oldest waiting {seconds(stats['queue_oldest_seconds'])}")
    say(f"{stats['collections']} collections, {stats['files']} files, {stats['chunks']} chunks")
    say("")
    rows = (
        (
            one["name"],
            one["state"],
            one["pid"],
            seconds(one["heartbeat_age_seconds"]),
            "yes" if one["alive"] else "no",
        )
        for one in workers
    )
    print_table(("Worker", "State", "Pid", "Heartbeat", "Alive"), rows, empty="No workers.")


def doctor(json_output: AsJson = False) -> None:
    """Check everything that emberq needs on this machine.

    Each problem is printed with its fix.
    """
    from emberq.cli.checks import run_checks

    findings = run_checks()
    failed = any(finding.result == "fail" for finding in findings)
    print_findings(findings, as_json=json_output)
    raise typer.Exit(1 if failed else 0)
