from __future__ import annotations

import pytest

from emberq.errors import EmberqError, InternalError, all_errors, causes, error_for_code

CONTRACT = [
    "unsupported_media_type",
    "empty_file",
    "no_text_found",
    "encrypted_file",
    "corrupt_file",
    "file_too_large",
    "archive_bomb",
    "extraction_timeout*",
    "extraction_crashed*",
    "memory_limit_exceeded*",
    "embedding_unavailable*",
    "embedding_rejected",
    "embedding_dimension_mismatch",
    "database_unavailable*",
    "redis_unavailable*",
    "blob_missing",
    "worker_lost*",
    "job_timeout*",
    "job_stalled*",
    "quarantined",
    "cancelled",
    "collection_not_found",
    "file_not_found",
    "job_not_found",
    "key_not_found",
    "unauthorized",
    "forbidden",
    "rate_limited*",
    "invalid_request",
    "idempotency_conflict",
    "setting_invalid",
    "internal_error",
]


def test_the_codes_are_those_of_the_contract_and_so_is_what_may_be_retried() -> None:
    from emberq import errors  # noqa: F401 - the tree is built by the import

    ours = {code for code, error in all_errors().items() if error.__module__.startswith("emberq.errors.")}
    assert ours == {code.rstrip("*") for code in CONTRACT}
    for code in CONTRACT:
        assert error_for_code(code.rstrip("*")).retryable is code.endswith("*"), code


@pytest.mark.parametrize("error", all_errors().values(), ids=lambda error: error.code)
def test_every_error_says_what_happened_and_what_to_do(error: type[EmberqError]) -> None:
    made = error()
    assert made.message.endswith(".")
    assert made.hint
    assert 400 <= made.status < 600


def test_an_unknown_code_is_an_internal_error() -> None:
    assert error_for_code("no_such_code") is InternalError


def test_the_tree_in_the_docstring_names_every_code() -> None:
    from emberq import errors

    for code in CONTRACT:
        assert code.rstrip("*") in (errors.__doc__ or "")


def test_the_causes_are_walked_down_to_the_first_one() -> None:
    try:
        try:
            try:
                raise KeyError("first")
            except KeyError:
                raise ValueError("while handling it") from None
        except ValueError as exc:
            raise InternalError from exc
    except InternalError as exc:
        last = exc
    assert [type(one) for one in causes(last)] == [InternalError, ValueError, KeyError]
    assert list(causes(None)) == []


def test_a_chain_that_bites_its_own_tail_ends() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert list(causes(first)) == [first, second]
