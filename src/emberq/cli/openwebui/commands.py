"""`emberq openwebui …`: what drives a stock Open WebUI from beside it."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emberq.cli.output import AsJson, print_findings, print_json, print_table

if TYPE_CHECKING:
    from emberq.openwebui.sidecar.client import OpenWebUIClient

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Rescue, import, check and connect beside a stock Open WebUI (0.12.4)."
)

Url = Annotated[str | None, typer.Option(help="Open WebUI's address [EMBERQ_OPENWEBUI_URL].")]
Token = Annotated[
    str | None,
    typer.Option(
        help="Open WebUI's API key or a session's token; better in EMBERQ_OPENWEBUI_API_KEY, as others on"
        " this machine can see command lines.",
    ),
]
StuckAfter = Annotated[
    float,
    typer.Option(
        min=0,
        help="Seconds without a change after which a file in pending or processing is stuck. Longer than"
        " your slowest file takes, or it is processed twice.",
    ),
]


@app.command()
def watch(
    once: Annotated[
        bool, typer.Option("--once", help="Bring what is stuck now to an end, then stop.")
    ] = False,
    interval: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 30.0,
    stuck_after: StuckAfter = 900.0,
    max_attempts: Annotated[int, typer.Option(min=1, help="How often a file is begun again.")] = 5,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Files at once.")] = 2,
    forget: Annotated[
        bool, typer.Option("--forget", help="Count attempts from zero for every file.")
    ] = False,
    url: Url = None,
    token: Token = None,
    json_output: AsJson = False,
) -> None:
    """Find files that Open WebUI left in the middle of their way, and bring them to an end.

    Those are files in pending or processing that nobody works on any more, as after a kill of the server,
    and files that failed because emberq, or another server, could not be reached. Needs an admin's key.
    """
    from emberq.openwebui.sidecar.attempts import AttemptsFile, hold, place
    from emberq.openwebui.sidecar.file_locks import FileLocks
    from emberq.openwebui.sidecar.policy import Policy
    from emberq.openwebui.sidecar.watch import Watcher

    client, data_dir = _connect(url, token)
    path = place(data_dir, "watch", client.url)
    with client, hold(path, "watcher"), FileLocks(place(data_dir, "files", client.url)) as claims:
        require_admin(client)
        attempts = AttemptsFile(path)
        if forget:
            attempts.clear()
        policy = Policy(stuck_after=stuck_after, max_attempts=max_attempts)
        rescuer = Watcher(client, attempts, policy, claims=claims, concurrency=concurrency)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: rescuer.stop.set())
        if not once:
            rescuer.watch(interval)
            return
        reports = rescuer.run_once()
    if json_output:
        print_json([report.as_dict() for report in reports])
    else:
        rows = ((one.outcome, one.attempts, one.name, one.file_id, one.reason) for one in reports)
        print_table(("Outcome", "Attempts", "File", "Id", "Why"), rows, empty="Nothing is stuck.")
        if reports:
            sys.stdout.write(f"{_count(report.outcome for report in reports)}\n")
    if any(report.outcome in ("failed", "gave_up") for report in reports):
        raise typer.Exit(1)


@app.command("import")
def import_folder(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder, with all below it.")],
    knowledge: Annotated[str, typer.Option(help="Name or id of the knowledge base.")],
    create: Annotated[
        bool, typer.Option("--create", help="Make the knowledge base if it is not there.")
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Files at once.")] = 4,
    include: Annotated[
        list[str] | None,
        typer.Option(help="Only files whose path or name matches, e.g. '*.pdf'; repeatable."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="No files whose path or name matches; repeatable.")
    ] = None,
    stuck_after: StuckAfter = 900.0,
    max_attempts: Annotated[int, typer.Option(min=1, help="How often a file is begun again.")] = 5,
    url: Url = None,
    token: Token = None,
    json_output: AsJson = False,
) -> None:
    """Bring a folder into a knowledge base of Open WebUI: each file once, whatever is killed meanwhile.

    Run it again after a stop or a kill: it goes on. A file that changed takes the place of its older
    version; hidden files are left out.

    Example: emberq openwebui import ~/handbook --knowledge Handbook --create
    """
    from emberq.cli.openwebui.importing import find_paths, resolve_knowledge, run_import, summarize
    from emberq.openwebui.sidecar.attempts import hold, place
    from emberq.openwebui.sidecar.file_locks import FileLocks
    from emberq.openwebui.sidecar.importer import Importer
    from emberq.openwebui.sidecar.policy import Policy

    paths = find_paths(folder, include=include or [], exclude=exclude or [])
    if not paths:
        raise typer.BadParameter("no file there that is not left out", param_hint="FOLDER")
    client, data_dir = _connect(url, token)
    with client:
        base = resolve_knowledge(client, knowledge, create=create)
        claims = FileLocks(place(data_dir, "files", client.url))
        with claims, hold(place(data_dir, "import", client.url, base.id), "import into this knowledge base"):
            policy = Policy(stuck_after=stuck_after, max_attempts=max_attempts)
            importer = Importer(client, base, folder, policy=policy, claims=claims, concurrency=concurrency)
            outcomes = run_import(importer, paths, quiet=json_output)
    if json_output:
        print_json([outcome.as_dict() for outcome in outcomes])
    else:
        summarize(outcomes)
    if importer.stop.is_set():
        sys.stderr.write(
            "Stopped. What was uploaded goes on in Open WebUI.\n→ Run the command again to go on.\n"
        )
        raise typer.Exit(130)
    if any(outcome.state == "failed" for outcome in outcomes):
        raise typer.Exit(1)


@app.command()
def doctor(
    env_file: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Open WebUI's environment, which it does not tell itself."
        ),
    ] = None,
    url: Url = None,
    token: Token = None,
    json_output: AsJson = False,
) -> None:
    """Check the settings of Open WebUI that bite, and print how to mend each. Needs an admin's key.

    Without --env-file this process's environment is looked at, which is Open WebUI's in its container.
    """
    import os

    from emberq.openwebui.doctor.checks import examine
    from emberq.openwebui.doctor.probes import gather, read_env_file

    client, _ = _connect(url, token)
    with client:
        require_admin(client)
        env = read_env_file(env_file) if env_file else dict(os.environ)
        facts = gather(client, env=env, env_is_known=env_file is not None, emberq_model=_emberq_model())
    findings = examine(facts)
    print_findings(findings, as_json=json_output)
    if any(finding.result == "fail" for finding in findings):
        raise typer.Exit(1)


@app.command()
def settings(
    emberq_url: Annotated[
        str | None, typer.Option(help="emberq's address, as Open WebUI reaches it [EMBERQ_URL].")
    ] = None,
    key: Annotated[str | None, typer.Option(help="The tenant's API key; a placeholder if left out.")] = None,
    json_output: AsJson = False,
) -> None:
    """Print the environment by which a stock Open WebUI uses emberq."""
    from emberq.config.environment import get_environment
    from emberq.config.runtime import RuntimeSettings
    from emberq.openwebui.doctor.recommended import KEY_PLACEHOLDER, as_env_file, recommended_settings

    defaults = RuntimeSettings()
    block = recommended_settings(
        emberq_url or get_environment().url,
        key or KEY_PLACEHOLDER,
        model=_emberq_model() or defaults.rag_embedding_model,
        reranking_model=_emberq_setting("rag_reranking_model") or defaults.rag_reranking_model,
    )
    if json_output:
        print_json(block)
    else:
        sys.stdout.write(as_env_file(block))


@app.command("external-knowledge")
def external_knowledge(
    tenant: Annotated[str, typer.Option(help="Whose collections.")] = "default",
    collection: Annotated[
        str, typer.Option(help="Only this collection; all of the tenant's if left out.")
    ] = "",
    apply: Annotated[
        bool, typer.Option("--apply/--print-sql", help="Make role and view, or print the SQL for a DBA.")
    ] = False,
    indexed: Annotated[
        bool,
        typer.Option(
            "--indexed",
            help="Let searches use the vector index. Only where the tenant's Open WebUI admin may see every"
            " tenant's texts.",
        ),
    ] = False,
    json_output: AsJson = False,
) -> None:
    """Make a tenant's collections searchable in Open WebUI: a read-only role and a view of the right shape.

    Example: emberq openwebui external-knowledge --collection handbook --apply
    """
    from emberq.cli.openwebui.external_knowledge import apply_view, print_sql, print_steps
    from emberq.openwebui.external_knowledge import KnowledgeView

    view = KnowledgeView(tenant, collection, is_indexed=indexed)
    if not apply:
        print_sql(view)
        return
    address, collections = apply_view(view)
    print_steps(view, address, collections, json_output=json_output)


def _emberq_model() -> str:
    return _emberq_setting("rag_embedding_model")


def _emberq_setting(key: str) -> str:
    """Return a setting of the tenant's; empty if emberq cannot be asked."""
    from emberq.cli.client import connect as connect_to_emberq
    from emberq.cli.failures import NotReachable, Problem
    from emberq.config.environment import get_environment

    if get_environment().api_key is None:
        return ""
    try:
        with connect_to_emberq() as emberq:
            return str(emberq.get(f"/settings/{key}").get("value") or "")
    except (Problem, NotReachable):
        return ""


def _connect(url: str | None, token: str | None) -> tuple[OpenWebUIClient, Path]:
    """Return a client and the data directory, and send logs to stderr."""
    from emberq.config.environment import get_environment
    from emberq.openwebui.sidecar.connect import connect
    from emberq.telemetry.logs import configure_logs

    environment = get_environment()
    configure_logs(log_format=environment.log_format, level=environment.log_level)
    return connect(environment, url=url, token=token), environment.data_dir


def require_admin(client: OpenWebUIClient) -> None:
    """Make sure that the key is an admin's."""
    from emberq.errors import Forbidden

    if client.whoami()[1] != "admin":
        raise Forbidden(
            "This needs the key of an Open WebUI admin.", hint="Set EMBERQ_OPENWEBUI_API_KEY to one."
        )


def _count(outcomes: Any) -> str:
    return ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in Counter(outcomes).items())
