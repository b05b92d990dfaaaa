"""Names that live outside the process: a change breaks jobs that are queued, and other programs."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

import emberq
from emberq import entry_points

FUNCTIONS = {
    "OPENWEBUI_FAIL_FILE": "emberq.openwebui.warm.fail_file_job",
    "OPENWEBUI_JOB_STOPPED": "emberq.openwebui.enqueue.fail_stopped_file",
    "OPENWEBUI_PROCESS_FILE": "emberq.openwebui.warm.process_file_job",
    "PROCESS_FILE": "emberq.pipeline.process.process_file",
    "TICKET_ENDED": "emberq.dispatch.admit.on_ended",
    "TICKET_STOPPED": "emberq.dispatch.recover.on_stopped",
}
MODULES = {"OPENWEBUI_PRELOAD": "emberq.openwebui.warm", "SPAWNED_HORSE": "emberq.worker.horse.spawned"}


def source_of(module: str) -> ast.Module:
    """Read a module without importing it: `emberq.openwebui.warm` prepares this process for Open WebUI."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_keeps_its_name_and_is_there(name: str) -> None:
    assert getattr(entry_points, name) == FUNCTIONS[name]
    module, _, function = FUNCTIONS[name].rpartition(".")
    body = source_of(module).body
    assert function in {node.name for node in body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_keeps_its_name_and_is_there(name: str) -> None:
    assert getattr(entry_points, name) == MODULES[name]
    assert source_of(MODULES[name]).body


def test_every_name_is_pinned() -> None:
    assert set(entry_points.__all__) == {*FUNCTIONS, *MODULES, "PUBLIC_NAMES"}


@pytest.mark.parametrize("name", entry_points.PUBLIC_NAMES)
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(emberq, name) is not None
