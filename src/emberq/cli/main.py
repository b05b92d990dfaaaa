"""The command line: a Typer application. Each command imports its modules when it runs, to start fast."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated, NoReturn

import typer

from emberq.cli.commands import audit, collections, config, files, ingest, jobs, keys, models, search, status
from emberq.cli.openwebui import commands

app = typer.Typer(
    name="emberq",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(ingest.ingest)
app.command()(ingest.sync)
app.command()(search.search)
app.command()(status.status)
app.command()(status.doctor)
app.command()(audit.audit)
app.add_typer(jobs.app, name="jobs")
app.add_typer(files.app, name="files")
app.add_typer(collections.app, name="collections")
app.add_typer(config.app, name="config")
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
app.add_typer(commands.app, name="openwebui")

DataDir = Annotated[Path | None, typer.Option(help="Directory of files and engines [EMBERQ_DATA_DIR].")]
Host = Annotated[str | None, typer.Option(help="Address the API listens on [EMBERQ_HOST].")]
Port = Annotated[int | None, typer.Option(help="Port the API listens on; 0 for any free port [EMBERQ_PORT].")]
Workers = Annotated[
    int | None, typer.Option("--workers", "-n", min=1, help="Number of warm workers [EMBERQ_WORKERS].")
]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"emberq {version('emberq')}")
        raise typer.Exit


@app.callback()
def _common(
    url: Annotated[str | None, typer.Option(help="Address of the API [EMBERQ_URL].")] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="File with the API key; without it, EMBERQ_API_KEY."),
    ] = None,
    version: Annotated[  # noqa: ARG001 - the callback prints it
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Warm Redis/RQ workers for document processing: upload files, search them.

    Start with `emberq up`, then `emberq ingest PATH -c NAME` and `emberq search "a question" -c NAME`.
    On another machine, set EMBERQ_URL and EMBERQ_API_KEY first.

    Exit codes: 0 success, 1 failure, 2 wrong usage, 3 emberq is not reachable.
    """
    if url is not None:
        os.environ["EMBERQ_URL"] = url
    if api_key_file is not None:
        os.environ["EMBERQ_API_KEY"] = api_key_file.read_text(encoding="utf-8").strip()


@app.command()
def up(data_dir: DataDir = None, host: Host = None, port: Port = None, workers: Workers = None) -> None:
    """Run PostgreSQL, Valkey, the API and workers on this machine.

    Ctrl-C lets running jobs finish, then stops. If EMBERQ_DATABASE_URL or EMBERQ_REDIS_URL is set, that
    server is used instead of an embedded one.
    """
    processes = _processes()
    _run(lambda: processes.up(data_dir=data_dir, host=host, port=port, workers=workers))


@app.command()
def serve(host: Host = None, port: Port = None) -> None:
    """Run only the API."""
    processes = _processes()
    _run(lambda: processes.serve(host=host, port=port))


@app.command()
def worker(
    queues: Annotated[
        list[str] | None, typer.Argument(help="RQ queues; the document queue if left out.")
    ] = None,
    workers: Workers = None,
    more_queues: Annotated[
        list[str] | None, typer.Option("--queues", help="RQ queues, separated by commas.")
    ] = None,
    preload: Annotated[
        list[str] | None,
        typer.Option(help="Module with resources to load before the fork; may be repeated."),
    ] = None,
    serializer: Annotated[
        str | None, typer.Option(help="RQ serializer of the queues, e.g. rq.serializers.JSONSerializer.")
    ] = None,
    with_scheduler: Annotated[
        bool, typer.Option("--with-scheduler", help="Also run RQ's scheduler for the queues.")
    ] = False,
    reload: Annotated[
        bool,
        typer.Option(
            "--reload", help="For development: restart workers when code below this directory changes."
        ),
    ] = False,
) -> None:
    """Run only workers, for documents or for your own RQ queues.

    Workers of your own queues need only Redis (EMBERQ_REDIS_URL). SIGTERM lets running jobs finish and
    stops. SIGHUP reloads the resources and replaces each worker once its successor is ready.

    Example: emberq worker -n 4 --preload my_package.resources my_queue
    """
    named = [*(queues or []), *(name for group in more_queues or [] for name in group.split(",") if name)]
    processes = _processes()
    _run(
        lambda: processes.worker(
            workers=workers,
            queues=named,
            preload=preload or [],
            serializer=serializer,
            with_scheduler=with_scheduler,
            reload=reload,
        )
    )


@app.command()
def migrate(
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Migrate the database schema to the newest version.

    `up`, `serve` and `worker` also do this when they start.
    """
    raise typer.Exit(_processes().migrate(json_output=json_output))


def _processes() -> ModuleType:
    # A process that forks must have one thread; numpy and tokenizers start thread pools at import.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from emberq.cli.commands import processes

    return processes


def _run(program: Callable[[], int]) -> NoReturn:
    from emberq.config.environment import SECRET_VARIABLES
    from emberq.system.environment_variable import forget_variables
    from emberq.system.pid1 import under_init

    raise typer.Exit(under_init(program, as_init=lambda: forget_variables(SECRET_VARIABLES)))


def main() -> None:
    """Run the command line and exit with its code."""
    from emberq.cli.client import NotReachable, Problem
    from emberq.errors import EmberqError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal's encoding does not have must not end a command.
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except EmberqError as exc:
        # Messages of this process may have several lines, such as the end of a server's log.
        _print_error(exc.message, exc.code, exc.hint, keep="\n")
        sys.exit(3 if exc.code == "openwebui_unavailable" else 1)
    except Problem as exc:
        _print_error(exc.message, exc.code, exc.hint)
        sys.exit(1)
    except NotReachable as exc:
        _print_error(exc.message, "", exc.hint)
        sys.exit(3)
    except ValueError as exc:
        from pydantic import ValidationError

        if isinstance(exc, UnicodeEncodeError):
            _print_error("An argument is not valid UTF-8.", "", "Check the encoding of your terminal.")
            sys.exit(2)
        if not isinstance(exc, ValidationError):
            raise
        for error in exc.errors():
            name = "EMBERQ_" + "_".join(str(part) for part in error["loc"]).upper()
            _print_error(
                f"{name}: {error['msg'].removeprefix('Value error, ')}",
                "",
                "Correct the environment variable, the option or .env.",
            )
        sys.exit(2)


def _print_error(message: str, code: str, hint: str, *, keep: str = "") -> None:
    from emberq.visible import visible

    shown = visible(message, keep=keep)
    sys.stderr.write(f"{shown} ({code})\n" if code else f"{shown}\n")
    if hint:
        sys.stderr.write(f"→ {visible(hint)}\n")
