"""The end state: what the API and, as a second witness, the database show when all is quiet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import httpx

from tests.chaos.campaign.documents import read_lines
from tests.chaos.campaign.system import COLLECTION
from tests.chaos.campaign.witness import Witness
from tests.harness.eventually import came_true

__all__ = ["read_end_state", "wait_until_quiet"]

_PAGE = 500
_ALL_CHUNKS = 1000


def wait_until_quiet(witness: Witness, *, seconds: float) -> bool:
    """Wait until no job is under way."""
    return came_true(lambda: not witness.in_hand(states=("pending", "queued", "processing")), seconds=seconds)


def read_end_state(client: httpx.Client, witness: Witness, names: Iterable[str]) -> dict[str, Any]:
    """Return all files and jobs, what searches by each name find, and the rows behind it.

    Args:
        client: A client of the API.
        witness: Knows the way to the database.
        names: Every file name that was ever uploaded.
    """
    return {
        "files": list(_pages(client, f"/collections/{COLLECTION}/files")),
        "jobs": list(_pages(client, "/jobs")),
        "found": {name: _found(client, name) for name in names},
        "database": _rows(witness),
    }


def _pages(client: httpx.Client, path: str) -> Iterator[Any]:
    cursor: str | None = None
    while True:
        parameters = {"limit": str(_PAGE), **({"cursor": cursor} if cursor else {})}
        answer = client.get(path, params=parameters)
        answer.raise_for_status()
        yield from answer.json()["items"]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return


def _found(client: httpx.Client, name: str) -> dict[str, list[int]]:
    body = {"query": name, "k": _ALL_CHUNKS, "mode": "keyword"}
    answer = client.post(f"/collections/{COLLECTION}/search", json=body)
    answer.raise_for_status()
    return _lines(name, [result["text"] for result in answer.json()["results"]])


def _rows(witness: Witness) -> dict[str, list[list[Any]]]:
    """Return versions with their jobs, and all chunks."""
    with witness.connect() as connection:
        versions = connection.execute(
            "SELECT f.external_id, f.id::text, f.deleted_at IS NOT NULL, f.visible_version, v.version,"
            " v.sha256, (SELECT count(*) FROM jobs j WHERE j.file_id = f.id AND j.version = v.version)"
            " FROM files f JOIN file_versions v ON v.file_id = f.id ORDER BY 1, 2, 5"
        ).fetchall()
        chunks = connection.execute(
            "SELECT f.external_id, f.id::text, c.version, c.text"
            " FROM chunks c JOIN files f ON f.id = c.file_id ORDER BY 1, 2, c.ordinal"
        ).fetchall()
    return {
        "versions": [list(row) for row in versions],
        "chunks": [[*row[:3], _lines(row[0], [row[3]])] for row in chunks],
    }


def _lines(name: str, texts: Iterable[str]) -> dict[str, list[int]]:
    """Return the line numbers of a file in some texts, by edition, repetitions included."""
    found: dict[str, list[int]] = {}
    for text in texts:
        for line in read_lines(text):
            if line.file == name:
                found.setdefault(str(line.edition), []).append(line.number)
    return found
