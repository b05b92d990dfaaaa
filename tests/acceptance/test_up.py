"""`emberq up` from outside: first start, stop, kill, second instance, ordinary user."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.harness.eventually import eventually
from tests.harness.paths import EMBERQ
from tests.harness.process_table import alive
from tests.harness.processes import RunningProgram, run_program
from tests.harness.stack import Stack


def test_the_first_key_is_written_once_and_a_stop_leaves_no_process(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack()
    assert "eq_" not in stack.printed
    family = stack.family()
    assert len(family) >= 6
    assert stack.stop() == 0
    assert alive(family) == []
    stack.start()
    assert "eq_" not in stack.printed
    with stack.http() as client:
        assert client.get("/api/v1/collections").status_code == 200


def test_titles_say_what_each_process_is(stack: Stack) -> None:
    up = psutil.Process(stack.pid)
    titles = {
        title for one in [up, *up.children(recursive=True)] if (title := " ".join(one.cmdline()).strip())
    }
    ours = {re.sub(r" \S+-\d+-\d+: .*", "", title) for title in titles if title.startswith("emberq:")}
    assert ours == {
        "emberq: supervisor",
        "emberq: preloader",
        "emberq: api",
        "emberq: worker",
        "emberq: horse",
        "emberq: reader",
    }
    others = {one for one in titles if not one.startswith("emberq:")}
    assert all("postgres" in one or "valkey" in one for one in others), others


def test_ctrl_c_in_a_terminal_stops_it_as_well(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack()
    family = stack.family()
    assert stack.stop(signal.SIGINT) == 0
    assert alive(family) == []


def test_after_kill_9_the_next_start_has_everything(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack()
    with stack.http() as client:
        client.post("/api/v1/collections", json={"name": "docs"}).raise_for_status()
        job = stack.upload(client, "a.txt", b"Pelicans carry fish in a pouch.").json()["job"]
        stack.wait(client, job["id"])
    family = stack.family()
    stack.kill()
    stack.start()
    eventually(lambda: not alive(family))
    with stack.http() as client:
        answer = client.post("/api/v1/collections/docs/search", json={"query": "birds with fish"}).json()
    assert "Pelicans" in answer["results"][0]["text"]


def test_a_second_instance_on_the_same_directory_is_refused(stack: Stack) -> None:
    done = run_program(EMBERQ, "up", "--data-dir", str(stack.data_dir), "--port", "0")
    assert done.returncode == 1
    assert str(stack.pid) in done.stderr
    assert "--data-dir" in done.stderr
    with stack.http() as client:
        assert client.get("/readyz").status_code == 200


def test_a_taken_port_is_told_at_once(stack: Stack, tmp_path: Path) -> None:
    port = stack.url.rsplit(":", 1)[1]
    done = run_program(EMBERQ, "up", "--data-dir", str(tmp_path / "other"), "--port", port)
    assert done.returncode == 1
    assert "--port" in done.stderr


@pytest.mark.skipif(
    os.getuid() != 0, reason="only root can become somebody else; others are ordinary already"
)
def test_it_works_as_an_ordinary_user(tmp_path: Path) -> None:
    nobody = 65534
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, nobody, nobody)
    models = Path(os.environ.get("EMBERQ_MODELS_DIR") or Path.home() / ".cache" / "emberq" / "models")
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    reachable = run_program(*become, "test", "-r", models, "-a", "-x", EMBERQ)
    program = (
        "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    if reachable.returncode:
        pytest.skip("the virtual environment or the model lies where an ordinary user cannot go")
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o001)
    command = [EMBERQ, "up", "--data-dir", str(home / "data"), "--port", "0", "-n", "1"]
    with RunningProgram(
        [sys.executable, "-c", program, *command],
        environment={**os.environ, "HOME": str(home), "EMBERQ_MODELS_DIR": str(models)},
        log=tmp_path / "log",
    ) as running:
        running.wait_for_print(r"API key is in \S+;")
