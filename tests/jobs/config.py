"""Jobs that look at the configuration, run by real workers on a database of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

from emberq import get_worker_config, resource
from emberq.config.current import get_config_cache
from emberq.config.environment import Environment
from emberq.config.snapshot import Snapshot
from emberq.store.services import configure_services
from tests.harness.eventually import eventually


@resource
def configuration() -> Snapshot:
    """Read the settings before the fork, as document workers do."""
    services = configure_services(
        Environment(data_dir=Path(os.environ["CONFIG_JOBS_DATA"])),
        database_url=os.environ["CONFIG_JOBS_DATABASE"],
        redis_url=os.environ["CONFIG_JOBS_REDIS"],
    )
    snapshot = get_worker_config()
    services.database.close()
    return snapshot


def look_around_a_change(started: str, changed: str) -> list[int]:
    """Return the version before a change, after it, the one outside the job, and this process's id."""
    before = get_worker_config().version
    Path(started).touch()
    eventually(Path(changed).exists)
    cache = get_config_cache()
    cache.newest.announce(before + 1)
    return [before, get_worker_config().version, cache.get().version, os.getpid()]


def look(times: int, version: int | None = None) -> list[int]:
    """Return the version seen, how often this process built a configuration, and its id."""
    seen = {get_worker_config(version=version).version for _ in range(times)}
    assert len(seen) == 1
    return [*seen, get_config_cache().builds, os.getpid()]
