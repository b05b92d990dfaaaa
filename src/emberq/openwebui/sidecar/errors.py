"""Errors of requests to Open WebUI.

::

    UnavailableError
    └── OpenWebUIUnavailable *    openwebui_unavailable
    RequestError
    └── OpenWebUIRefused          openwebui_refused
"""

from __future__ import annotations

from typing import Any

from emberq.errors import RequestError, UnavailableError


class OpenWebUIUnavailable(UnavailableError):
    """Open WebUI cannot be reached."""

    code = "openwebui_unavailable"
    default_hint = "Check that it runs, and --url or EMBERQ_OPENWEBUI_URL."

    def __init__(
        self,
        message: str | None = None,
        *,
        hint: str | None = None,
        had_no_effect: bool = False,
        **context: Any,
    ) -> None:
        """Describe the failure; `had_no_effect`: the server has certainly not executed the request."""
        super().__init__(message, hint=hint, **context)
        self.had_no_effect = had_no_effect


class OpenWebUIRefused(RequestError):
    """Open WebUI refused the request."""

    code = "openwebui_refused"
    default_hint = "See Open WebUI's log for more."

    def __init__(
        self, message: str | None = None, *, hint: str | None = None, http_status: int = 400, **context: Any
    ) -> None:
        """Describe the refusal, with the HTTP status of the answer."""
        super().__init__(message, hint=hint, **context)
        self.http_status = http_status
