"""`emberq jobs …`."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from emberq.cli.commands import pauses
from emberq.cli.output import AsJson, ago, describe_error, print_json, print_table, seconds
from emberq.store.schema.job_states import ENDED_STATES

__all__ = ["age_in_seconds", "app"]

app = typer.Typer(no_args_is_help=True, help="Look at jobs, cancel them, run them again, hold them back.")
app.command()(pauses.pause)
app.command()(pauses.resume)
app.command()(pauses.pauses)

#: Seconds between two looks at a job that is followed.
_FOLLOW_SECONDS = 0.3

_WAITING_REASONS = "paused, backoff, no_worker, tenant_cap, behind"

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


@app.command("list")
def list_jobs(
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    error_code: Annotated[str | None, typer.Option(help="Only jobs that failed with this code.")] = None,
    reason: Annotated[
        str | None,
        typer.Option(help="Only jobs with this error code, or that wait for: " + _WAITING_REASONS + "."),
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose jobs; needs an admin's key.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most jobs shown.")] = 50,
    json_output: AsJson = False,
) -> None:
    """List jobs, newest first."""
    from emberq.cli.client import connect

    filters = {"state": state, "error_code": error_code, "reason": reason, "tenant": tenant}
    with connect() as client:
        items = list(client.pages("/jobs", limit=limit, **filters))
    _print_jobs(items, empty="No jobs.", json_output=json_output)


@app.command()
def stuck(
    after: Annotated[
        float | None, typer.Option(help="Seconds without progress; the setting stall_timeout if left out.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most jobs shown.")] = 50,
    json_output: AsJson = False,
) -> None:
    """List jobs that run without progress, or whose ticket no worker has taken, for too long."""
    from emberq.cli.client import connect

    with connect() as client:
        items = list(client.pages("/jobs", limit=limit, stuck=True, stuck_after=after))
    _print_jobs(items, empty="No job is stuck.", json_output=json_output)


def _print_jobs(items: list[dict[str, Any]], *, empty: str, json_output: bool) -> None:
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
        empty=empty,
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
        while follow and job["state"] not in ENDED_STATES:
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
        *(
            (f"attempt {ended['attempt']}", f"{ended['code']}: {ended['message']}")
            for ended in job["attempts"]
        ),
        ("times", ", ".join(f"{stage} {seconds(took)}" for stage, took in job["timings"].items())),
        ("created", ago(job["created_at"])),
    ]
    print_table(("", ""), [row for row in rows if row[1]], empty="")


@app.command()
def cancel(
    job_id: Annotated[str | None, typer.Argument(metavar="[JOB]", help="The job's id.")] = None,
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", help="Every job of this collection.")
    ] = None,
    yes: Yes = False,
    json_output: AsJson = False,
) -> None:
    """Cancel a job, or all of a collection: at once while it waits, within seconds while it runs."""
    if (job_id is None) == (collection is None):
        raise typer.BadParameter("give either a job or --collection")
    if job_id is not None:
        _act(f"/jobs/{job_id}/cancel", json_output=json_output)
        return
    _act_on_many(
        "/jobs/cancel",
        {"collection": collection},
        question=f"Cancel {{cancelled}} waiting and stop {{stopping}} running jobs of {collection}?",
        done="{cancelled} waiting jobs are cancelled, {stopping} running jobs are being stopped.",
        yes=yes,
        json_output=json_output,
    )


@app.command()
def retry(
    job_id: Annotated[str | None, typer.Argument(metavar="[JOB]", help="The job's id.")] = None,
    error_code: Annotated[str | None, typer.Option(help="Every job that failed with this code.")] = None,
    quarantined: Annotated[
        bool, typer.Option("--quarantined", help="Every job that was set aside for ending its worker.")
    ] = False,
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", help="Every failed job of this collection.")
    ] = None,
    json_output: AsJson = False,
) -> None:
    """Run a failed or cancelled job again, or all that meet what is given."""
    which = {"error_code": error_code, "quarantined": quarantined or None, "collection": collection}
    body = {name: value for name, value in which.items() if value is not None}
    if (job_id is None) == (not body):
        raise typer.BadParameter("give either a job, or --error-code, --quarantined or --collection")
    if job_id is not None:
        _act(f"/jobs/{job_id}/retry", json_output=json_output)
        return
    from emberq.cli.client import connect

    with connect() as client:
        answer = client.request("POST", "/jobs/retry", json=body).json()
    typer.echo(json.dumps(answer) if json_output else f"{answer['retried']} jobs run again.")


@app.command()
def purge(
    older_than: Annotated[str, typer.Option(help="Age since the job's end, e.g. 90s, 30m, 12h, 30d.")],
    yes: Yes = False,
    json_output: AsJson = False,
) -> None:
    """Delete the records of jobs that ended long ago. Files stay, and each file's newest job."""
    _act_on_many(
        "/jobs/purge",
        {"older_than_seconds": age_in_seconds(older_than)},
        question="Delete the records of {purged} jobs?",
        done="The records of {purged} jobs are deleted.",
        yes=yes,
        json_output=json_output,
    )


def age_in_seconds(text: str) -> float:
    """Return the seconds of an age such as `90s`, `30m`, `12h` or `30d`.

    Raises:
        typer.BadParameter: If it is none.
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = text[:-1], text[-1:]
    if unit not in units or not number.isascii() or not number.isdigit():
        raise typer.BadParameter(f"{text!r} is not an age such as 90s, 30m, 12h or 30d")
    return float(int(number) * units[unit])


def _act_on_many(
    path: str, body: dict[str, Any], *, question: str, done: str, yes: bool, json_output: bool
) -> None:
    """Count first and ask, unless told not to; then act."""
    from emberq.cli.client import connect

    with connect() as client:
        if not yes:
            counted = client.request("POST", path, json={**body, "dry_run": True}).json()
            typer.confirm(question.format(**counted), abort=True, err=True)
        answer = client.request("POST", path, json=body).json()
    typer.echo(json.dumps(answer) if json_output else done.format(**answer))


def _act(path: str, *, json_output: bool) -> None:
    from emberq.cli.client import connect

    with connect() as client:
        job = client.request("POST", path).json()
    if json_output:
        print_json(job)
    else:
        typer.echo(f"{job['file_name']}: {job['state']}")
