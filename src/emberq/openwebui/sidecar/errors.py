"""How a request to Open WebUI can fail.

::

    UnavailableError
    └── OpenWebUIUnavailable *    openwebui_unavailable
    RequestError
    └── OpenWebUIRefused          openwebui_refused
"""

from __future__ import annotations

from typing import Any

from emberq.errors import RequestError, UnavailableError

__all__ = ["OpenWebUIRefused", "OpenWebUIUnavailable"]


class OpenWebUIUnavailable(UnavailableError):
    """Open WebUI cannot be reached."""

    code = "openwebui_unavailable"
    default_hint = "Check that it runs, and --url or EMBERQ_OPENWEBUI_URL."

    def __init__(
        self, message: str | None = None, *, hint: str | None = None, is_unheard: bool = False, **context: Any
    ) -> None:
        """Describe the failure.

        Args:
            message: What happened.
            hint: What to do next.
            is_unheard: Whether it is certain that the server has not seen the request.
            context: Facts for logs, never secrets.
        """
        super().__init__(message, hint=hint, **context)
        self.is_unheard = is_unheard


class OpenWebUIRefused(RequestError):
    """Open WebUI refused the request."""

    code = "openwebui_refused"
    default_hint = "See Open WebUI's log for more."

    def __init__(
        self, message: str | None = None, *, hint: str | None = None, answered: int = 400, **context: Any
    ) -> None:
        """Describe the refusal.

        Args:
            message: What happened.
            hint: What to do next.
            answered: The HTTP status it answered with.
            context: Facts for logs, never secrets.
        """
        super().__init__(message, hint=hint, **context)
        self.answered = answered
