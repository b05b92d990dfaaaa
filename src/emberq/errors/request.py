"""Errors of a request: it cannot be carried out as it is."""

from __future__ import annotations

from emberq.errors.base import EmberqError

__all__ = [
    "CollectionNotFound",
    "FileNotFound",
    "Forbidden",
    "IdempotencyConflict",
    "InvalidRequest",
    "JobNotFound",
    "KeyNotFound",
    "ModelNotFound",
    "RateLimited",
    "RequestError",
    "RequestTooLarge",
    "RequestTooSlow",
    "SettingInvalid",
    "Unauthorized",
]


class RequestError(EmberqError):
    """The request cannot be carried out as it is."""

    status = 400


class CollectionNotFound(RequestError):
    """There is no collection of that name."""

    code = "collection_not_found"
    status = 404
    default_hint = "`emberq collections list` shows the collections; `emberq collections create` makes one."


class FileNotFound(RequestError):
    """There is no file of that id."""

    code = "file_not_found"
    status = 404
    default_hint = "`emberq files list -c COLLECTION` shows the files."


class JobNotFound(RequestError):
    """There is no job of that id."""

    code = "job_not_found"
    status = 404
    default_hint = "`emberq jobs list` shows the jobs."


class KeyNotFound(RequestError):
    """There is no valid API key of that name, prefix or id."""

    code = "key_not_found"
    status = 404
    default_hint = "`emberq keys list` shows the keys of a tenant."


class Unauthorized(RequestError):
    """The API key is missing, unknown, expired or revoked."""

    code = "unauthorized"
    status = 401
    default_hint = "Send `Authorization: Bearer KEY`; `emberq keys create` makes a key."


class Forbidden(RequestError):
    """The API key does not allow this."""

    code = "forbidden"
    status = 403
    default_hint = "Use a key with the scope that this call needs."


class RateLimited(RequestError):
    """Too much work is waiting already."""

    code = "rate_limited"
    status = 429
    retryable = True
    default_hint = "Send it again after the time in Retry-After."


class InvalidRequest(RequestError):
    """The request is malformed."""

    code = "invalid_request"
    status = 422
    default_hint = "See /openapi.json for the request's form."


class ModelNotFound(InvalidRequest):
    """There is no model of that name on this machine."""

    status = 404
    default_hint = "`emberq models list` shows the models; `emberq models pull` fetches one."


class RequestTooLarge(InvalidRequest):
    """The request is larger than this call takes."""

    status = 413
    default_hint = "Send it in several parts."


class RequestTooSlow(InvalidRequest):
    """The request did not arrive in time."""

    status = 408
    default_hint = "Send it again over a faster connection."


class IdempotencyConflict(RequestError):
    """This Idempotency-Key was used for another upload."""

    code = "idempotency_conflict"
    status = 409
    default_hint = "Use a new Idempotency-Key for a new upload."


class SettingInvalid(RequestError):
    """The setting does not exist or the value is not allowed."""

    code = "setting_invalid"
    status = 422
    default_hint = "`emberq config list` shows the settings and what each allows."
