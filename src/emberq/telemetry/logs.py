"""Structured logs: one stable event name and fields per line, never a sentence with values in it."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

__all__ = ["configure_logs", "ensure_logs", "get_logger"]

#: Field names whose values are never written.
_SECRET_NAMES = re.compile(r"(api_?key|password|passwd|secret|token|authorization)$", re.IGNORECASE)
#: The password part of a URL such as `redis://user:password@host`.
_URL_PASSWORD = re.compile(r"(?<=://)([^:/@\s]*):[^@/\s]+(?=@)")
#: emberq's own API keys, wherever they turn up.
_API_KEY = re.compile(r"\beq_[A-Za-z0-9_-]{16,}")


def _hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if _SECRET_NAMES.search(name):
            event[name] = "***"
        elif isinstance(value, str):
            event[name] = _API_KEY.sub("eq_***", _URL_PASSWORD.sub(r"\1:***", value))
    return event


def _console() -> structlog.dev.ConsoleRenderer:
    # The default traceback shows local variables, secrets among them.
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


def ensure_logs() -> None:
    """Configure plain records on stderr where the program that runs us has configured nothing."""
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _hide_secrets,
            _console(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def configure_logs(*, log_format: str = "console", level: str = "info") -> None:
    """Send structlog's and the standard library's records to stderr in one form.

    Args:
        log_format: `json` for one object a line, `console` for people.
        level: Least severity that is written.
    """
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format == "json":
        last: list[structlog.types.Processor] = [
            structlog.processors.format_exc_info,
            _hide_secrets,
            structlog.processors.JSONRenderer(),
        ]
    else:
        last = [_hide_secrets, _console()]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # RQ narrates every job at INFO in sentences; our own events say the same with fields.
    for noisy in ("rq", "rq.worker", "rq.job", "rq.queue", "alembic", "httpx", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of one module; its records carry the bound job, tenant and stage."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
