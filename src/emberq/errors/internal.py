"""Errors that no other branch names."""

from __future__ import annotations

from emberq.errors.base import EmberqError

__all__ = ["InternalError", "ResourceFailed", "ServiceStopping", "StorageUnavailable"]


class InternalError(EmberqError):
    """Something failed that emberq has no better name for."""

    code = "internal_error"
    default_hint = "See the worker's log; please report it."


class ResourceFailed(InternalError):
    """A resource could not be loaded."""

    default_hint = "The cause is in the message; `EMBERQ_PRELOAD` names the modules that declare resources."


class ServiceStopping(InternalError):
    """This process stops, and answers no request that has to wait."""

    status = 503
    retryable = True
    # Another process serves already, or will soon.
    retry_pause = 0.1
    default_hint = "Send the request again: what was stored goes on meanwhile."


class StorageUnavailable(InternalError):
    """The blob store cannot be read or written."""

    status = 503
    retryable = True
    # As for an engine: the process that recorded this error reaches the store again, or will soon.
    retry_pause = 0.1
    default_hint = "Check the disk under EMBERQ_BLOB_URL: that it is mounted, writable and not full."
