from __future__ import annotations

import pytest

from emberq.api.user_messages import user_message
from emberq.errors import (
    EmberqError,
    EncryptedFile,
    ServiceStopping,
    UnsupportedMediaType,
    all_errors,
)


@pytest.mark.parametrize("error", [*all_errors().values(), ServiceStopping], ids=lambda error: error.__name__)
def test_every_error_is_one_line_that_names_the_file_and_what_to_do(error: type[EmberqError]) -> None:
    said = user_message(error(), "my report.pdf")
    assert said.startswith("my report.pdf ")
    assert said.endswith(".")
    assert "\n" not in said
    assert len(said) < 250
    assert any(mark in said for mark in ": ;")


def test_what_a_file_turned_out_to_be_is_told() -> None:
    error = UnsupportedMediaType("The file is an RTF document.", hint="Save it as DOCX or PDF.")
    assert user_message(error, "a.pdf") == (
        "a.pdf was not read: the file is an RTF document; save it as DOCX or PDF."
    )


def test_names_are_shown_on_one_line_and_not_at_any_length() -> None:
    assert user_message(EncryptedFile(), "a\nb.pdf").startswith("a b.pdf is password-protected")
    assert len(user_message(EncryptedFile(), "x" * 5000)) < 250
    stored = "0b8c2f6e-1111-4222-8333-123456789abc_a.pdf"
    assert user_message(EncryptedFile(), stored).startswith("a.pdf is password-protected")
    assert user_message(EncryptedFile()).startswith("The file is password-protected")
