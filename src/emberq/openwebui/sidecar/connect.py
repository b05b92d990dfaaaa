"""The client for the Open WebUI that the environment and the command line name."""

from __future__ import annotations

from emberq.config.environment import Environment
from emberq.errors import Unauthorized
from emberq.openwebui.sidecar.client import OpenWebUIClient

__all__ = ["connect"]


def connect(
    environment: Environment, *, url: str | None = None, token: str | None = None, retries: int = 3
) -> OpenWebUIClient:
    """Return a client for Open WebUI, signed in with the token or with email and password.

    Args:
        environment: Has `openwebui_url`, and `openwebui_api_key` or an email and a password.
        url: Replaces the environment's address.
        token: Replaces the environment's key.
        retries: Further attempts at requests that may be repeated.

    Raises:
        Unauthorized: If neither a key nor an account is set, or the server refuses the account.
        OpenWebUIUnavailable: If the account must be signed in and the server does not answer.
    """
    key, password = environment.openwebui_api_key, environment.openwebui_password
    token = token or (key.get_secret_value() if key else "")
    client = OpenWebUIClient(url or environment.openwebui_url, token, retries=retries)
    if token:
        return client
    if not environment.openwebui_email or password is None:
        raise Unauthorized(
            "No key for Open WebUI is set.",
            hint="Set EMBERQ_OPENWEBUI_API_KEY (Open WebUI: Settings → Account → API keys, switched on by"
            " ENABLE_API_KEYS=true), or EMBERQ_OPENWEBUI_EMAIL and EMBERQ_OPENWEBUI_PASSWORD.",
        )
    client.sign_in(environment.openwebui_email, password.get_secret_value())
    return client
