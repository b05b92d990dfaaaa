"""`emberq search`: search a collection."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from emberq.cli.client import connect, path_to
from emberq.cli.output import AsJson, print_json, say


def search(
    query: Annotated[str, typer.Argument(help="A question, or keywords.")],
    collection: Annotated[str, typer.Option("--collection", "-c", help="Collection to search.")],
    k: Annotated[int | None, typer.Option("-k", min=1, max=1000, help="Most results.")] = None,
    mode: Annotated[str | None, typer.Option(help="vector, keyword or hybrid.")] = None,
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Order the results by relevance, with the reranking model.")
    ] = False,
    json_output: AsJson = False,
) -> None:
    """Find the passages that answer a question.

    Example: emberq search "How long is a lease?" -c handbook -k 3
    """
    if mode not in (None, "vector", "keyword", "hybrid"):
        raise typer.BadParameter("must be vector, keyword or hybrid", param_hint="--mode")
    body: dict[str, Any] = {"query": query, "rerank": rerank}
    body |= {name: value for name, value in (("k", k), ("mode", mode)) if value is not None}
    with connect() as client:
        answer = client.request("POST", path_to("collections", collection, "search"), json=body).json()
    if json_output:
        print_json(answer)
        return
    for number, result in enumerate(answer["results"], start=1):
        page = f", page {result['page']}" if result["page"] is not None else ""
        heading = f" · {result['heading']}" if result["heading"] else ""
        say(f"{number}. {result['file']['name']}{page}{heading}  ({result['score']:.4f})")
        if result["header"]:
            say(f"   {result['header']}")
        say("   " + " ".join(result["text"].split()))
        say("")
    say(f"{len(answer['results'])} results in {answer['took_ms']:.0f} ms")
