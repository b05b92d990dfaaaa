"""Schemathesis against an `emberq up`: `python -m tests.openapi --requests 10000`, or `make schemathesis`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.harness.stack import Stack
from tests.openapi.requests import Sender, fuzz, restore

_CANARY = "canary-of-the-other-tenant"


def main() -> int:
    """Run it, and print what came of it; 1 if any answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=15)
    options = parser.parse_args()
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="emberq-fuzz-") as home,
        Stack(Path(home) / "data").start() as stack,
    ):
        with stack.http() as admin:

            def key(tenant: str, *scopes: str) -> str:
                body = {"name": f"of {tenant}", "tenant": tenant, "scopes": scopes}
                return str(admin.post("/api/v1/keys", json=body).raise_for_status().json()["key"])

            with stack.http(key=key("other", "read", "write")) as other:
                collection = {"name": _CANARY, "metadata": {"a": _CANARY}}
                other.post("/api/v1/collections", json=collection).raise_for_status()
                stack.upload(other, f"{_CANARY}.txt", b"Terns.", _CANARY).raise_for_status()
            senders = [
                Sender("an admin", stack.key, has_workers=True),
                Sender("a reader", key("reader", "read"), foreign=[_CANARY], has_workers=True),
                Sender("a sender without a key", foreign=[_CANARY]),
            ]
            report = fuzz(
                stack.url,
                senders,
                requests=options.requests,
                number=options.seed,
                between=lambda: restore(admin),
            )
        crashes = [event for event in stack.events() if event.get("event") == "request_crashed"]
    print(*report.wrong, *crashes, sep="\n\n")
    statuses = ", ".join(f"{status}: {number}" for status, number in sorted(report.statuses.items()))
    print(f"{report.requests} requests in {time.monotonic() - began:.0f} s; {statuses}")
    print(f"{len(report.wrong)} wrong answers, {len(crashes)} crashes")
    return 1 if report.wrong or crashes else 0


if __name__ == "__main__":
    sys.exit(main())
