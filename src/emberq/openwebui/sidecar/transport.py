"""HTTP requests to Open WebUI: authorization, retries, and errors of ours."""

from __future__ import annotations

import json
import time
from email.utils import parsedate_to_datetime
from typing import Any, Self

import httpx

from emberq.errors import InvalidRequest, Unauthorized
from emberq.openwebui.sidecar.errors import OpenWebUIRefused, OpenWebUIUnavailable
from emberq.outbound.addresses import AllowedTargets
from emberq.outbound.client import OutboundClient
from emberq.retry.classify import ErrorKind
from emberq.retry.operation import Retrying
from emberq.telemetry.redact import redact_text

#: Seconds for opening a connection, and for the answer to a short request.
_CONNECT_SECONDS, _ANSWER_SECONDS = 10.0, 120.0
#: Seconds after which every request ends: Open WebUI processes one file as long as it takes.
_TOTAL_SECONDS = 86400.0
#: Largest answer: a list of files contains their texts.
_MAX_ANSWER_BYTES = 1 << 30
#: Statuses that a proxy answers with if its server is down or slow.
_UNAVAILABLE = (502, 503, 504)
#: Smallest difference to the server's clock, in seconds, that is taken into account.
_CLOCK_SECONDS = 3.0
#: Characters of an error answer that are quoted.
_QUOTED_CHARACTERS = 300


def classify_error(error: BaseException) -> ErrorKind:
    """Return what an error of a request means for another attempt."""
    if not isinstance(error, OpenWebUIUnavailable):
        return ErrorKind.PERMANENT
    return ErrorKind.NOTHING_HAPPENED if error.had_no_effect else ErrorKind.UNKNOWN


class OpenWebUITransport:
    """Sends requests to one Open WebUI; thread-safe."""

    def __init__(self, url: str, token: str = "") -> None:
        """Prepare requests to `url` (without `/api`), with an API key (`sk-…`) or a session's token.

        Raises:
            InvalidRequest: If `url` is not a URL.
        """
        self.url = url.rstrip("/")
        self._clock_offset_seconds = 0.0
        try:
            self._http = OutboundClient(
                allowed=AllowedTargets().with_servers([self.url]),
                max_bytes=_MAX_ANSWER_BYTES,
                total_seconds=_TOTAL_SECONDS,
                piece_seconds=_ANSWER_SECONDS,
                base_url=self.url,
            )
        except httpx.InvalidURL as exc:
            raise InvalidRequest(
                f"{self.url} is not a URL.", hint="Check --url or EMBERQ_OPENWEBUI_URL."
            ) from exc
        if token:
            self.authorize(token)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._http.close()

    def authorize(self, token: str) -> None:
        """Send further requests with this token."""
        self._http.headers["Authorization"] = f"Bearer {token}"

    def server_time(self) -> float:
        """Return the server's time, in which its files are dated, seconds since 1970."""
        return time.time() + self._clock_offset_seconds

    def get(self, path: str, query: dict[str, Any] | None = None) -> Any:
        """Send a GET request and return the JSON of its answer."""
        return self.request("GET", path, params=query, may_repeat=True)

    def post(
        self,
        path: str,
        body: dict[str, Any],
        *,
        seconds: float | None = _ANSWER_SECONDS,
        may_repeat: bool = False,
    ) -> Any:
        """Send a POST request and return the JSON of its answer.

        Args:
            path: The path below the server's address.
            body: Sent as JSON.
            seconds: Time limit for the answer; None for no limit.
            may_repeat: Whether executing the request twice is the same as executing it once.
        """
        timeout = httpx.Timeout(seconds, connect=_CONNECT_SECONDS)
        return self.request("POST", path, json=body, timeout=timeout, may_repeat=may_repeat)

    def request(self, method: str, path: str, *, may_repeat: bool = False, **options: Any) -> Any:
        """Send a request and return the JSON of its answer.

        Args:
            method: The HTTP method.
            path: The path below the server's address.
            may_repeat: Whether executing the request twice is the same as executing it once.
            options: Further arguments of `httpx.Client.request`.

        Raises:
            OpenWebUIUnavailable: If the server does not answer, or answers that it is down or overloaded.
            OpenWebUIRefused: If it refuses the request, or does not answer like Open WebUI.
            Unauthorized: If it refuses the token or the account.
        """
        if may_repeat:
            return Retrying(classify_error, "openwebui", idempotent=True)(self._send)(method, path, **options)
        return self._send(method, path, **options)

    def _send(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TransportError as exc:
            raise OpenWebUIUnavailable(
                f"Open WebUI does not answer at {self.url}: {str(exc) or type(exc).__name__}.",
                had_no_effect=isinstance(exc, (httpx.ConnectError, httpx.ConnectTimeout)),
            ) from exc
        if "date" in response.headers:
            offset = parsedate_to_datetime(response.headers["date"]).timestamp() - time.time()
            # The header has whole seconds and is as old as the answer's way here.
            self._clock_offset_seconds = offset if abs(offset) > _CLOCK_SECONDS else 0.0
        if response.status_code in _UNAVAILABLE:
            raise OpenWebUIUnavailable(f"Open WebUI answered {response.status_code} at {self.url}.")
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise OpenWebUIUnavailable(
                f"Open WebUI at {self.url} refuses more requests for now.",
                hint="Wait three minutes. With a key (EMBERQ_OPENWEBUI_API_KEY) no sign-in is needed.",
                had_no_effect=True,
            )
        if response.is_error:
            raise _refusal(response)
        try:
            return response.json()
        except ValueError as exc:
            raise OpenWebUIRefused(
                f"The answer at {self.url}{path} is not one of Open WebUI.",
                hint="Check --url or EMBERQ_OPENWEBUI_URL: it is the address of the web page, without /api.",
            ) from exc


def _refusal(response: httpx.Response) -> OpenWebUIRefused | Unauthorized:
    try:
        detail = response.json().get("detail")
    except (ValueError, AttributeError):
        detail = response.text
    quoted = redact_text(detail if isinstance(detail, str) else json.dumps(detail))[:_QUOTED_CHARACTERS]
    if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return Unauthorized(
            f"Open WebUI refused the key or the account: {quoted}",
            hint="Check EMBERQ_OPENWEBUI_API_KEY, or the email and password, and what the account may do.",
        )
    return OpenWebUIRefused(
        quoted or f"Open WebUI answered {response.status_code}.", http_status=response.status_code
    )
