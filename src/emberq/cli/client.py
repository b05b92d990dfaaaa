"""The API as the command line uses it: requests, pages, and problems as exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import httpx

from emberq.cli.failures import NotReachable, Problem
from emberq.config.environment import get_environment

__all__ = ["Client", "connect"]

#: Seconds an answer may take; a large upload is hashed and written before it is acknowledged.
_TIMEOUT_SECONDS = 300.0


class Client:
    """A connection to the API; safe to share among threads."""

    def __init__(self, url: str, key: str) -> None:
        """Prepare requests to `url` (without `/api/v1`) with an API key; `""` sends none."""
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=_TIMEOUT_SECONDS)

    def __enter__(self) -> Self:
        """Use the connection for a block."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close it."""
        self._http.close()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send one request.

        Args:
            method: HTTP method.
            path: Below `/api/v1`, e.g. `/jobs`; or from the root if it begins with `//`.
            options: As `httpx.Client.request` takes them.

        Raises:
            Problem: If the API refuses.
            NotReachable: If nothing answers.
        """
        target = path[1:] if path.startswith("//") else f"/api/v1{path}"
        try:
            response = self._http.request(method, target, **options)
        except httpx.TransportError as exc:
            raise NotReachable(self.url, exc) from exc
        if response.is_error:
            raise Problem(response)
        return response

    def get(self, path: str, **params: Any) -> Any:
        """Return the JSON of a GET; parameters that are None are left out."""
        given = {name: value for name, value in params.items() if value is not None}
        return self.request("GET", path, params=given).json()

    def pages(self, path: str, *, limit: int, **params: Any) -> Iterator[dict[str, Any]]:
        """Yield the first `limit` items of a listing, page by page."""
        cursor: str | None = None
        while limit > 0:
            page = self.get(path, limit=min(limit, 200), cursor=cursor, **params)
            yield from page["items"]
            limit -= len(page["items"])
            cursor = page["next_cursor"]
            if cursor is None:
                return


def connect() -> Client:
    """Return a client for the API of the environment (`EMBERQ_URL`, `EMBERQ_API_KEY`)."""
    environment = get_environment()
    key = environment.api_key
    return Client(environment.url, key.get_secret_value() if key else "")
