"""Structured logs: a stable event name and fields per record, never a sentence with values in it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from emberq.telemetry.redact import redact
from emberq.visible import visible


def _hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return redact(event)


def _show_all(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape what a reader would not see; JSON does so itself. Nested values are shown as their `repr`."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = visible(value, keep="\n\t" if name in ("exception", "stack") else "")
    return event


def _console() -> structlog.dev.ConsoleRenderer:
    # The default traceback shows local variables, which may be secrets.
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


#: The last processors of every record: tracebacks become text, and secrets are removed.
_LAST: tuple[structlog.types.Processor, ...] = (
    structlog.processors.StackInfoRenderer(),
    structlog.processors.format_exc_info,
    _hide_secrets,
)


def ensure_logs() -> None:
    """Write records to stderr, unless the program has configured structlog itself.

    If `EMBERQ_LOG_FORMAT` is set, the records of RQ and of all other users of the standard library's logging
    are written in that format, too; otherwise their loggers are left as they are.
    """
    if structlog.is_configured():
        return
    log_format = os.environ.get("EMBERQ_LOG_FORMAT")
    if log_format:
        configure_logs(log_format=log_format, level=os.environ.get("EMBERQ_LOG_LEVEL", "info"))
        for name in ("rq.worker", "rq.scheduler"):
            logging.getLogger(name).handlers.clear()
            logging.getLogger(name).propagate = True
        return
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *_LAST,
            _show_all,
            _console(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def configure_logs(*, log_format: str = "console", level: str = "info") -> None:
    """Write the records of structlog and of the standard library's logging to stderr in one format.

    Args:
        log_format: `json` for one object per line, `console` for people.
        level: The lowest severity that is written.
    """
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers: list[structlog.types.Processor] = (
        [structlog.processors.JSONRenderer()] if log_format == "json" else [_show_all, _console()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_LAST, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # RQ logs every job at INFO as sentences; our own events have the same facts as fields.
    for noisy in ("rq", "rq.worker", "rq.job", "rq.queue", "alembic", "httpx", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module; its records have the bound fields, such as job and tenant."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
