"""What other processes see of this one's secrets, tried in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import os, resource, subprocess, sys
from pathlib import Path
from emberq.system.environment_variable import forget_variables
from emberq.system.processes import forbid_dumps

environ = lambda: Path("/proc/self/environ").read_bytes()
assert b"canary-1" in environ() and b"canary-2" in environ()
forget_variables({"EMBERQ_SECRET_KEY", "EMBERQ_REDIS_URL"})
assert b"canary" not in environ(), environ()
assert b"OTHER=stays" in environ()
assert os.environ["OTHER"] == os.environ["EMBERQ_SECRET_KEY_2"] == "stays"
assert not [name for name in os.environ if name.upper() == "EMBERQ_REDIS_URL"]
child = subprocess.run(["env"], capture_output=True, check=True).stdout
assert b"canary" not in child and b"OTHER=stays" in child
forbid_dumps()
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
pid = os.fork()
if pid == 0:
    os.abort()
_, status = os.waitpid(pid, 0)
assert os.WIFSIGNALED(status) and not os.WCOREDUMP(status)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows the environment of a process")
def test_secrets_leave_the_environment_and_no_core_is_written(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "EMBERQ_SECRET_KEY": "canary-1",
        "emberq_redis_url": "redis://u:canary-2@host",
        "OTHER": "stays",
        "EMBERQ_SECRET_KEY_2": "stays",
    }
    subprocess.run(
        ["/bin/sh", "-c", 'ulimit -c unlimited 2>/dev/null; exec "$@"', "sh", sys.executable, "-c", _PROGRAM],
        env=environment,
        cwd=tmp_path,
        check=True,
    )
    assert list(tmp_path.iterdir()) == []
