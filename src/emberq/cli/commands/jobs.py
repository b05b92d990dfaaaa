"""`emberq jobs`: list, show, cancel, retry, pause and purge jobs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from emberq.cli.client import connect, path_to
from emberq.cli.commands import pauses
from emberq.cli.output import (
    AsJson,
    Columns,
    ago,
    describe_error,
    describe_warnings,
    print_json,
    print_listing,
    print_result,
    print_table,
    seconds,
)
from emberq.store.schema.job_states import ENDED_STATES

app = typer.Typer(no_args_is_help=True, help="List, show, cancel, retry, pause and purge jobs.")
app.command()(pauses.pause)
app.command()(pauses.resume)
app.command()(pauses.pauses)

#: Seconds between two polls of a job with --follow.
_FOLLOW_SECONDS = 0.3

_WAITING_REASONS = "paused, backoff, no_worker, queue_broken, tenant_cap, behind"

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


@app.command("list")
def list_jobs(
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    error_code: Annotated[str | None, typer.Option(help="Only jobs that failed with this code.")] = None,
    reason: Annotated[
        str | None,
        typer.Option(help="Only jobs with this error code or waiting reason: " + _WAITING_REASONS + "."),
    ] = None,
    tenant: Annotated[
        str | None,
        typer.Option(help="The tenant; other tenants need the scope admin."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most jobs to list.")] = 50,
    json_output: AsJson = False,
) -> None:
    """List jobs, newest first."""
    filters = {"state": state, "error_code": error_code, "reason": reason, "tenant": tenant}
    with connect() as client:
        items = list(client.pages("/jobs", limit=limit, **filters))
    _print_jobs(items, empty="No jobs.", json_output=json_output)


@app.command()
def stuck(
    after: Annotated[
        float | None, typer.Option(help="Seconds without progress; the setting stall_timeout if left out.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most jobs to list.")] = 50,
    json_output: AsJson = False,
) -> None:
    """List jobs without progress, or without a worker, for too long."""
    with connect() as client:
        items = list(client.pages("/jobs", limit=limit, stuck=True, stuck_after=after))
    _print_jobs(items, empty="No job is stuck.", json_output=json_output)


def _print_jobs(items: list[dict[str, Any]], *, empty: str, json_output: bool) -> None:
    columns: Columns = {
        "Job": "id",
        "File": "file_name",
        "Collection": "collection",
        "State": "state",
        "Stage": "stage",
        "Attempt": lambda job: f"{job['attempt']}/{job['max_attempts']}",
        "Reason": _reason,
        "Created": "created_at",
    }
    print_listing(items, columns, empty=empty, as_json=json_output)


def _reason(job: Mapping[str, Any]) -> str:
    """Return why a job waits or failed, or what of its file is not in the text."""
    if job["waiting_reason"] or job["error"]:
        return str(job["waiting_reason"] or job["error"]["code"])
    return ", ".join(warning["code"] for warning in job["warnings"])


@app.command()
def show(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait until the job ends.")] = False,
    json_output: AsJson = False,
) -> None:
    """Show one job: its state, progress, stage times and errors."""
    with connect() as client:
        job = client.get(path_to("jobs", job_id))
        while follow and job["state"] not in ENDED_STATES:
            time.sleep(_FOLLOW_SECONDS)
            job = client.get(path_to("jobs", job_id))
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
        ("waiting reason", job["waiting_reason"]),
        ("error", describe_error(job["error"]) if job["error"] else None),
        ("warnings", describe_warnings(job["warnings"])),
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
        str | None, typer.Option("--collection", "-c", help="All jobs of this collection.")
    ] = None,
    yes: Yes = False,
    json_output: AsJson = False,
) -> None:
    """Cancel a job, or all jobs of a collection. Waiting jobs end at once, running jobs within seconds."""
    if (job_id is None) == (collection is None):
        raise typer.BadParameter("give either a job or --collection")
    if job_id is not None:
        _act(path_to("jobs", job_id, "cancel"), json_output=json_output)
        return
    _act_on_many(
        "/jobs/cancel",
        {"collection": collection},
        question=f"Cancel {{cancelled}} waiting and {{stopping}} running jobs of {collection}?",
        done="Cancelled {cancelled} waiting jobs; {stopping} running jobs will stop within seconds.",
        yes=yes,
        json_output=json_output,
    )


@app.command()
def retry(
    job_id: Annotated[str | None, typer.Argument(metavar="[JOB]", help="The job's id.")] = None,
    error_code: Annotated[str | None, typer.Option(help="All jobs that failed with this code.")] = None,
    quarantined: Annotated[
        bool,
        typer.Option(
            "--quarantined", help="All jobs in quarantine: their worker died on them several times."
        ),
    ] = False,
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", help="All failed jobs of this collection.")
    ] = None,
    json_output: AsJson = False,
) -> None:
    """Retry a job, or all failed jobs that match the options."""
    which = {"error_code": error_code, "quarantined": quarantined or None, "collection": collection}
    body = {name: value for name, value in which.items() if value is not None}
    if (job_id is None) == (not body):
        raise typer.BadParameter("give either a job, or --error-code, --quarantined or --collection")
    if job_id is not None:
        _act(path_to("jobs", job_id, "retry"), json_output=json_output)
        return
    with connect() as client:
        answer = client.request("POST", "/jobs/retry", json=body).json()
    print_result(answer, f"Retried {answer['retried']} jobs.", as_json=json_output)


@app.command()
def purge(
    older_than: Annotated[str, typer.Option(help="Least time since the job's end, e.g. 90s, 30m, 12h, 30d.")],
    yes: Yes = False,
    json_output: AsJson = False,
) -> None:
    """Delete the records of jobs that ended long ago. Files and each file's newest job are kept."""
    _act_on_many(
        "/jobs/purge",
        {"older_than_seconds": age_in_seconds(older_than)},
        question="Delete the records of {purged} jobs?",
        done="Deleted the records of {purged} jobs.",
        yes=yes,
        json_output=json_output,
    )


def age_in_seconds(text: str) -> float:
    """Return the seconds of an age such as `90s`, `30m`, `12h` or `30d`.

    Raises:
        typer.BadParameter: If the text is not such an age.
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = text[:-1], text[-1:]
    if unit not in units or not number.isascii() or not number.isdigit():
        raise typer.BadParameter(f"{text!r} is not an age such as 90s, 30m, 12h or 30d")
    return float(int(number) * units[unit])


def _act_on_many(
    path: str, body: dict[str, Any], *, question: str, done: str, yes: bool, json_output: bool
) -> None:
    """Send a request that concerns many jobs; unless `yes`, count them and ask for confirmation first."""
    with connect() as client:
        if not yes:
            counted = client.request("POST", path, json={**body, "dry_run": True}).json()
            typer.confirm(question.format(**counted), abort=True, err=True)
        answer = client.request("POST", path, json=body).json()
    print_result(answer, done.format(**answer), as_json=json_output)


def _act(path: str, *, json_output: bool) -> None:
    with connect() as client:
        job = client.request("POST", path).json()
    print_result(job, f"{job['file_name']}: {job['state']}", as_json=json_output)
