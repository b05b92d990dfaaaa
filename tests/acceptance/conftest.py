"""Fixtures: running installations, used only over HTTP and the command line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness.stack import Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One running installation, shared by tests that do not harm it."""
    with Stack(tmp_path_factory.mktemp("up") / "data", workers=2).start() as running:
        with running.http() as client:
            client.post("/api/v1/collections", json={"name": "docs"}).raise_for_status()
        yield running


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    """A client with the first key."""
    with stack.http() as made:
        yield made


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Start installations of the test's own; they are stopped at its end."""
    with contextlib.ExitStack() as exits:

        def start(**options: Any) -> Stack:
            data_dir = tmp_path / f"data{len(list(tmp_path.glob('data*.log')))}"
            return exits.enter_context(Stack(data_dir, **options).start())

        yield start
