from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

import emberq
from emberq.embedded import Engines, cluster, launch
from emberq.embedded.passwords import PASSWORDS_FILE, Passwords
from emberq.system.capabilities import may_search_everywhere
from emberq.system.processes import process_identity
from tests.harness.eventually import eventually
from tests.harness.process_table import alive, family_of
from tests.harness.processes import RunningProgram

_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(emberq.__file__).parents[1])}

_OWNER = """
import json, os, pathlib, sys
from emberq.embedded import Engines
from emberq.errors import EmberqError
engines = Engines(sys.argv[1], database_url=None, redis_url=None)
try:
    engines.start()
except EmberqError as exc:
    print(json.dumps({**exc.as_dict(), "uid": os.geteuid()}), flush=True)
    sys.exit(1)
if sys.argv[2] == "fork":
    child = os.fork()
    if not child:
        engines.ensure()
        engines.stop()
        os._exit(0)
    os.waitpid(child, 0)
print(json.dumps({
    "uid": os.geteuid(), "pids": [engines._postgres.pid, engines._valkey.pid], "dead": engines.check(),
    "traces": sorted(path.name for path in pathlib.Path(sys.argv[1]).glob("*.pid")),
    "database": engines.database_url, "redis": engines.redis_admin_url,
}), flush=True)
sys.stdin.read()
engines.stop()
"""

_NOBODY = 65534


def _told(owner: RunningProgram) -> dict[str, Any]:
    """Return what the owner says of its engines, or of why there are none."""
    told: dict[str, Any] = json.loads(owner.wait_for_print(r"^\{.*\}$")[0])
    return told


def _insert(told: dict[str, Any]) -> None:
    with psycopg.connect(told["database"].replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    with redis.Redis.from_url(told["redis"]) as client:
        client.set("kept", "7")


def _assert_kept(running: Engines) -> None:
    with psycopg.connect(running.database_url.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT n FROM kept").fetchall() == [(7,)]
    with redis.Redis.from_url(running.redis_admin_url) as client:
        assert client.get("kept") == b"7"


def _owner(data_dir: Path, *wrapper: str, mode: str = "stay", program: str = _OWNER) -> RunningProgram:
    """Start a process that starts both engines, and stops them when its input ends."""
    return RunningProgram(
        [*wrapper, sys.executable, "-c", program, str(data_dir), mode],
        log=data_dir.with_name(f"{data_dir.name}.{uuid.uuid4().hex[:6]}.log"),
        environment=_ENVIRONMENT,
        has_input=True,
    )


def test_engines_end_by_themselves_when_their_owner_is_killed_and_keep_their_data(tmp_path: Path) -> None:
    with _owner(tmp_path) as owner:
        told = _told(owner)
        _insert(told)
        owner.kill()
        eventually(lambda: not any(process_identity(pid) for pid in told["pids"]))
    with Engines(tmp_path, database_url=None, redis_url=None) as running:
        _assert_kept(running)


def test_data_survives_the_kill_of_owner_and_engines_at_once(tmp_path: Path) -> None:
    with _owner(tmp_path) as owner:
        told = _told(owner)
        _insert(told)
        for pid in (*told["pids"], owner.pid):
            os.kill(pid, signal.SIGKILL)
    with Engines(tmp_path, database_url=None, redis_url=None) as running:
        _assert_kept(running)


def test_an_engine_left_behind_is_stopped_before_a_new_one_starts(tmp_path: Path) -> None:
    # The owner's death goes unnoticed, as on a system without PR_SET_PDEATHSIG: signal 0 is none.
    deaf = _OWNER.replace(
        "engines = Engines(",
        "from emberq.embedded.process import EngineProcess\n"
        "plan = EngineProcess._plan\n"
        "EngineProcess._plan = lambda *a, **k: {**plan(*a, **k), 'death_signal': 0}\n"
        "engines = Engines(",
    )
    with _owner(tmp_path, program=deaf) as owner:
        told = _told(owner)
        owner.kill()
        _insert(told)
        assert all(process_identity(pid) for pid in told["pids"])
        with Engines(tmp_path, database_url=None, redis_url=None) as running:
            assert not any(process_identity(pid) for pid in told["pids"])
            _assert_kept(running)


def test_processes_of_a_killed_server_that_stand_still_are_ended_by_the_next_start(tmp_path: Path) -> None:
    with _owner(tmp_path) as owner:
        told = _told(owner)
        _insert(told)
        server = family_of(told["pids"][0])
        for pid in server:
            os.kill(pid, signal.SIGSTOP)
        os.kill(told["pids"][0], signal.SIGKILL)
        owner.kill()
        eventually(lambda: not any(process_identity(pid) for pid in told["pids"]))
        assert alive(server)
        with Engines(tmp_path, database_url=None, redis_url=None) as running:
            assert not alive(server)
            _assert_kept(running)


def test_a_kill_during_initdb_is_recovered_from_at_the_next_start(tmp_path: Path) -> None:
    root = tmp_path / "postgres"
    with _owner(tmp_path) as owner:
        eventually(lambda: any(root.glob("data.new-*/PG_VERSION")))
        owner.kill()
    assert list(root.glob("data.new-*"))
    assert not (root / "data").exists()
    with Engines(tmp_path, database_url=None, redis_url=None) as running:
        assert running.check() == ()
        assert [path.name for path in root.iterdir()] == ["data"]


def test_a_kill_between_initdb_and_the_databases_making_is_recovered_from(tmp_path: Path) -> None:
    with _owner(tmp_path) as owner:
        eventually((tmp_path / "postgres" / "data").exists)
        owner.kill()
    with Engines(tmp_path, database_url=None, redis_url=None) as running:
        _insert({"database": running.database_url, "redis": running.redis_admin_url})
        _assert_kept(running)


def test_the_lock_of_a_postgres_that_is_a_zombie_is_removed(tmp_path: Path) -> None:
    with Engines(tmp_path, database_url=None, redis_url=None) as running:
        _insert({"database": running.database_url, "redis": running.redis_admin_url})
    # The first statement in single-user mode meets the lock; a changed password makes it run again.
    file = tmp_path / PASSWORDS_FILE
    Passwords(Passwords.new().by_role).write(file)
    cluster_directory = tmp_path / "postgres" / "data"
    # PostgreSQL takes the pid of another user's process for a stale one.
    zombie = subprocess.Popen(["/bin/true"], user=cluster_directory.stat().st_uid)
    try:
        eventually(lambda: process_identity(zombie.pid) is None)
        lock = cluster_directory / "postmaster.pid"
        lock.write_text(f"-{zombie.pid}\n{cluster_directory}\n0\n5432\n\n\n0 0\n")
        with Engines(tmp_path, database_url=None, redis_url=None) as running:
            _assert_kept(running)
    finally:
        zombie.wait()


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with _owner(tmp_path) as owner:
        told = _told(owner)
        with _owner(tmp_path) as second:
            refused = _told(second)
        assert refused["code"] == "invalid_request"
        assert f"pid {owner.pid}" in refused["message"]
        assert all(process_identity(pid) for pid in told["pids"])


def test_a_fork_of_the_owner_cannot_stop_or_restart_its_engines(tmp_path: Path) -> None:
    with _owner(tmp_path, mode="fork") as owner:
        told = _told(owner)
        assert told["dead"] == []
        assert told["traces"] == ["postgres.pid", "valkey.pid"]
        _insert(told)


def test_an_ordinary_user_runs_both_engines(tmp_path: Path) -> None:
    with _as_nobody() as (home, wrapper), _owner(home / "data", *wrapper) as owner:
        told = _told(owner)
        assert told.get("uid") == _NOBODY, told
        for pid in told["pids"]:
            assert Path(f"/proc/{pid}").stat().st_uid == _NOBODY
        _insert(told)
        owner.write("")
        assert owner.wait() == 0
        assert not any(process_identity(pid) for pid in told["pids"])


def test_root_without_the_capability_is_told_what_the_account_cannot_reach(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with _owner(private / "data", *_root_without_capability()) as owner:
        refused = _told(owner)
    assert refused["code"] == "database_unavailable"
    assert "cannot reach" in refused["message"]
    assert "CAP_DAC_READ_SEARCH" in refused["hint"]


def test_root_without_the_capability_starts_postgres_where_its_account_may_go() -> None:
    wrapper = _root_without_capability()
    if not _reachable_by_others(cluster.binary("postgres")):
        pytest.skip("the Python environment lies in a private directory")
    with tempfile.TemporaryDirectory(prefix="eq") as directory:
        Path(directory).chmod(0o711)
        with _owner(Path(directory) / "data", *wrapper) as owner:
            told = _told(owner)
            assert "pids" in told, told
            _insert(told)
            owner.write("")
            assert owner.wait() == 0


@pytest.mark.parametrize("private", [False, True])
def test_the_account_gets_the_capability_only_where_it_needs_it(private: bool, tmp_path: Path) -> None:
    if os.geteuid() != 0 or not may_search_everywhere():
        pytest.skip("only root with its full rights can pass on a capability")
    tmp_path.chmod(0o700)
    needs = [str(tmp_path) if private else "/usr"]
    shown = _run_launcher(needs, "/bin/cat", "/proc/self/status").stdout
    fields = dict(line.split(":\t", 1) for line in shown.splitlines())
    held = {int(fields[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")}
    assert held == ({1 << 2} if private else {0})
    assert set(fields["Uid"].split()) == {str(_NOBODY)}
    assert not fields["Groups"].strip()


def test_the_launcher_gives_up_when_its_owner_has_already_ended() -> None:
    done = _run_launcher([], "/bin/echo", "started", parent=1, account=None)
    assert done.returncode == 1
    assert "started" not in done.stdout


def test_the_identity_of_a_process_is_its_own_and_ends_with_it() -> None:
    with subprocess.Popen(["sleep", "60"]) as one, subprocess.Popen(["sleep", "60"]) as two:
        identity = process_identity(one.pid)
        assert identity
        assert identity == process_identity(one.pid)
        one.kill()
        two.kill()
        eventually(lambda: process_identity(one.pid) is None)


def _run_launcher(
    needs: list[str],
    *command: str,
    parent: int | None = None,
    account: tuple[int, int] | None = (_NOBODY, _NOBODY),
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_launcher(needs, parent=parent, account=account), *command],
        capture_output=True,
        text=True,
        check=False,
        extra_groups=[1] if os.geteuid() == 0 else None,
    )


def _launcher(needs: list[str], *, parent: int | None, account: tuple[int, int] | None) -> list[str]:
    plan: launch.LaunchPlan = {
        "parent": os.getpid() if parent is None else parent,
        "death_signal": signal.SIGKILL,
        "pid_file": "",
        "account": account,
        "needs": needs,
    }
    return [sys.executable, "-I", "-S", launch.__file__, json.dumps(plan)]


@contextlib.contextmanager
def _as_nobody() -> Iterator[tuple[Path, list[str]]]:
    if os.geteuid() != 0:
        pytest.skip("this is what every other test shows when it runs as an ordinary user")
    if not may_search_everywhere() and not _reachable_by_others(Path(sys.executable)):
        pytest.skip("the Python environment lies in a private directory")
    with tempfile.TemporaryDirectory(prefix="eq") as directory:
        os.chown(directory, _NOBODY, _NOBODY)
        yield Path(directory), [*_launcher([sys.executable], parent=None, account=(_NOBODY, _NOBODY))]


def _root_without_capability() -> list[str]:
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("needs root and setpriv")
    return [setpriv, "--bounding-set", "-dac_read_search"]


def _reachable_by_others(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)
