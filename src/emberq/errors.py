"""Every failure emberq can name, as one tree; each class has a stable code and a next step.

::

    EmberqError
    ├── FileError                        the file itself; running it again changes nothing
    │   ├── UnsupportedMediaType         unsupported_media_type
    │   ├── EmptyFile                    empty_file
    │   ├── NoTextFound                  no_text_found
    │   ├── EncryptedFile                encrypted_file
    │   ├── CorruptFile                  corrupt_file
    │   ├── FileTooLarge                 file_too_large
    │   └── ArchiveBomb                  archive_bomb
    ├── ProcessingError                  the attempt; most are worth another one
    │   ├── ExtractionTimeout *          extraction_timeout
    │   ├── ExtractionCrashed *          extraction_crashed
    │   ├── MemoryLimitExceeded *        memory_limit_exceeded
    │   ├── EmbeddingUnavailable *       embedding_unavailable
    │   ├── EmbeddingRejected            embedding_rejected
    │   ├── EmbeddingDimensionMismatch   embedding_dimension_mismatch
    │   ├── BlobMissing                  blob_missing
    │   ├── WorkerLost *                 worker_lost
    │   ├── JobTimeout *                 job_timeout
    │   ├── JobStalled *                 job_stalled
    │   ├── Quarantined                  quarantined
    │   └── Cancelled                    cancelled
    ├── UnavailableError                 an engine emberq needs is away; work waits and goes on
    │   ├── DatabaseUnavailable *        database_unavailable
    │   └── RedisUnavailable *           redis_unavailable
    ├── RequestError                     what was asked for cannot be done as asked
    │   ├── CollectionNotFound           collection_not_found
    │   ├── FileNotFound                 file_not_found
    │   ├── JobNotFound                  job_not_found
    │   ├── Unauthorized                 unauthorized
    │   ├── Forbidden                    forbidden
    │   ├── RateLimited *                rate_limited
    │   ├── InvalidRequest               invalid_request
    │   │   ├── ModelNotFound            invalid_request
    │   │   └── RequestTooLarge          invalid_request
    │   ├── IdempotencyConflict          idempotency_conflict
    │   └── SettingInvalid               setting_invalid
    └── InternalError                    internal_error
        ├── ResourceFailed               internal_error
        ├── ServiceStopping *            internal_error
        └── StorageUnavailable *         internal_error

A star marks the retryable ones. The codes are part of the interface and never change meaning.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "ArchiveBomb",
    "BlobMissing",
    "Cancelled",
    "CollectionNotFound",
    "CorruptFile",
    "DatabaseUnavailable",
    "EmbeddingDimensionMismatch",
    "EmbeddingRejected",
    "EmbeddingUnavailable",
    "EmberqError",
    "EmptyFile",
    "EncryptedFile",
    "ExtractionCrashed",
    "ExtractionTimeout",
    "FileError",
    "FileNotFound",
    "FileTooLarge",
    "Forbidden",
    "IdempotencyConflict",
    "InternalError",
    "InvalidRequest",
    "JobNotFound",
    "JobStalled",
    "JobTimeout",
    "MemoryLimitExceeded",
    "ModelNotFound",
    "NoTextFound",
    "ProcessingError",
    "Quarantined",
    "RateLimited",
    "RedisUnavailable",
    "RequestError",
    "RequestTooLarge",
    "ResourceFailed",
    "ServiceStopping",
    "SettingInvalid",
    "StorageUnavailable",
    "Unauthorized",
    "UnavailableError",
    "UnsupportedMediaType",
    "WorkerLost",
    "all_errors",
    "error_for_code",
]


class EmberqError(Exception):
    """Something went wrong."""

    #: Stable, machine-readable name (docs/reference/errors.md).
    code: ClassVar[str] = "internal_error"
    #: HTTP status the API answers with when a request meets this error.
    status: ClassVar[int] = 500
    #: Whether the same work may succeed when it is tried again.
    retryable: ClassVar[bool] = False
    #: Pause before the second attempt, in units of the setting job_retry_delay; doubles every time.
    retry_pause: ClassVar[float] = 1.0
    #: What to do next, when the place that raises knows nothing better.
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str | None = None, *, hint: str | None = None, **context: Any) -> None:
        """Describe one failure.

        Args:
            message: What happened, as one sentence; the first line of the class docstring if left out.
            hint: What to do next; the class's `default_hint` if left out.
            context: Facts for logs and problem details (`file_id`, `job_id`, `stage`, …), never secrets.
        """
        self.message = message or (self.__doc__ or "").strip().splitlines()[0]
        self.hint = self.default_hint if hint is None else hint
        self.context = context
        super().__init__(self.message)

    def as_dict(self) -> dict[str, Any]:
        """Return `{code, message, hint}`, the form stored with a job and sent to clients."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class FileError(EmberqError):
    """The file cannot be processed as it is."""

    status = 422


class UnsupportedMediaType(FileError):
    """The file is of a type emberq cannot read."""

    code = "unsupported_media_type"
    status = 415
    default_hint = "Convert it to PDF, DOCX, PPTX, XLSX, HTML, Markdown, CSV, TXT, EML, EPUB or JSON."


class EmptyFile(FileError):
    """The file has no bytes."""

    code = "empty_file"
    default_hint = "Check the export or upload that produced it, and upload it again."


class NoTextFound(FileError):
    """The file was read, but it has no text."""

    code = "no_text_found"
    default_hint = "If it is a scan, run OCR over it first and upload the result."


class EncryptedFile(FileError):
    """The file is protected by a password."""

    code = "encrypted_file"
    default_hint = "Remove the password and upload the file again."


class CorruptFile(FileError):
    """The file is damaged or cut short."""

    code = "corrupt_file"
    default_hint = "Open it in the program that made it, save it anew, and upload it again."


class FileTooLarge(FileError):
    """The file is larger than the limit."""

    code = "file_too_large"
    status = 413
    default_hint = "Split the file, or raise the setting max_file_size."


class ArchiveBomb(FileError):
    """The file unpacks to far more than a document should."""

    code = "archive_bomb"
    default_hint = "If the file is genuine, split it into smaller ones."


class ProcessingError(EmberqError):
    """The attempt to process the file failed."""


class ExtractionTimeout(ProcessingError):
    """Reading the file took longer than allowed."""

    code = "extraction_timeout"
    retryable = True
    default_hint = "Split the file, or raise the setting job_timeout."


class ExtractionCrashed(ProcessingError):
    """The program that reads this file type crashed on it."""

    code = "extraction_crashed"
    retryable = True
    default_hint = "Save the file anew in the program that made it; report it if that does not help."


class MemoryLimitExceeded(ProcessingError):
    """Processing the file needed more memory than allowed."""

    code = "memory_limit_exceeded"
    retryable = True
    # The machine's other work needs time to end before there is more memory.
    retry_pause = 2.0
    default_hint = "Split the file."


class EmbeddingUnavailable(ProcessingError):
    """The embedding model cannot be reached or loaded."""

    code = "embedding_unavailable"
    status = 503
    retryable = True
    default_hint = "Run `emberq models verify`, or check the embedding server named in the settings."


class EmbeddingRejected(ProcessingError):
    """The embedding model refused the text."""

    code = "embedding_rejected"
    default_hint = "Check rag_embedding_model, its key and its input limit."


class EmbeddingDimensionMismatch(ProcessingError):
    """The embedding model's vectors have another length than the collection's."""

    code = "embedding_dimension_mismatch"
    status = 409
    default_hint = "Run `emberq collections reindex` after changing the embedding model."


class BlobMissing(ProcessingError):
    """The stored bytes of the file are gone."""

    code = "blob_missing"
    default_hint = "Upload the file again, and check who else can write to the blob store."


class WorkerLost(ProcessingError):
    """The worker died while it processed the file."""

    code = "worker_lost"
    status = 503
    retryable = True
    # The worker is to blame until attempts run out, and another one is ready.
    retry_pause = 0.0
    default_hint = "Nothing to do: the file runs again. If it repeats, look for the kernel's OOM killer."


class JobTimeout(ProcessingError):
    """The job ran longer than job_timeout."""

    code = "job_timeout"
    retryable = True
    default_hint = "Split the file, or raise the setting job_timeout."


class JobStalled(ProcessingError):
    """The job made no progress for stall_timeout."""

    code = "job_stalled"
    retryable = True
    default_hint = "See the stack dump in the job's record."


class Quarantined(ProcessingError):
    """The file ended its worker too often and was set aside."""

    code = "quarantined"
    default_hint = "Look at the job's attempts, then `emberq jobs retry` it or delete the file."


class Cancelled(ProcessingError):
    """The job was cancelled."""

    code = "cancelled"
    status = 409
    default_hint = "`emberq jobs retry` runs it again."


class UnavailableError(EmberqError):
    """An engine emberq needs is away."""

    status = 503
    retryable = True
    # Whoever could write this failure down reached the engine again.
    retry_pause = 0.1


class DatabaseUnavailable(UnavailableError):
    """PostgreSQL cannot be reached."""

    code = "database_unavailable"
    default_hint = "Check EMBERQ_DATABASE_URL and that the server runs; `emberq doctor` tells more."


class RedisUnavailable(UnavailableError):
    """Redis cannot be reached."""

    code = "redis_unavailable"
    default_hint = "Check EMBERQ_REDIS_URL and that the server runs; `emberq doctor` tells more."


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


class Unauthorized(RequestError):
    """The API key is missing, unknown or revoked."""

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
    # Another process is there already, or the next one soon.
    retry_pause = 0.1
    default_hint = "Send the request again: what was stored goes on meanwhile."


class StorageUnavailable(InternalError):
    """The blob store cannot be read or written."""

    status = 503
    retryable = True
    # As with any engine that is away: whoever could write this down goes on.
    retry_pause = 0.1
    default_hint = "Check the disk under EMBERQ_BLOB_URL: that it is mounted, writable and not full."


def all_errors() -> dict[str, type[EmberqError]]:
    """Return every concrete error class by its code."""
    found: dict[str, type[EmberqError]] = {}
    pending: list[type[EmberqError]] = [EmberqError]
    while pending:
        cls = pending.pop()
        pending.extend(cls.__subclasses__())
        if "code" in vars(cls) and cls is not EmberqError:
            found[cls.code] = cls
    return found


def error_for_code(code: str) -> type[EmberqError]:
    """Return the error class of a code, `InternalError` for one that is not known."""
    return all_errors().get(code, InternalError)
