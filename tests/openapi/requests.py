"""Schemathesis over the OpenAPI document: requests that fit it and that do not, with several keys."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error, response_headers_conformance
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

__all__ = ["Sender", "fuzz"]

_CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
#: The operation whose answer does not end as long as the key is valid.
_ENDLESS: Final = "GET /api/v1/events"
#: Operations that wait until a worker has read a file.
_CONVERSIONS: Final = ("/process", "/tika", "/rmeta", "/v1/convert")


@dataclass(frozen=True)
class Sender:
    """A sender of requests.

    Attributes:
        name: For the report.
        key: Its API key; none if empty.
        foreign: Texts that no answer to it may contain: they belong to another tenant.
        has_workers: Whether somebody works on files that it sends.
    """

    name: str
    key: str = ""
    foreign: Sequence[str] = ()
    has_workers: bool = False


@dataclass
class Report:
    """What came of it: how many answers of each status, and what was wrong with some."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return self.statuses.total()


def fuzz(
    url: str, senders: Sequence[Sender], *, requests: int, number: int, between: Callable[[], object] = bool
) -> Report:
    """Send requests to each operation, from each sender, and check each answer against the document.

    Args:
        url: Where the API listens.
        senders: Who sends them.
        requests: How many, about.
        number: The same number makes the same requests.
        between: Called after each operation that may have changed what the next ones meet.
    """
    document = httpx.get(f"{url}/openapi.json").json()
    found: Any = schemathesis.openapi.from_dict(document).get_all_operations()
    operations = [one.ok() for one in found]
    report = Report()
    runs = [
        (sender, operation, mode)
        for operation in operations
        for sender in senders
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        if _ends(sender, operation.label)
    ]
    each = max(1, requests // len(runs))
    for sender, operation, mode in runs:
        _run(url, sender, operation, mode, each, number, report)
        if operation.method.upper() != "GET":
            between()
    return report


def _ends(sender: Sender, label: str) -> bool:
    if not sender.key:
        return True
    waits = label.split()[1].startswith(_CONVERSIONS) and not label.startswith("GET")
    return label != _ENDLESS and (sender.has_workers or not waits)


def _run(
    url: str, sender: Sender, operation: Any, mode: GenerationMode, most: int, number: int, report: Report
) -> None:
    try:
        strategy = operation.as_strategy(generation_mode=mode)
    except Exception as exc:  # noqa: BLE001 - such as: nothing that this operation takes can be wrong
        if mode is GenerationMode.POSITIVE:
            report.wrong.append(f"{operation.label}: {exc}")
        return
    headers = {"Authorization": f"Bearer {sender.key}"} if sender.key else {}

    @seed(number)
    @settings(
        max_examples=most,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(case=strategy)
    def send(case: Any) -> None:
        began = time.monotonic()
        answer = case.call(base_url=url, headers=headers, timeout=120)
        report.statuses[answer.status_code] += 1
        reasons = []
        try:
            case.validate_response(answer, checks=_CHECKS)
        except BaseExceptionGroup as exc:
            reasons = [str(one).splitlines()[0] for one in exc.exceptions]
        leaked = [text for text in sender.foreign if text.encode() in answer.content]
        if leaked:
            reasons.append(f"it contains {leaked}, which is another tenant's")
        if reasons:
            what = f"{operation.label} from {sender.name}, {mode.value}: {answer.status_code}"
            took = f"after {time.monotonic() - began:.1f} s"
            request = case.as_curl_command()[:1000]
            report.wrong.append(
                "\n    ".join([f"{what} {took}: {'; '.join(reasons)}", request, answer.text[:500]])
            )

    try:
        send()
    except Exception as exc:  # noqa: BLE001 - a cut connection, among others
        # Of a generation that finds nothing nothing is learned.
        if type(exc).__name__ not in ("Unsatisfiable", "SkipTest"):
            report.wrong.append(
                f"{operation.label} from {sender.name}, {mode.value}: {type(exc).__name__}: {exc}"
            )


def restore(client: httpx.Client) -> None:
    """Reset all settings and pauses, which valid requests of an admin change."""
    for path in _resets():
        client.delete(path)


def _resets() -> Iterator[str]:
    yield "/api/v1/settings"
    yield "/api/v1/pauses?scope=queue"
    yield "/api/v1/pauses?scope=tenant"
