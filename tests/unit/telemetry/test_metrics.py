from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path


def run(code: str, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_is_imported_or_counted_until_metrics_are_on() -> None:
    run(
        """
        import sys
        from emberq.telemetry import metrics
        from emberq.telemetry.exposition import collect_host
        metrics.count_job(state="completed")
        metrics.count_retry(operation="o", outcome="retried")
        metrics.sample()
        assert not metrics.is_enabled()
        assert collect_host() == []
        assert "prometheus_client" not in sys.modules
        """
    )


def test_one_process_counts_in_memory() -> None:
    text = run(
        """
        import sys
        from emberq.telemetry import metrics
        from emberq.telemetry.exposition import render_host
        metrics.enable()
        metrics.observe_request(route="/x", method="GET", status=200, seconds=0.2)
        sys.stdout.buffer.write(render_host())
        """
    )
    assert 'emberq_http_request_duration_seconds_count{method="GET",route="/x",status="200"} 1.0' in text


def test_a_program_that_imported_the_library_first_is_switched_over(tmp_path: Path) -> None:
    text = run(
        """
        import os, sys
        import prometheus_client
        from pathlib import Path
        from emberq.telemetry import metrics
        from emberq.telemetry.exposition import render_host
        metrics.enable(Path(sys.argv[1]))
        for _ in range(3):
            if os.fork() == 0:
                metrics.open_own_files()
                metrics.count_job(state="failed", error_code="job_timeout")
                os._exit(0)
            os.wait()
        sys.stdout.buffer.write(render_host())
        """,
        str(tmp_path),
    )
    assert 'emberq_jobs_total{error_code="job_timeout",state="failed"} 3.0' in text


def test_a_child_opens_its_files_before_its_first_job_and_no_more_in_it(tmp_path: Path) -> None:
    run(
        """
        import os, sys
        from pathlib import Path
        from emberq.telemetry import metrics
        metrics.enable(Path(sys.argv[1]))
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                metrics.open_own_files()
                before = os.listdir("/proc/self/fd")
                metrics.count_rq_job(status="finished", error_code="", seconds=1)
                metrics.observe_stage("embedding", seconds=1)
                metrics.set_horse_memory(private_bytes=1)
                metrics.set_resource_load_time("model", seconds=1)
                metrics.count_recovery("horse_killed", seconds=0.1)
                code = 0 if os.listdir("/proc/self/fd") == before else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        """,
        str(tmp_path),
    )


def test_a_job_that_counts_itself_is_not_counted_twice() -> None:
    text = run(
        """
        import sys
        from emberq.telemetry import metrics
        from emberq.telemetry.exposition import render_host
        metrics.enable()
        metrics.leave_count_to_job()
        metrics.observe_attempt(seconds=1)
        metrics.count_rq_job(status="finished", error_code="internal_error", seconds=1)
        metrics.count_rq_job(status="stopped", error_code="cancelled", seconds=1)
        sys.stdout.buffer.write(render_host())
        """
    )
    assert 'emberq_jobs_total{error_code="cancelled",state="cancelled"} 1.0' in text
    assert text.count("\nemberq_jobs_total{") == 1
    assert "emberq_job_duration_seconds_count 2.0" in text


def test_the_command_lines_help_needs_no_metrics() -> None:
    code = """
        import sys
        sys.argv = ["emberq", "--help"]
        from emberq.cli.main import main
        try:
            main()
        except SystemExit:
            pass
        assert "prometheus_client" not in sys.modules
    """
    run(code)
