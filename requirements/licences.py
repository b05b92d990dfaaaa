"""Print the licence of each package of a default install; fail if one is unknown or not accepted.

Run by `make licences`. A package says its licence in its metadata: as an SPDX expression, a classifier or a
text.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

CONSTRAINTS = Path(__file__).with_name("constraints.txt")
#: Licences that the Open Source Initiative has approved, by their SPDX identifiers. All allow use of an
#: unchanged package in a service. CC0-1.0 is a waiver, in which parts of numpy are published.
ACCEPTED = {
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "LGPL-3.0-only", "MIT"),
    *("MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Unlicense", "Zlib"),
}
#: What older metadata says in place of an SPDX identifier.
SPELLINGS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "BSD-3-Clause, Apache-2.0, dependency licenses": "BSD-3-Clause AND Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
#: Packages that are installed on other systems or with other versions of Python only.
ELSEWHERE = {
    "async-timeout": "Apache-2.0",
    "colorama": "BSD-3-Clause",
    "httpx2-jsfetch": "BSD-3-Clause",
}


def names() -> list[str]:
    """Return the names of the packages of a default install."""
    text = CONSTRAINTS.read_text(encoding="utf-8")
    return sorted(set(re.findall(r"^([a-z0-9._-]+)==", text, re.MULTILINE)))


def licence_of(name: str) -> str:
    """Return the licence of a package as an SPDX expression; empty if it is not known."""
    try:
        about = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return ELSEWHERE.get(name, "")
    said = [text for field in ("License-Expression", "License") for text in about.get_all(field) or []]
    said += [line.rsplit(" :: ", 1)[-1] for line in about.get_all("Classifier") or []]
    return next((text for text in (SPELLINGS.get(one, one) for one in said) if is_accepted(text)), "")


def is_accepted(expression: str) -> bool:
    """Return whether an SPDX expression leaves a choice of accepted licences."""
    choices = expression.strip("()").split(" OR ")
    return any(all(part.strip("() ") in ACCEPTED for part in choice.split(" AND ")) for choice in choices)


def main() -> int:
    """Print the table; return the number of packages whose licence is unknown or not accepted."""
    refused = 0
    for name in names():
        licence = licence_of(name)
        print(f"{name:<28}{licence or 'UNKNOWN'}")
        if not is_accepted(licence):
            refused += 1
            print(f"{name}: its licence is unknown or not accepted; see {__file__}", file=sys.stderr)
    return min(refused, 100)


if __name__ == "__main__":
    raise SystemExit(main())
