"""The names that live outside the process: pinned, resolvable, and written in one place."""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import emberq
from emberq import entry_points

SOURCES = Path(emberq.__file__).parent
PROJECT = Path(__file__).parents[2] / "pyproject.toml"

#: Changing one of these breaks tickets that wait in Redis, a host's settings or a command in a document.
PINNED = {
    "DOCUMENT_RESOURCES": "emberq.pipeline.resources",
    "OPENWEBUI_FAIL_FILE": "emberq.openwebui.warm.fail_file_job",
    "OPENWEBUI_JOB_STOPPED": "emberq.openwebui.enqueue.fail_stopped_file",
    "OPENWEBUI_PRELOAD": "emberq.openwebui.warm",
    "OPENWEBUI_PROCESS_FILE": "emberq.openwebui.warm.process_file_job",
    "PROCESS_FILE": "emberq.pipeline.process.process_file",
    "PUBLIC_NAMES": {
        "WarmWorker": "emberq.worker.warm_worker",
        "connection": "emberq.worker.resources.connections",
        "get_redis_pool": "emberq.redis_pools",
        "get_worker_config": "emberq.config.current",
        "get_worker_embedding_functions": "emberq.pipeline.resources",
        "job_scope": "emberq.worker.job.scope",
        "progress": "emberq.worker.job.progress",
        "resource": "emberq.worker.resources.resources",
        "retry_db_operation": "emberq.retry.operation",
        "retry_redis_operation": "emberq.retry.operation",
    },
    "QUEUE_NAME": "emberq",
    "READER": "emberq.pipeline.sandbox.reader",
    "SPAWNED_HORSE": "emberq.worker.horse.spawned",
    "SPAWNED_HORSE_SETUP": "emberq.dispatch.host:configure_spawned",
    "TICKET_ENDED": "emberq.dispatch.admit.on_ended",
    "TICKET_STOPPED": "emberq.dispatch.recover.on_stopped",
    "WARMUP_JOB": "emberq.worker.supervisor.warmup._warmed_up",
}
NAMES = [name for name in PINNED.values() if isinstance(name, str) and name.startswith("emberq.")]


def test_the_names_are_the_pinned_ones() -> None:
    assert {name: getattr(entry_points, name) for name in entry_points.__all__} == PINNED


@pytest.mark.parametrize("name", NAMES)
def test_each_name_leads_to_something(name: str) -> None:
    pkgutil.resolve_name(name)


def test_each_public_name_is_where_it_is_said_to_be() -> None:
    assert sorted(emberq.__all__) == sorted(entry_points.PUBLIC_NAMES)
    for name, home in entry_points.PUBLIC_NAMES.items():
        assert getattr(emberq, name) is pkgutil.resolve_name(f"{home}:{name}")
    with pytest.raises(AttributeError, match="no_such_name"):
        emberq.no_such_name  # noqa: B018 - reading it is the test


def test_the_command_leads_to_something() -> None:
    for command in tomllib.loads(PROJECT.read_text())["project"]["scripts"].values():
        pkgutil.resolve_name(command)


def strings(tree: ast.Module) -> Iterator[str]:
    """Yield the strings of a module besides its docstrings."""
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


#: Variables of a session of PostgreSQL, which are no modules.
VARIABLES = {"emberq.system"}


def dotted_names(path: Path) -> set[str]:
    """Return the names of modules of emberq, and of what is in them, that stand in a module's strings."""
    found = set()
    for text in strings(ast.parse(path.read_text(encoding="utf-8"))):
        for name in re.findall(r"\bemberq(?:\.[A-Za-z_]\w*)+", text):
            first = ".".join(name.split(".")[:2])
            if importlib.util.find_spec(first) is not None and name not in VARIABLES:
                found.add(name)
    return found


def test_no_other_module_has_such_a_name() -> None:
    """A name that is written twice is changed once."""
    found = {str(path.relative_to(SOURCES)): dotted_names(path) for path in sorted(SOURCES.rglob("*.py"))}
    assert found.pop("entry_points.py")
    assert {path: names for path, names in found.items() if names} == {}
