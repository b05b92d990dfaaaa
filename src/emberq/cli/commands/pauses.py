"""`emberq jobs pause`, `resume` and `pauses`: work that is held back."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from emberq.cli.output import AsJson, ago, print_json, print_table

__all__ = ["pause", "pauses", "resume"]


class Scope(StrEnum):
    """What can be paused."""

    QUEUE = "queue"
    TENANT = "tenant"
    COLLECTION = "collection"


_Scope = Annotated[Scope, typer.Argument(help="What to hold back.")]
_Name = Annotated[
    str | None,
    typer.Argument(
        help="The collection; the key's own tenant or the only queue if left out.", metavar="[NAME]"
    ),
]


def pause(scope: _Scope, name: _Name = None, json_output: AsJson = False) -> None:
    """Hold jobs back: those that run finish, none is started until `resume`.

    Example: emberq jobs pause collection handbook
    """
    from emberq.cli.client import connect

    _check(scope, name)
    with connect() as client:
        answer = client.request("POST", "/pauses", json={"scope": scope, "name": name}).json()
    if json_output:
        print_json(answer)
    else:
        held = next(
            one for one in answer["items"] if one["scope"] == scope and (name is None or one["name"] == name)
        )
        typer.echo(f"The {scope} {held['name']} is paused; {held['waiting']} jobs wait.")


def resume(scope: _Scope, name: _Name = None, json_output: AsJson = False) -> None:
    """Let paused work go on."""
    from emberq.cli.client import connect

    _check(scope, name)
    params = {"scope": scope.value, **({"name": name} if name else {})}
    with connect() as client:
        answer = client.request("DELETE", "/pauses", params=params).json()
    if json_output:
        typer.echo(json.dumps(answer))
    else:
        typer.echo("It goes on." if answer["resumed"] else "It was not paused.")


def pauses(json_output: AsJson = False) -> None:
    """List what is paused, and how many jobs wait for that."""
    from emberq.cli.client import connect

    with connect() as client:
        items = client.get("/pauses")["items"]
    if json_output:
        print_json(items)
        return
    rows = ((one["scope"], one["name"], one["waiting"], ago(one["paused_at"])) for one in items)
    print_table(("Scope", "Name", "Waiting", "Paused"), rows, empty="Nothing is paused.")


def _check(scope: Scope, name: str | None) -> None:
    if scope is Scope.COLLECTION and not name:
        raise typer.BadParameter("name the collection", param_hint="NAME")
