"""The tree of emberq's errors; each class has a stable code and a hint what to do next.

::

    EmberqError
    ├── FileError                        the file itself; another attempt ends the same way
    │   ├── UnsupportedMediaType         unsupported_media_type
    │   ├── EmptyFile                    empty_file
    │   ├── NoTextFound                  no_text_found
    │   ├── EncryptedFile                encrypted_file
    │   ├── CorruptFile                  corrupt_file
    │   ├── FileTooLarge                 file_too_large
    │   └── ArchiveBomb                  archive_bomb
    ├── ProcessingError                  one attempt failed; most are retried
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
    ├── UnavailableError                 an engine cannot be reached; work waits for it
    │   ├── DatabaseUnavailable *        database_unavailable
    │   └── RedisUnavailable *           redis_unavailable
    ├── RequestError                     the request cannot be carried out as it is
    │   ├── CollectionNotFound           collection_not_found
    │   ├── FileNotFound                 file_not_found
    │   ├── JobNotFound                  job_not_found
    │   ├── KeyNotFound                  key_not_found
    │   ├── Unauthorized                 unauthorized
    │   ├── Forbidden                    forbidden
    │   ├── RateLimited *                rate_limited
    │   ├── InvalidRequest               invalid_request
    │   │   ├── ModelNotFound            invalid_request
    │   │   └── RequestTooLarge          invalid_request
    │   ├── IdempotencyConflict          idempotency_conflict
    │   └── SettingInvalid               setting_invalid
    └── InternalError                    internal_error; errors without a better name
        ├── ResourceFailed               internal_error
        ├── ServiceStopping *            internal_error
        └── StorageUnavailable *         internal_error

A star marks the retryable ones. The codes are part of the interface and never change their meaning.
Each branch is a module of this package.
"""

from __future__ import annotations

from emberq.errors.base import *
from emberq.errors.file import *
from emberq.errors.internal import *
from emberq.errors.processing import *
from emberq.errors.request import *
from emberq.errors.unavailable import *
