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


LIBRARY = """
import logging, sys
from emberq.telemetry.logs import configure_logs
import structlog
configure_logs(log_format=sys.argv[1])
structlog.contextvars.bind_contextvars(job="j1", tenant="acme", stage="embedding")
fields = {"queue": "q", "token": "t0ken"}
logging.getLogger("rq.worker").warning("lost %s", "redis://u:hunter2@h/0", extra=fields)
try:
    raise ValueError("password=hunter2 is wrong")
except ValueError:
    logging.getLogger("some.library").exception("it failed")
"""


def run(program: str, *args: str) -> str:
    done = subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True, check=True)
    return done.stderr


def test_records_of_libraries_carry_the_same_fields() -> None:
    first, second = (json.loads(line) for line in run(LIBRARY, "json").splitlines())
    assert first["event"] == "lost redis://u:***@h/0"
    assert (first["job"], first["tenant"], first["stage"], first["queue"]) == ("j1", "acme", "embedding", "q")
    assert (first["logger"], first["level"], first["token"]) == ("rq.worker", "warning", "***")
    assert "ValueError: password=***" in second["exception"]


def test_the_console_shows_tracebacks_without_secrets() -> None:
    text = run(LIBRARY, "console")
    assert "ValueError" in text
    assert "job=j1" in text
    assert "hunter2" not in text
    assert "t0ken" not in text


UNCONFIGURED = """
import os
os.environ["EMBERQ_LOG_FORMAT"] = "json"
import logging
from rq.logutils import setup_loghandlers
setup_loghandlers("INFO", name="rq.worker")
from emberq.telemetry.logs import ensure_logs, get_logger
ensure_logs()
logging.getLogger("rq.worker").error("job failed")
get_logger("emberq").info("horse_discarded", reason="killed")
"""


def test_a_worker_of_rqs_command_writes_one_form_where_one_is_asked_for() -> None:
    events = [json.loads(line)["event"] for line in run(UNCONFIGURED).splitlines()]
    assert events == ["job failed", "horse_discarded"]
