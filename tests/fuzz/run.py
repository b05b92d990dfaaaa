"""Fuzzes one property, guided by coverage: `python -m tests.fuzz.run mail -max_total_time=60`.

Arguments after the name go to libFuzzer. The corpus is kept in `.fuzz/NAME`; an input that breaks the
property is written to `.fuzz/NAME-crash-…`. It needs atheris, which `make fuzz` installs.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["emberq.pipeline.extract", "emberq.api", "email", "csv"]):
    from tests.fuzz.properties import PROPERTIES
    from tests.fuzz.seeds import seeds_of


def main() -> None:
    """Fuzz the property that the first argument names."""
    name = sys.argv.pop(1)
    corpus = Path(".fuzz") / name
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in seeds_of(name):
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    options = [
        f"-artifact_prefix={corpus.parent / name}-",
        "-timeout=20",
        "-rss_limit_mb=4096",
        "-max_len=8192",
    ]
    atheris.Setup([sys.argv[0], *options, *sys.argv[1:], str(corpus)], PROPERTIES[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
