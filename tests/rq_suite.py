"""Run RQ's own published test-suite against WarmWorker: `make rq-suite` (needs the network for one download).

The source distribution of the installed RQ is downloaded, its tests are copied into a temporary
directory, and `rq.Worker` is `emberq.WarmWorker` for them. They run against a Valkey of their own.
With `--baseline` they run against RQ's own Worker, which tells a fault of ours from one of theirs.

The module is the script and the pytest plugin that the script loads.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest

#: Runs first in every process of the suite, the command lines it starts included.
SITE_CUSTOMIZE = """
import os
import rq_suite

rq_suite.redirect(int(os.environ["RQ_SUITE_PORT"]))
if "RQ_SUITE_BASELINE" not in os.environ:
    rq_suite.replace_worker()
"""
#: What the suite needs beside RQ's own dependencies.
SUITE_NEEDS = ("psutil",)
#: The port that the suite expects Redis at; it is written into its files.
PORT_IN_SUITE = 6379
#: The names it has for this machine.
LOCAL_HOSTS = ("localhost", "127.0.0.1")

#: Tests that fail now and then, with RQ's own worker too, each with the reason; all others pass.
UNSTABLE = {
    "tests/test_worker.py::WorkerShutdownTestCase::test_work_horse_force_death": (
        "looks whether an orphan is gone that the machine's init reaps when it gets to it"
    ),
}


def redirect(port: int) -> None:
    """Connect to the suite's own Valkey wherever its tests expect Redis."""
    from redis.connection import Connection

    connect: Any = Connection._connect

    def _connect(connection: Connection) -> Any:
        if (connection.host, connection.port) in {(host, PORT_IN_SUITE) for host in LOCAL_HOSTS}:
            connection.port = port
        return connect(connection)

    Connection._connect = _connect  # type: ignore[method-assign]


def replace_worker() -> None:
    """Be the Worker of everything that is imported from now on."""
    import rq
    import rq.worker
    import rq.worker_pool

    import emberq

    cold, warm = rq.Worker, emberq.WarmWorker
    for module in (rq, rq.worker, rq.worker_pool):
        module.Worker = warm  # type: ignore[attr-defined]
    for function in (rq.worker_pool.WorkerPool.__init__, rq.worker_pool.run_worker):
        function.__defaults__ = tuple(
            warm if value is cold else value for value in function.__defaults__ or ()
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Do not take tests that fail now and then for a fault of ours."""
    for item in items:
        if item.nodeid in UNSTABLE:
            item.add_marker(pytest.mark.xfail(reason=UNSTABLE[item.nodeid], strict=False))


def main() -> int:
    """Download, unpack, run, and say how many passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--baseline", action="store_true", help="run RQ's own Worker")
    parser.add_argument("--sdist", type=Path, help="an RQ source distribution that is there already")
    options, pytest_arguments = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="rq-suite-") as name:
        work = Path(name)
        suite = _unpack(options.sdist or _download(work), work)
        # RQ's tests import this module as a plugin; only this process starts a server.
        from emberq.testing.valkey import ValkeyServer

        with ValkeyServer(work / "valkey", options={"databases": "32"}) as server:
            return _run(suite, server.port, pytest_arguments or ["tests"], baseline=options.baseline)


def _download(work: Path) -> Path:
    version = importlib.metadata.version("rq")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run(
        [*pip, "download", "--no-binary", "rq", "--no-deps", "--dest", work, f"rq=={version}"], check=True
    )
    missing = [need for need in SUITE_NEEDS if importlib.util.find_spec(need) is None]
    if missing:
        subprocess.run([*pip, "install", "--target", work / "needs", *missing], check=True)
    return next(work.glob("rq-*.tar.gz"))


def _unpack(sdist: Path, work: Path) -> Path:
    suite = work / "suite"
    with tarfile.open(sdist) as archive:
        archive.extractall(work / "source", filter="data")
    [source] = (work / "source").iterdir()
    # Without RQ's package beside them the tests import the installed one.
    shutil.copytree(source / "tests", suite / "tests")
    (suite / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow\n    ssl_test\n")
    (suite / "sitecustomize.py").write_text(SITE_CUSTOMIZE)
    return suite


def _run(suite: Path, port: int, arguments: list[str], *, baseline: bool) -> int:
    paths = [str(suite), str(Path(__file__).parent), str(suite.parent / "needs")]
    paths.append(os.environ.get("PYTHONPATH", ""))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "RQ_SUITE_PORT": str(port),
        "RUN_SLOW_TESTS_TOO": "1",
        **({"RQ_SUITE_BASELINE": "1"} if baseline else {}),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "rq_suite", "-p", "no:randomly"]
    command += ["-p", "no:cacheprovider", "--tb=short", *arguments]
    return subprocess.run(command, cwd=suite, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
