"""emberq in what a hardened container gives it: an account without rights, and a root that is read-only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from emberq.models.files import models_dir
from tests.harness.eventually import eventually, scaled
from tests.harness.paths import EMBERQ, ROOT
from tests.harness.processes import RunningProgram

CONTAINER = ROOT / "tests" / "harness" / "container.sh"
#: `nobody`, which PostgreSQL needs to find by its number, and a number without an account.
NOBODY, NAMELESS = 65534, 64321


def _can_contain() -> bool:
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"):
        return False
    return subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not _can_contain(), reason="only root may make mount namespaces, on Linux")


def start(folder: Path, uid: int, *arguments: str) -> RunningProgram:
    """Run emberq in a root of its own below the folder."""
    (folder / "root").mkdir()
    (folder / "data").mkdir()
    os.chown(folder / "data", uid, uid)
    shown = {ROOT, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
    outer = [path for path in shown if not any(other in path.parents for other in shown)]
    container: list[str | Path] = [
        CONTAINER,
        folder / "root",
        str(uid),
        folder / "data",
        models_dir(),
        *outer,
    ]
    command = ["unshare", "--mount", *container, "--", EMBERQ, *arguments]
    return RunningProgram(command, log=folder / "log", printed=folder / "out")


def test_everything_runs_without_rights_on_a_read_only_root(tmp_path: Path) -> None:
    with start(tmp_path, NOBODY, "up", "--port", "0", "-n", "1") as program:
        url = program.wait_for_print(r"ready at (http://[\d.:]+)\s", seconds=scaled(300.0))[1]
        program.wait_for_print(r"API key is in \S+;")
        key = (tmp_path / "data" / "first-api-key").read_text().strip()
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=scaled(60.0)) as client:
            client.post("/collections", json={"name": "docs"}).raise_for_status()
            files = {"file": ("pumps.txt", b"The pump has a valve.", "text/plain")}
            job = client.post("/collections/docs/files", files=files).raise_for_status().json()["job"]
            eventually(lambda: client.get(f"/jobs/{job['id']}").json()["state"] == "completed")
            found = client.post("/collections/docs/search", json={"query": "valve"}).raise_for_status().json()
        assert found["results"][0]["text"] == "The pump has a valve."
        assert _rights(program) == {(NOBODY, "0000000000000000", "1")}


def test_a_worker_runs_under_a_number_without_an_account(tmp_path: Path) -> None:
    with start(tmp_path, NAMELESS, "worker", "-n", "1", "some_queue") as program:
        program.wait_for_print(r"1 workers are ready", seconds=scaled(120.0))
        assert _rights(program) == {(NAMELESS, "0000000000000000", "1")}


def _rights(program: RunningProgram) -> set[tuple[int, str, str]]:
    """Return the user, the capabilities and no_new_privs of the program and all that it started."""
    found = set()
    for pid in (program.pid, *program.family()):
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        found.add((int(status["Uid"].split("\t")[1]), status["CapEff"].strip(), status["NoNewPrivs"].strip()))
    return found
