"""Inputs that the fuzzers and tests of this folder begin with."""

from __future__ import annotations

import base64
import json

from tests.harness import sample_files
from tests.hostile.corpus import make_corpus

__all__ = ["seeds_of"]

#: Larger seeds make a fuzzer slow.
_MOST_BYTES = 4096


def seeds_of(name: str) -> list[bytes]:
    """Return small inputs for a property."""
    match name:
        case "cursor":
            position = json.dumps(["2024-01-01T00:00:00+00:00", "0" * 32]).encode()
            return [base64.urlsafe_b64encode(position).rstrip(b"="), b"", b"e30", base64.b64encode(b"[1, 2]")]
        case "filter":
            return [
                b'{"a": [1, 2.5, null, "x"]}',
                b'{"a": {"b": "\\ud800"}}',
                b'{"a": 1e999}',
                b"[]",
                b'{"a": NaN}',
            ]
        case "mail":
            return [sample_files.make_mail(), *_small("eml")]
        case "csv":
            return [sample_files.CSV, *_small("csv")]
        case _:
            made = [make() for make, _word in sample_files.EVERY_FORMAT.values()]
            return [data[:_MOST_BYTES] for data in made] + _small("html") + _small("json")


def _small(suffix: str) -> list[bytes]:
    """Return the beginnings of the hostile files with a suffix."""
    return [file.make()[:_MOST_BYTES] for file in make_corpus() if file.name.endswith(f".{suffix}")]
