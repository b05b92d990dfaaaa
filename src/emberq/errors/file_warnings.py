"""Warnings of files: what of a file is not in its text, though the file was read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class WarningCode(StrEnum):
    """The kinds of warnings; the codes are stable."""

    IMAGES_SKIPPED = "images_skipped"
    ATTACHMENT_UNREADABLE = "attachment_unreadable"
    FORM_PLACEHOLDER = "form_placeholder"
    FONT_WITHOUT_UNICODE = "font_without_unicode"
    PART_UNREADABLE = "part_unreadable"
    PART_ENCRYPTED = "part_encrypted"
    TRUNCATED_AT_LIMIT = "truncated_at_limit"

    @property
    def message(self) -> str:
        """What happened."""
        return _SENTENCES[self][0]

    @property
    def hint(self) -> str:
        """What to do next."""
        return _SENTENCES[self][1]


#: The message and the hint of each code.
_SENTENCES: Final = {
    WarningCode.IMAGES_SKIPPED: (
        "Pictures without a text layer were left out.",
        "If their text matters, install emberq[ocr] and set ocr_enabled.",
    ),
    WarningCode.ATTACHMENT_UNREADABLE: (
        "Files inside the file cannot be read and were left out.",
        "Upload them by themselves to see why.",
    ),
    WarningCode.FORM_PLACEHOLDER: (
        "The text is the placeholder of a form that only another program shows.",
        "Open the form in that program and print it into a new PDF.",
    ),
    WarningCode.FONT_WITHOUT_UNICODE: (
        "A font does not tell which characters it shows, so its text cannot be read.",
        "Make the PDF anew with embedded Unicode maps, or use emberq[ocr].",
    ),
    WarningCode.PART_UNREADABLE: (
        "Parts of the file are damaged and were left out.",
        "Open the file in the program that made it and save it again.",
    ),
    WarningCode.PART_ENCRYPTED: (
        "Parts of the file are encrypted and were left out.",
        "Decrypt them in the program that has the key, and upload the file that it saves.",
    ),
    WarningCode.TRUNCATED_AT_LIMIT: (
        "The file has more than a limit allows; the rest was left out.",
        "Split the file, or raise the setting file_budget.",
    ),
}


@dataclass(frozen=True, slots=True)
class FileWarning:
    """What was left out of a file's text.

    Attributes:
        code: The kind.
        count: How many pictures, files, pages or fonts it concerns.
        names: The first of their names, where they have names.
    """

    code: WarningCode
    count: int = 1
    names: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON, with the sentences of the code."""
        return {
            "code": self.code.value,
            "message": self.code.message,
            "hint": self.code.hint,
            "count": self.count,
            "names": list(self.names),
        }
