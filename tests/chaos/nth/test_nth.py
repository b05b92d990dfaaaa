"""Some rounds of the nth-operation loop; all of them: `python tests/chaos/nth/run.py`."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.eventually import scaled

SCRIPT = Path(__file__).with_name("run.py")
#: Rounds; each takes about half a second on a machine with nothing else to do.
ROUNDS = 24


@pytest.mark.slow
def test_a_file_survives_whatever_operation_of_its_life_is_broken(database_url: str, redis_url: str) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    done = subprocess.run(
        [
            *(sys.executable, str(SCRIPT), "--sample", str(ROUNDS), "--seed", str(seed)),
            *("--database-url", database_url, "--redis-url", redis_url),
            # Rounds that a busy machine has no time for are left out.
            *("--minutes", "1"),
        ],
        capture_output=True,
        text=True,
        timeout=scaled(500),
        check=False,
    )
    sys.stdout.write(f"seed {seed}\n{done.stdout}")
    assert done.returncode == 0, f"seed {seed}\n{done.stdout}\n{done.stderr[-4000:]}"
