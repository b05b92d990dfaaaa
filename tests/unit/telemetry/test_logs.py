from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
from emberq.telemetry.logs import configure_logs, get_logger
import structlog
configure_logs(log_format="json")
structlog.contextvars.bind_contextvars(job="j1", tenant="acme")
log = get_logger("emberq.test")
log.info("stage_started", stage="embedding", api_key="sk-1", url="redis://user:hunter2@host/0",
         note="key eq_abcdefghijklmnopqrstuvwx was used")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def test_records_are_json_with_the_bound_job_and_without_secrets() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    first, second = (json.loads(line) for line in done.stderr.splitlines())
    assert (first["event"], first["job"], first["tenant"], first["stage"]) == (
        "stage_started",
        "j1",
        "acme",
        "embedding",
    )
    assert first["level"] == "info"
    for secret in ("sk-1", "hunter2", "abcdefghijklmnop"):
        assert secret not in done.stderr
    assert "redis://user:***@host/0" in first["url"]
    assert "ZeroDivisionError" in second["exception"]
