"""`emberq openwebui …`: commands that run beside a stock Open WebUI and use its REST API."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from emberq.cli.openwebui.connect import connect_openwebui, read_emberq_setting, require_admin
from emberq.cli.output import AsJson, print_findings, print_json, print_table

app = typer.Typer(
    no_args_is_help=True, help="Rescue, import, check and connect beside a stock Open WebUI (0.12.4)."
)

Url = Annotated[str | None, typer.Option(help="Open WebUI's address [EMBERQ_OPENWEBUI_URL].")]
Token = Annotated[
    str | None,
    typer.Option(
        help="Open WebUI's API key or a session's token. EMBERQ_OPENWEBUI_API_KEY is safer: other users of"
        " this machine can see command lines.",
    ),
]
StuckAfter = Annotated[
    float,
    typer.Option(
        min=0,
        help="Seconds without a change after which a pending or processing file counts as stuck. Must be"
        " longer than your slowest file takes, or that file is processed twice.",
    ),
]
MaxAttempts = Annotated[int, typer.Option(min=1, help="How often a file is processed again.")]
Concurrency = Annotated[int, typer.Option(min=1, max=64, help="Files at a time.")]


@app.command()
def watch(
    once: Annotated[
        bool, typer.Option("--once", help="Process the files that are stuck now, then stop.")
    ] = False,
    interval: Annotated[float, typer.Option(min=1, help="Seconds between two checks.")] = 30.0,
    stuck_after: StuckAfter = 900.0,
    max_attempts: MaxAttempts = 5,
    concurrency: Concurrency = 2,
    forget: Annotated[
        bool, typer.Option("--forget", help="Reset the count of attempts of every file.")
    ] = False,
    url: Url = None,
    token: Token = None,
    json_output: AsJson = False,
) -> None:
    """Find files that Open WebUI left unfinished, and process them again.

    These are files that stay pending or processing, as after a kill of the server, and files that failed
    because emberq or another server could not be reached. Needs an admin's key.
    """
    from emberq.openwebui.sidecar.attempts import AttemptsFile, state_path
    from emberq.openwebui.sidecar.file_locks import FileLocks, program_lock
    from emberq.openwebui.sidecar.policy import Policy
    from emberq.openwebui.sidecar.watch import Watcher

    client, data_dir = connect_openwebui(url, token)
    path = state_path(data_dir, "watch", client.url)
    with (
        client,
        program_lock(path, "watcher"),
        FileLocks(state_path(data_dir, "files", client.url)) as locks,
    ):
        require_admin(client)
        attempts = AttemptsFile(path)
        if forget:
            attempts.clear()
        policy = Policy(stuck_after=stuck_after, max_attempts=max_attempts)
        watcher = Watcher(client, attempts, policy, locks=locks, concurrency=concurrency)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: watcher.stop.set())
        if not once:
            watcher.watch(interval)
            return
        reports = watcher.run_once()
    if json_output:
        print_json([report.as_dict() for report in reports])
    else:
        rows = (
            (report.outcome, report.attempts, report.name, report.file_id, report.reason)
            for report in reports
        )
        print_table(("Outcome", "Attempts", "File", "Id", "Why"), rows, empty="Nothing is stuck.")
        if reports:
            sys.stdout.write(f"{_count(report.outcome for report in reports)}\n")
    if any(report.outcome in ("failed", "gave_up") for report in reports):
        raise typer.Exit(1)


@app.command("import")
def import_folder(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Folder; its subfolders are included.")
    ],
    knowledge: Annotated[str, typer.Option(help="Name or id of the knowledge base.")],
    create: Annotated[
        bool, typer.Option("--create", help="Create the knowledge base if it does not exist.")
    ] = False,
    concurrency: Concurrency = 4,
    include: Annotated[
        list[str] | None,
        typer.Option(help="Only files whose path or name matches, e.g. '*.pdf'; repeatable."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="No files whose path or name matches; repeatable.")
    ] = None,
    stuck_after: StuckAfter = 900.0,
    max_attempts: MaxAttempts = 5,
    url: Url = None,
    token: Token = None,
    json_output: AsJson = False,
) -> None:
    """Import a folder into a knowledge base of Open WebUI, each file exactly once.

    After a stop or a kill, run it again to continue. A changed file replaces its older version. Hidden
    files are left out.

    Example: emberq openwebui import ~/handbook --knowledge Handbook --create
    """
    from emberq.cli.openwebui.importing import find_knowledge, find_paths, run_import, summarize
    from emberq.openwebui.sidecar.attempts import state_path
    from emberq.openwebui.sidecar.file_locks import FileLocks, program_lock
    from emberq.openwebui.sidecar.importer import Importer
    from emberq.openwebui.sidecar.policy import Policy

    paths, refused = find_paths(folder, include=include or [], exclude=exclude or [])
    if not paths and not refused:
        raise typer.BadParameter("no file is left to import", param_hint="FOLDER")
    client, data_dir = connect_openwebui(url, token)
    with client:
        target = find_knowledge(client, knowledge, create=create)
        path = state_path(data_dir, "import", client.url, target.id)
        with (
            program_lock(path, "import into this knowledge base"),
            FileLocks(state_path(data_dir, "files", client.url)) as locks,
        ):
            policy = Policy(stuck_after=stuck_after, max_attempts=max_attempts)
            importer = Importer(client, target, folder, policy=policy, locks=locks, concurrency=concurrency)
            results = run_import(importer, paths, quiet=json_output) + refused
    if json_output:
        print_json([result.as_dict() for result in results])
    else:
        summarize(results)
    if importer.stop.is_set():
        sys.stderr.write(
            "Stopped. Open WebUI finishes what was uploaded.\n→ Run the command again to continue.\n"
        )
        raise typer.Exit(130)
    if any(result.state == "failed" for result in results):
        raise typer.Exit(1)


@app.command()
def doctor(
    env_file: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Open WebUI's environment, which its API does not show."
        ),
    ] = None,
    url: Url = None,
    token: Token = None,
    json_output: AsJson = False,
) -> None:
    """Check Open WebUI's settings, and print a fix for each problem. Needs an admin's key.

    Without --env-file, this process's environment is checked; in Open WebUI's container that is the same.
    """
    import os

    from emberq.openwebui.doctor.checks import examine
    from emberq.openwebui.doctor.probes import gather, read_env_file

    client, _ = connect_openwebui(url, token)
    with client:
        require_admin(client)
        env = read_env_file(env_file) if env_file else dict(os.environ)
        model = read_emberq_setting("rag_embedding_model")
        facts = gather(client, env=env, env_is_known=env_file is not None, emberq_model=model)
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
    """Print the environment with which a stock Open WebUI uses emberq."""
    from emberq.config.environment import get_environment
    from emberq.config.runtime import RuntimeSettings
    from emberq.openwebui.doctor.recommended import KEY_PLACEHOLDER, as_env_file, recommended_settings

    defaults = RuntimeSettings()
    environment = recommended_settings(
        emberq_url or get_environment().url,
        key or KEY_PLACEHOLDER,
        model=read_emberq_setting("rag_embedding_model") or defaults.rag_embedding_model,
        reranking_model=read_emberq_setting("rag_reranking_model") or defaults.rag_reranking_model,
    )
    if json_output:
        print_json(environment)
    else:
        sys.stdout.write(as_env_file(environment))


@app.command("external-knowledge")
def external_knowledge(
    tenant: Annotated[str, typer.Option(help="The tenant.")] = "default",
    collection: Annotated[
        str, typer.Option(help="Only this collection; all of the tenant's if left out.")
    ] = "",
    apply: Annotated[
        bool,
        typer.Option("--apply/--print-sql", help="Create the role and the view, or print the SQL for a DBA."),
    ] = False,
    indexed: Annotated[
        bool,
        typer.Option(
            "--indexed",
            help="Let searches use the vector index. Only if the tenant's Open WebUI admin may see every"
            " tenant's texts.",
        ),
    ] = False,
    json_output: AsJson = False,
) -> None:
    """Make a tenant's collections searchable in Open WebUI, by a read-only role and a view.

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


def _count(outcomes: Iterable[str]) -> str:
    return ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in Counter(outcomes).items())
