"""`emberq audit`: who changed which key, setting or pause."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from emberq.cli.client import connect
from emberq.cli.output import AsJson, Columns, print_listing


def audit(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="Number of entries.")] = 50,
    tenant: Annotated[
        str | None, typer.Option(help="Only changes of this tenant's things.", metavar="NAME")
    ] = None,
    json_output: AsJson = False,
) -> None:
    """List who changed which key, setting or pause, the latest first.

    Needs a key with the scope admin.
    """
    with connect() as client:
        items = list(client.pages("/audit", limit=limit, tenant=tenant))
    columns: Columns = {
        "When": "at",
        "Who": "actor",
        "Action": "action",
        "Target": "target",
        "Tenant": "tenant",
        "Detail": _detail,
    }
    print_listing(items, columns, empty="No entries.", as_json=json_output)


def _detail(entry: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in entry["detail"].items() if value is not None}
    return ", ".join(f"{key}={value}" for key, value in shown.items())
