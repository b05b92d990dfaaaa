"""EMBERQ_SANDBOX: what starts on a system that cannot confine readers fully, and who says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import without_landlock
from tests.harness.paths import EMBERQ
from tests.harness.processes import run_program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has Landlock")

#: Reads a file and prints its text.
READ = """
import sys
from pathlib import Path
from emberq.pipeline.sandbox.run import extract_sandboxed
print(extract_sandboxed(Path(sys.argv[1]), name="a.txt", timeout_seconds=60, memory_bytes=1 << 28).text)
"""


def run_without_landlock(
    *command: str | Path, data_dir: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EMBERQ_DATA_DIR": str(data_dir), **variables}
    return run_program(sys.executable, without_landlock.__file__, *command, environment=environment)


def test_auto_reads_files_and_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("Some words.")
    run = run_without_landlock(sys.executable, "-c", READ, tmp_path / "file", data_dir=tmp_path)
    assert "Some words." in run.stdout, run.stderr
    assert "sandbox_incomplete" in run.stdout + run.stderr
    assert "Landlock" in run.stdout + run.stderr


def test_require_starts_no_document_worker(database_url: str, redis_url: str, tmp_path: Path) -> None:
    run = run_without_landlock(
        *(EMBERQ, "worker", "-n", "1"),
        data_dir=tmp_path,
        EMBERQ_SANDBOX="require",
        EMBERQ_DATABASE_URL=database_url,
        EMBERQ_REDIS_URL=redis_url,
    )
    assert run.returncode == 1, run.stderr
    assert "EMBERQ_SANDBOX=require: this system lacks Landlock." in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(("setting", "result"), [("auto", "warning"), ("require", "fail")])
def test_doctor_says_it(setting: str, result: str, tmp_path: Path) -> None:
    run = run_without_landlock(EMBERQ, "doctor", "--json", data_dir=tmp_path, EMBERQ_SANDBOX=setting)
    found = next(one for one in json.loads(run.stdout) if one["name"] == "sandbox")
    assert found["result"] == result
    assert "without Landlock; there is seccomp" in found["detail"]
