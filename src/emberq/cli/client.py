"""The API as the command line uses it: requests, pages of listings, and errors as exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

import typer

if TYPE_CHECKING:
    import httpx


#: Longest wait for a response; a large upload is hashed and written before it is acknowledged.
_TIMEOUT_SECONDS = 300.0
#: Hosts that may get the first key: it is not sent to another machine unasked.
_LOCAL = frozenset({"127.0.0.1", "::1", "localhost"})


def path_to(*segments: str) -> str:
    """Return the path below `/api/v1` of names and ids, whatever characters they have."""
    return "".join(f"/{quote(segment, safe='')}" for segment in segments)


class Problem(Exception):
    """The API answered with an error.

    Attributes:
        message: What happened.
        code: The stable error code.
        hint: What to do next.
        status: HTTP status.
        retry_after: Seconds to wait before another try, if the API said so.
    """

    def __init__(self, response: httpx.Response) -> None:
        try:
            body = dict(response.json())
        except ValueError:
            body = {}
        self.status = response.status_code
        self.message = str(body.get("detail") or f"The API answered {response.status_code}.")
        self.code = str(body.get("code") or "internal_error")
        self.hint = str(body.get("hint") or "")
        after = response.headers.get("retry-after", "")
        self.retry_after = float(after) if after.isdigit() else None
        super().__init__(self.message)


class NotReachable(Exception):
    """The API does not answer at its address."""

    def __init__(self, url: str, reason: Exception) -> None:
        self.message = (
            f"emberq is not reachable at {url}: {str(reason).rstrip('.') or type(reason).__name__}."
        )
        self.hint = "Start it with `emberq up`, or give its address with --url or EMBERQ_URL."
        super().__init__(self.message)


class Client:
    """A connection to the API; safe to share among threads."""

    def __init__(self, url: str, key: str) -> None:
        """Prepare requests to `url` (without `/api/v1`) with an API key; `""` sends none.

        Raises:
            typer.BadParameter: If `url` is malformed.
        """
        # Imported here, as in `connect`: every command imports this module, and `--help` must be fast.
        import httpx

        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            # Read once: some hosts are refused only then.
            _ = httpx.URL(self.url).host
            self._http = httpx.Client(base_url=self.url, headers=headers, timeout=_TIMEOUT_SECONDS)
        except (httpx.InvalidURL, ValueError) as exc:
            raise typer.BadParameter(f"{self.url} is not a URL: {exc}", param_hint="EMBERQ_URL") from exc
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
    """Return a client for the API of the environment (`EMBERQ_URL`, `EMBERQ_API_KEY`).

    Without EMBERQ_API_KEY, an API on this machine gets the first key from the data directory.
    """
    from emberq.cli.first_key import read_first_key
    from emberq.config.environment import get_environment

    environment = get_environment()
    if environment.api_key is not None:
        return Client(environment.url, environment.api_key.get_secret_value())
    is_local = urlsplit(environment.url).hostname in _LOCAL
    return Client(environment.url, read_first_key(environment.data_dir) if is_local else "")
