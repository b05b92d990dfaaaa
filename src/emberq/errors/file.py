"""Errors of the file itself: another attempt ends the same way."""

from __future__ import annotations

from emberq.errors.base import EmberqError

__all__ = [
    "ArchiveBomb",
    "CorruptFile",
    "EmptyFile",
    "EncryptedFile",
    "FileError",
    "FileTooLarge",
    "NoTextFound",
    "UnsupportedMediaType",
]


class FileError(EmberqError):
    """The file cannot be processed as it is."""

    status = 422


class UnsupportedMediaType(FileError):
    """The file is of a type emberq cannot read."""

    code = "unsupported_media_type"
    status = 415
    default_hint = "Convert it to a format that emberq reads, such as PDF, DOCX, HTML or plain text."


class EmptyFile(FileError):
    """The file has no bytes."""

    code = "empty_file"
    default_hint = "Check the export or upload that produced it, and upload it again."


class NoTextFound(FileError):
    """The file was read, but it has no text."""

    code = "no_text_found"
    default_hint = "Check that it shows text when it is opened in its program."


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
