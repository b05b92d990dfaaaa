"""Errors of one attempt to process a file."""

from __future__ import annotations

from emberq.errors.base import EmberqError

__all__ = [
    "BlobMissing",
    "Cancelled",
    "EmbeddingDimensionMismatch",
    "EmbeddingRejected",
    "EmbeddingUnavailable",
    "ExtractionCrashed",
    "ExtractionTimeout",
    "JobStalled",
    "JobTimeout",
    "MemoryLimitExceeded",
    "ProcessingError",
    "Quarantined",
    "WorkerLost",
]


class ProcessingError(EmberqError):
    """The attempt to process the file failed."""


class ExtractionTimeout(ProcessingError):
    """Reading the file took longer than allowed."""

    code = "extraction_timeout"
    retryable = True
    default_hint = "Split the file, or raise the setting file_budget."


class ExtractionCrashed(ProcessingError):
    """The program that reads this file type crashed on it."""

    code = "extraction_crashed"
    retryable = True
    default_hint = "Save the file anew in the program that made it; report it if that does not help."


class MemoryLimitExceeded(ProcessingError):
    """Processing the file needed more memory than allowed."""

    code = "memory_limit_exceeded"
    retryable = True
    # Other work on the machine needs time to end before there is more memory.
    retry_pause = 2.0
    default_hint = "Split the file, or raise the setting file_budget."


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
    # The worker counts as the cause until the attempts run out, and another worker is ready.
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
