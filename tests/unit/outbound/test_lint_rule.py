"""The lint rule that forbids requests to other servers outside of the outbound door."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest

from tests.harness.paths import ROOT

#: Files of the package that may open connections to other servers, and why, in `pyproject.toml`.
EXEMPT = {"src/emberq/cli/client.py", "src/emberq/outbound/client.py", "src/emberq/testing/**"}


def lint(code: str, path: str = "src/emberq/models/sources.py") -> list[str]:
    """Return the statements of a file in which ruff finds a banned name."""
    command = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--output-format", "concise"]
    done = subprocess.run(
        [*command, "--stdin-filename", path, "-"],
        input=code,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode in (0, 1), done.stderr
    lines = code.splitlines()
    found = re.findall(r"^\S+?:(\d+):\d+: TID251", done.stdout, re.MULTILINE)
    return [lines[int(number) - 1] for number in found]


WAYS_OUT = [
    "import httpcore",
    "import http.client",
    "from http.client import HTTPSConnection",
    "import requests",
    "import aiohttp",
    "from urllib3 import PoolManager",
    "from urllib.request import urlopen",
    "from httpx import AsyncClient",
    "from socket import create_connection",
    "from huggingface_hub import snapshot_download",
    "import httpx, socket, asyncio, urllib.request",
    "httpx.get('http://a')",
    "httpx.Client()",
    "httpx.AsyncClient()",
    "httpx.stream('GET', 'http://a')",
    "urllib.request.urlopen('http://a')",
    "socket.create_connection(('a', 1))",
    "asyncio.open_connection('a', 1)",
]


def test_every_other_way_out_is_refused() -> None:
    allowed = "import httpx, socket, asyncio, urllib.request"
    assert lint("\n".join(WAYS_OUT)) == [way for way in WAYS_OUT if way != allowed]


def test_errors_and_types_of_http_are_no_way_out() -> None:
    assert lint("import httpx\nhttpx.HTTPError, httpx.Response, httpx.codes\n") == []


def test_only_these_files_are_exempt() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    exempt = {path for path, rules in settings["per-file-ignores"].items() if "TID251" in rules}
    assert {path for path in exempt if path.startswith("src/")} == EXEMPT
    assert "TID251" not in settings["ignore"]


@pytest.mark.parametrize("pattern", [r"noqa:[^\n]*TID251", r"\bopen_connection\b|\.connect_ex\("])
def test_no_file_of_the_package_goes_round_the_rule(pattern: str) -> None:
    testing = ROOT / "src" / "emberq" / "testing"
    for path in (ROOT / "src").rglob("*.py"):
        if testing not in path.parents:
            assert not re.search(pattern, path.read_text(encoding="utf-8")), path
