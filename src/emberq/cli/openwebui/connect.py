"""Connections of `emberq openwebui …`: to Open WebUI, and to emberq's API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emberq.openwebui.sidecar.client import OpenWebUIClient


def connect_openwebui(url: str | None, token: str | None) -> tuple[OpenWebUIClient, Path]:
    """Return a signed-in client and the data directory; configure logging to stderr.

    Args:
        url: Open WebUI's address; the environment's if left out.
        token: Its API key or a session's token; the environment's key, or email and password, if left out.

    Raises:
        Unauthorized: If neither a key nor an account is set, or the server refuses the account.
        OpenWebUIUnavailable: If the account must be signed in and the server does not answer.
    """
    from emberq.config.environment import get_environment
    from emberq.errors import Unauthorized
    from emberq.openwebui.sidecar.client import OpenWebUIClient
    from emberq.telemetry.logs import configure_logs

    environment = get_environment()
    configure_logs(log_format=environment.log_format, level=environment.log_level)
    key, email, password = (
        environment.openwebui_api_key,
        environment.openwebui_email,
        environment.openwebui_password,
    )
    token = token or (key.get_secret_value() if key else "")
    client = OpenWebUIClient(url or environment.openwebui_url, token)
    if not token:
        if not email or password is None:
            raise Unauthorized(
                "No key for Open WebUI is set.",
                hint="Set EMBERQ_OPENWEBUI_API_KEY (Open WebUI: Settings → Account → API keys, switched on by"
                " ENABLE_API_KEYS=true), or EMBERQ_OPENWEBUI_EMAIL and EMBERQ_OPENWEBUI_PASSWORD.",
            )
        client.sign_in(email, password.get_secret_value())
    return client, environment.data_dir


def require_admin(client: OpenWebUIClient) -> None:
    """Check that the account is an admin's.

    Raises:
        Forbidden: If it is not.
    """
    from emberq.errors import Forbidden

    if client.whoami()[1] != "admin":
        raise Forbidden(
            "This command needs the key of an Open WebUI admin.",
            hint="Set EMBERQ_OPENWEBUI_API_KEY to an admin's key.",
        )


def read_emberq_setting(key: str) -> str:
    """Return one of the tenant's settings; empty if no key is set or emberq's API does not answer."""
    from emberq.cli.client import NotReachable, Problem, connect
    from emberq.config.environment import get_environment

    if get_environment().api_key is None:
        return ""
    try:
        with connect() as emberq:
            return str(emberq.get(f"/settings/{key}").get("value") or "")
    except (Problem, NotReachable):
        return ""
