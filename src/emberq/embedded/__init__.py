"""PostgreSQL and Valkey from their wheels, with their data in the data directory."""

from __future__ import annotations

from emberq.embedded.datadir import DataDirectory, DataDirectoryError, DataDirectoryInUse
from emberq.embedded.engines import Engines
from emberq.embedded.postgres import EmbeddedPostgres
from emberq.embedded.valkey import EmbeddedValkey

__all__ = [
    "DataDirectory",
    "DataDirectoryError",
    "DataDirectoryInUse",
    "EmbeddedPostgres",
    "EmbeddedValkey",
    "Engines",
]
