"""The command that rotates the secret key, in the database and in the data directory."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict

from emberq.cli.commands.processes import open_database
from emberq.config.environment import get_environment
from emberq.store.admin.reseal import reseal
from emberq.store.admin.secrets import FileSealer, load_sealer
from emberq.store.database import Database


def rotate_secret(*, json_output: bool = False) -> int:
    """Seal the secret settings again with a new key; the one of the data directory, or the first of the list.

    Killed at any moment, it leaves settings that can be read, and goes on when it is run again.

    Returns:
        The exit code.
    """

    def show(done: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{done} sealed again")

    environment = get_environment()
    given = environment.secret_key
    sealer = load_sealer(given.get_secret_value() if given else None, environment.data_dir)
    own = sealer if isinstance(sealer, FileSealer) else None
    with open_database() as url, contextlib.closing(Database(url)) as database:
        if own is not None:
            own.begin_rotation()
        with database.system_transaction() as connection:
            done = reseal(connection, sealer, progress=show)
        if own is not None:
            own.end_rotation()
    if json_output:
        sys.stdout.write(json.dumps(asdict(done)) + "\n")
        return 0
    lost = f" {done.lost} old values cannot be read with any key and stay as they are." if done.lost else ""
    if own is not None:
        last = f"{own.path} has the new key."
    else:
        last = "All keys but the first one of EMBERQ_SECRET_KEY can be removed now, in every process."
    sealed = f"{done.settings} secret settings and {done.history} values of their history"
    sys.stdout.write(f"Sealed {sealed} again.{lost}\n{last}\n")
    return 0
