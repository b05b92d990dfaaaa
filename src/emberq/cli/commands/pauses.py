"""`emberq jobs pause`, `resume` and `pauses`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from emberq.cli.client import connect
from emberq.cli.output import AsJson, print_listing, print_result


class Scope(StrEnum):
    """The kinds of things that can be paused."""

    QUEUE = "queue"
    TENANT = "tenant"
    COLLECTION = "collection"


_Scope = Annotated[Scope, typer.Argument(help="What to pause.")]
_Name = Annotated[
    str | None,
    typer.Argument(
        help="The collection; for the other scopes, the only queue and the key's own tenant if left out.",
        metavar="[NAME]",
    ),
]


def pause(scope: _Scope, name: _Name = None, json_output: AsJson = False) -> None:
    """Pause jobs: none of them starts until `resume`.

    Running jobs finish.

    Example: emberq jobs pause collection handbook
    """
    _check(scope, name)
    with connect() as client:
        answer = client.request("POST", "/pauses", json={"scope": scope, "name": name}).json()
    paused = next(
        one for one in answer["items"] if one["scope"] == scope and (name is None or one["name"] == name)
    )
    text = f"The {scope} {paused['name']} is paused; {paused['waiting']} jobs wait."
    print_result(answer, text, as_json=json_output)


def resume(scope: _Scope, name: _Name = None, json_output: AsJson = False) -> None:
    """Resume paused jobs."""
    _check(scope, name)
    params = {"scope": scope.value, **({"name": name} if name else {})}
    with connect() as client:
        answer = client.request("DELETE", "/pauses", params=params).json()
    what = f"The {scope} {name}" if name else f"The {scope}"
    text = f"{what} is resumed." if answer["resumed"] else f"{what} was not paused."
    print_result(answer, text, as_json=json_output)


def pauses(json_output: AsJson = False) -> None:
    """List the pauses and the number of jobs that wait."""
    with connect() as client:
        items = client.get("/pauses")["items"]
    columns = {"Scope": "scope", "Name": "name", "Waiting": "waiting", "Paused": "paused_at"}
    print_listing(items, columns, empty="Nothing is paused.", as_json=json_output)


def _check(scope: Scope, name: str | None) -> None:
    if scope is Scope.COLLECTION and not name:
        raise typer.BadParameter("give the collection's name", param_hint="NAME")
