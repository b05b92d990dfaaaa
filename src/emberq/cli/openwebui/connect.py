"""Connections of `emberq openwebui …`: to Open WebUI, and to emberq's API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emberq.openwebui.sidecar.client import OpenWebUIClient

__all__ = ["connect_openwebui", "read_emberq_setting", "require_admin"]


def connect_openwebui(url: str | None, token: str | None) -> tuple[OpenWebUIClient, Path]:
    """Return a client and the data directory; configure logging to stderr."""
    from emberq.config.environment import get_environment
    from emberq.openwebui.sidecar.connect import connect
    from emberq.telemetry.logs import configure_logs

    environment = get_environment()
    configure_logs(log_format=environment.log_format, level=environment.log_level)
    return connect(environment, url=url, token=token), environment.data_dir


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
    from emberq.cli.client import connect
    from emberq.cli.failures import NotReachable, Problem
    from emberq.config.environment import get_environment

    if get_environment().api_key is None:
        return ""
    try:
        with connect() as emberq:
            return str(emberq.get(f"/settings/{key}").get("value") or "")
    except (Problem, NotReachable):
        return ""
