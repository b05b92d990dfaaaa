"""The API as the command line uses it: requests, pages of listings, and errors as exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

from emberq.cli.failures import NotReachable, Problem

if TYPE_CHECKING:
    import httpx

__all__ = ["Client", "connect"]

#: Longest wait for a response; a large upload is hashed and written before it is acknowledged.
_TIMEOUT_SECONDS = 300.0


class Client:
    """A connection to the API; safe to share among threads."""

    def __init__(self, url: str, key: str) -> None:
        """Prepare requests to `url` (without `/api/v1`) with an API key; `""` sends none."""
        # Imported here, as in `connect`: every command imports this module, and `--help` must be fast.
        import httpx

        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=_TIMEOUT_SECONDS)
        self._transport_error = httpx.TransportError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._http.close()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send one request.

        Args:
            method: HTTP method.
            path: The path below `/api/v1`, e.g. `/jobs`; or from the root if it begins with `//`.
            options: As for `httpx.Client.request`.

        Raises:
            Problem: If the API answers with an error.
            NotReachable: If the API does not answer.
        """
        target = path[1:] if path.startswith("//") else f"/api/v1{path}"
        try:
            response = self._http.request(method, target, **options)
        except self._transport_error as exc:
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
    from emberq.config.environment import get_environment

    environment = get_environment()
    key = environment.api_key
    return Client(environment.url, key.get_secret_value() if key else "")
