"""The client of the API: addresses and paths."""

from __future__ import annotations

import pytest
import typer

from emberq.cli.client import Client, path_to


@pytest.mark.parametrize("url", ["http://[v1.x]", "http://xn--", "http://h:x"])
def test_a_malformed_address_is_wrong_usage(url: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a URL"):
        Client(url, "")


def test_a_name_stays_one_segment_of_the_path() -> None:
    assert path_to("collections", "a/b?c#d e", "files") == "/collections/a%2Fb%3Fc%23d%20e/files"
