"""Show the whole way in one go: start emberq, ingest the corpus, ask three questions, stop.

Run it with `make demo`. Everything lives in a temporary data directory and nothing is left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).parent
EMBERQ = str(Path(sys.executable).with_name("emberq"))
COLLECTION = "demo"
#: Seconds the whole stack may take to be ready.
START_SECONDS = 90


class Stack:
    """`emberq up` as a child process."""

    def __init__(self, data_dir: str, workers: int) -> None:
        self.process = subprocess.Popen(
            [EMBERQ, "up", "--data-dir", data_dir, "--port", "0", "--workers", str(workers)],
            stdout=subprocess.PIPE,
            stderr=(Path(data_dir) / "emberq.log").open("wb"),
            text=True,
        )
        self.url = ""
        self.key = ""
        self.log = Path(data_dir) / "emberq.log"

    def wait(self) -> None:
        """Read the address, and where the first key is, from what `up` prints."""
        timer = threading.Timer(START_SECONDS, self.process.kill)
        timer.start()
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.search(r"http://\S+", line):
                self.url = found[0]
            if found := re.search(r"API key is in (.+);", line):
                self.key = Path(found[1]).read_text().strip()
            if self.url and self.key:
                break
        timer.cancel()
        if not self.key:
            sys.exit(f"emberq did not start:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        """Stop as Ctrl-C does, and wait."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def run(stack: Stack, *arguments: str, capture: bool = False) -> str:
    """Run an `emberq` command against the stack."""
    environment = {**os.environ, "EMBERQ_URL": stack.url, "EMBERQ_API_KEY": stack.key}
    done = subprocess.run(
        [EMBERQ, *arguments],
        env=environment,
        text=True,
        check=False,
        stdout=subprocess.PIPE if capture else None,
    )
    if done.returncode:
        sys.exit(f"`emberq {' '.join(arguments)}` failed with exit code {done.returncode}")
    return done.stdout or ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    workers = parser.parse_args().workers
    questions = [q for q in json.loads((HERE / "questions.json").read_text()) if q.get("demo")][:3]
    timings: list[tuple[str, float]] = []
    clock = time.monotonic()

    def lap(what: str) -> None:
        nonlocal clock
        timings.append((what, time.monotonic() - clock))
        clock = time.monotonic()

    with tempfile.TemporaryDirectory(prefix="emberq-demo-") as data_dir:
        print(f"Starting PostgreSQL, Valkey, the API and {workers} warm workers ...", flush=True)
        stack = Stack(data_dir, workers)
        try:
            stack.wait()
            lap("start")
            run(stack, "ingest", str(HERE / "corpus"), "-c", COLLECTION, "--recursive")
            lap("ingest")
            answers = []
            for item in questions:
                found = run(
                    stack, "search", item["question"], "-c", COLLECTION, "-k", "3", "--json", capture=True
                )
                answers.append((item["question"], json.loads(found)["results"]))
            lap("search")
        finally:
            stack.stop()
        lap("stop")

    print()
    print("  ".join(f"{what} {seconds:.1f} s" for what, seconds in timings))
    for question, results in answers:
        print(f"\nQ: {question}")
        for result in results:
            page = f", page {result['page']}" if result["page"] is not None else ""
            text = " ".join(result["text"].split())
            print(f"   {result['score']:.4f}  {result['file']['name']}{page}")
            print(f"           {text[:150]}{'…' if len(text) > 150 else ''}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
