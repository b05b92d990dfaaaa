"""`emberq up` from outside: first start, stop, kill, second instance, ordinary user."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.acceptance.conftest import Stack
from tests.harness.paths import EMBERQ
from tests.harness.process_table import alive, family_of


def wait_until_gone(pids: list[int], seconds: float) -> list[int]:
    deadline = time.monotonic() + seconds
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return alive(pids)


def test_the_first_key_is_printed_once_and_a_stop_leaves_no_process(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack()
    assert any("eq_" in line for line in stack.printed)
    family = family_of(stack.pid)
    assert len(family) >= 6
    assert stack.stop() == 0
    assert wait_until_gone(family, 5) == []
    stack.start()
    assert not any("eq_" in line for line in stack.printed)
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
    }
    others = {one for one in titles if not one.startswith("emberq:")}
    assert all("postgres" in one or "valkey" in one for one in others), others


def test_ctrl_c_in_a_terminal_stops_it_as_well(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack()
    family = family_of(stack.pid)
    assert stack.stop(signal.SIGINT) == 0
    assert wait_until_gone(family, 5) == []


def test_after_kill_9_the_next_start_has_everything(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack()
    with stack.http() as client:
        client.post("/api/v1/collections", json={"name": "docs"}).raise_for_status()
        job = stack.upload(client, "a.txt", b"Pelicans carry fish in a pouch.").json()["job"]
        stack.wait(client, job["id"])
    family = family_of(stack.pid)
    stack.stop(signal.SIGKILL)
    stack.start()
    assert wait_until_gone(family, 10) == []
    with stack.http() as client:
        answer = client.post("/api/v1/collections/docs/search", json={"query": "birds with fish"}).json()
    assert "Pelicans" in answer["results"][0]["text"]


def test_a_second_instance_on_the_same_directory_is_refused(stack: Stack) -> None:
    done = subprocess.run(
        [EMBERQ, "up", "--data-dir", str(stack.data_dir), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert str(stack.pid) in done.stderr
    assert "--data-dir" in done.stderr
    with stack.http() as client:
        assert client.get("/readyz").status_code == 200


def test_a_taken_port_is_told_at_once(stack: Stack, tmp_path: Path) -> None:
    port = stack.url.rsplit(":", 1)[1]
    done = subprocess.run(
        [EMBERQ, "up", "--data-dir", str(tmp_path / "other"), "--port", port],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
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
    reachable = subprocess.run(
        [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "test",
            "-r",
            str(models),
            "-a",
            "-x",
            EMBERQ,
        ],
        check=False,
    )
    program = (
        "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    if reachable.returncode:
        pytest.skip("the virtual environment or the model lies where an ordinary user cannot go")
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o001)
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(
        ["python3", "-c", program, EMBERQ, "up", "--data-dir", str(home / "data"), "--port", "0", "-n", "1"],
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env={**os.environ, "HOME": str(home), "EMBERQ_MODELS_DIR": str(models)},
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(2)]
    process.terminate()
    process.wait(timeout=60)
    process.stdout.close()
    log.close()
    assert "eq_" in "".join(lines), (tmp_path / "log").read_text()[-3000:]
