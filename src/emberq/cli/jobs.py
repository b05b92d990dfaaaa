"""`emberq jobs …`."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from emberq.cli.output import AsJson, ago, print_json, print_table, seconds

__all__ = ["ENDED", "app", "describe_error"]

app = typer.Typer(no_args_is_help=True, help="Look at jobs, cancel them, run them again.")

#: States a job does not leave by itself.
ENDED = ("completed", "failed", "cancelled")
#: Seconds between two looks at a job that is followed.
_FOLLOW_SECONDS = 0.3

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


def describe_error(error: dict[str, Any]) -> str:
    """Show a job's error as one line: code, message and what to do next."""
    stage = f" while {error['stage']}" if error.get("stage") else ""
    hint = f" → {error['hint']}" if error.get("hint") else ""
    return f"{error['code']}{stage}: {error['message']}{hint}"


@app.command("list")
def list_jobs(
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    error_code: Annotated[str | None, typer.Option(help="Only jobs that failed with this code.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most jobs shown.")] = 50,
    json_output: AsJson = False,
) -> None:
    """List jobs, newest first."""
    from emberq.cli.client import connect

    with connect() as client:
        items = list(client.pages("/jobs", limit=limit, state=state, error_code=error_code))
    if json_output:
        print_json(items)
        return
    rows = (
        (
            job["id"],
            job["file_name"],
            job["collection"],
            job["state"],
            job["stage"],
            f"{job['attempt']}/{job['max_attempts']}",
            job["waiting_reason"] or (job["error"] or {}).get("code"),
            ago(job["created_at"]),
        )
        for job in items
    )
    print_table(
        ("Job", "File", "Collection", "State", "Stage", "Attempt", "Reason", "Created"),
        rows,
        empty="No jobs.",
    )


@app.command()
def show(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for the job's end.")] = False,
    json_output: AsJson = False,
) -> None:
    """Show one job: state, progress, times of its stages, and why it failed."""
    from emberq.cli.client import connect

    with connect() as client:
        job = client.get(f"/jobs/{job_id}")
        while follow and job["state"] not in ENDED:
            time.sleep(_FOLLOW_SECONDS)
            job = client.get(f"/jobs/{job_id}")
    if json_output:
        print_json(job)
        return
    progress = job["progress"]
    rows: list[tuple[str, object]] = [
        ("id", job["id"]),
        ("file", f"{job['file_name']} ({job['file_id']})"),
        ("collection", job["collection"]),
        ("state", job["state"]),
        ("stage", f"{job['stage']} {progress['done']}/{progress['total']}" if job["stage"] else ""),
        ("attempt", f"{job['attempt']} of {job['max_attempts']}"),
        ("waits for", job["waiting_reason"]),
        ("error", describe_error(job["error"]) if job["error"] else None),
        ("times", ", ".join(f"{stage} {seconds(took)}" for stage, took in job["timings"].items())),
        ("created", ago(job["created_at"])),
    ]
    print_table(("", ""), [row for row in rows if row[1]], empty="")


@app.command()
def cancel(job_id: JobId, json_output: AsJson = False) -> None:
    """Cancel a job: at once while it waits, within seconds while it runs."""
    _act(f"/jobs/{job_id}/cancel", json_output=json_output)


@app.command()
def retry(
    job_id: Annotated[str | None, typer.Argument(metavar="[JOB]", help="The job's id.")] = None,
    error_code: Annotated[str | None, typer.Option(help="Every job that failed with this code.")] = None,
    json_output: AsJson = False,
) -> None:
    """Run a failed or cancelled job again, or all that failed with one code."""
    if (job_id is None) == (error_code is None):
        raise typer.BadParameter("give either a job or --error-code")
    if job_id is not None:
        _act(f"/jobs/{job_id}/retry", json_output=json_output)
        return
    from emberq.cli.client import connect

    with connect() as client:
        answer = client.request("POST", "/jobs/retry", json={"error_code": error_code}).json()
    typer.echo(json.dumps(answer) if json_output else f"{answer['retried']} jobs run again.")


def _act(path: str, *, json_output: bool) -> None:
    from emberq.cli.client import connect

    with connect() as client:
        job = client.request("POST", path).json()
    if json_output:
        print_json(job)
    else:
        typer.echo(f"{job['file_name']}: {job['state']}")
