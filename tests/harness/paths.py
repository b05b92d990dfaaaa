"""Places in the repository and in the environment that runs the tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["CORPUS", "DATA", "DEPLOY", "DOCS", "EMBERQ", "EXAMPLES", "ROOT", "RQ", "python_path"]

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
DEPLOY = ROOT / "deploy"
DOCS = ROOT / "docs"
EXAMPLES = ROOT / "examples"
CORPUS = EXAMPLES / "corpus"
#: The command lines of emberq and RQ.
EMBERQ = str(Path(sys.executable).with_name("emberq"))
RQ = str(Path(sys.executable).with_name("rq"))


def python_path(*more: Path) -> str:
    """Return a PYTHONPATH with which a process finds `tests.jobs`."""
    return os.pathsep.join([str(ROOT), *map(str, more), *filter(None, [os.environ.get("PYTHONPATH")])])
