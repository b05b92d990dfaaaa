"""Write the generated pages anew and check all links: `make docs`.

Exits with 1 if a generated page was out of date, or if a link, an anchor, a place in the code or a target of
the Makefile that a page names does not exist.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

from check_pages import ROOT, broken_links, missing_places, missing_targets, pages  # noqa: E402


def main() -> int:
    """Do both, print what is wrong, and return the exit code."""
    problems = []
    for script in sorted(DOCS.glob("make_*.py")):
        generator = runpy.run_path(str(script))
        page: Path = generator["PAGE"]
        if page.read_text(encoding="utf-8") != (text := generator["render"]()):
            page.write_text(text, encoding="utf-8")
            problems.append(f"{_name(page)} was out of date and is written anew; commit it")
    for page in pages():
        problems += [f"{_name(page)}: dead link {target}" for target in broken_links(page)]
        problems += [f"{_name(page)}: no target {target} in the Makefile" for target in missing_targets(page)]
        problems += [f"{_name(page)}: {place} does not exist" for place in missing_places(page)]
    for problem in problems:
        print(problem)
    print(f"{len(pages())} pages, {len(problems)} problems")
    return 1 if problems else 0


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main())
