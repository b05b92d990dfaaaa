"""The failures of the command line's requests to the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

__all__ = ["NotReachable", "Problem"]


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
        self.message = f"emberq is not reachable at {url}: {str(reason) or type(reason).__name__}"
        self.hint = "Start it with `emberq up`, or give its address with --url or EMBERQ_URL."
        super().__init__(self.message)
