"""Fixtures for the worker's tests without processes: time and sockets under the test's control."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.clock import FakeClock
from tests.harness.preloader_peer import Sockets


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    """Pairs of sockets, closed at the end."""
    made = Sockets()
    yield made
    made.close()
