"""Which functions see all tenants: a list, so that no other one begins to by mistake."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import emberq

_SOURCE = Path(emberq.__file__).parent
#: The functions that open a transaction for all tenants, by module, and why one tenant is not enough.
_CALLERS = {
    # The key tells the tenant.
    "api/auth.py": {"_look_up"},
    # The sums of the whole service, for its operator.
    "api/metrics.py": {"_collect_service"},
    # The log of all tenants; the key needs the scope `admin`.
    "api/routes/audit.py": {"list_all"},
    # A queue has the jobs of all tenants; the key needs the scope `admin`.
    "api/routes/pauses.py": {"_open"},
    # Settings are checked together; the key needs the scope `admin`.
    "api/routes/settings.py": {"_changed", "history", "status"},
    "cli/commands/processes.py": {"_prepare_database"},
    "cli/commands/secret_key.py": {"rotate_secret"},
    "dispatch/admit.py": {"admit"},
    # One query for the waiting requests of all tenants; it answers with ids that the requests gave it.
    "dispatch/conversion.py": {"_ended"},
    "dispatch/purge.py": {"_repeat", "purge_ended_jobs"},
    "dispatch/recover.py": {
        "_end_attempts_of",
        "_write_end",
        "_write_release",
        "reap_expired_hosts",
        "sweep",
    },
    "dispatch/settings_listener.py": {"_newest_version"},
    "openwebui/worker/tenants.py": {"read"},
    # A ticket names a job; its claim tells the tenant.
    "pipeline/process.py": {"_claim_once", "_end_unknown_claim"},
    "pipeline/warmup.py": {"_run_once"},
    # Equal bytes of several tenants are one blob.
    "store/files/blob_gc.py": {
        "_delete_unreferenced",
        "delete_unreferenced_blobs",
        "restore_discarded_blobs",
    },
    "store/migrate.py": {"migrate"},
    "store/services.py": {"read_snapshot"},
}


def test_only_listed_functions_open_a_transaction_for_all_tenants() -> None:
    found: dict[str, set[str]] = {}
    for path in _SOURCE.rglob("*.py"):
        for function in _callers(ast.parse(path.read_text(encoding="utf-8")), "system_transaction"):
            found.setdefault(str(path.relative_to(_SOURCE)), set()).add(function)
    assert found == _CALLERS


def test_only_the_estimate_of_a_position_sees_all_tenants_within_a_transaction_of_one() -> None:
    found = {
        str(path.relative_to(_SOURCE)): {*names}
        for path in _SOURCE.rglob("*.py")
        if (names := [*_callers(ast.parse(path.read_text(encoding="utf-8")), "all_tenants")])
    }
    assert found == {"store/jobs/waiting_reason.py": {"estimate_positions"}}


def _callers(tree: ast.AST, name: str, function: str = "") -> Iterator[str]:
    """Yield the innermost function of each use of a name."""
    for node in ast.iter_child_nodes(tree):
        used = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        if used == name:
            yield function
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _callers(node, name, node.name)
        else:
            yield from _callers(node, name, function)
