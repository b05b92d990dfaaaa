"""What an API key allows, for how long, and who is told when it changes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, func, select, update

from emberq.errors import Forbidden, InvalidRequest, KeyNotFound, Unauthorized
from emberq.store.admin.api_keys import (
    authenticate,
    create_key,
    list_keys,
    note_use,
    revoke_key,
    rotate_key,
)
from emberq.store.admin.audit import list_entries
from emberq.store.schema.admin_tables import ApiKey
from emberq.store.services import Services


@pytest.fixture
def connection(services: Services) -> Iterator[Connection]:
    with services.database.system_transaction() as connection:
        yield connection


def _age(connection: Connection, seconds: float) -> None:
    """Let all keys be older, as if they had been made `seconds` ago."""
    past = func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    connection.execute(
        update(ApiKey).values(
            created_at=ApiKey.created_at - past,
            expires_at=ApiKey.expires_at - past,
            last_used_at=ApiKey.last_used_at - past,
        )
    )


@pytest.mark.parametrize("scopes", [None, []])
def test_a_key_made_without_scopes_allows_all_to_the_first_tenant_and_documents_to_others(
    connection: Connection, scopes: list[str] | None
) -> None:
    first = create_key(connection, name="first", scopes=scopes)
    theirs = create_key(connection, name="theirs", tenant="acme", scopes=scopes)

    owner = authenticate(connection, first)
    assert (owner.tenant, owner.scopes) == ("default", frozenset({"read", "write", "admin"}))
    owner = authenticate(connection, theirs)
    assert (owner.tenant, owner.scopes) == ("acme", frozenset({"read", "write"}))


def test_an_unknown_scope_is_refused(connection: Connection) -> None:
    with pytest.raises(Forbidden, match="wirte"):
        create_key(connection, name="typo", scopes=["wirte"])


def test_a_key_is_valid_until_it_expires(connection: Connection) -> None:
    key = create_key(connection, name="short", valid_seconds=60)
    assert authenticate(connection, key).expires_at is not None

    _age(connection, 59)
    authenticate(connection, key)
    _age(connection, 2)
    with pytest.raises(Unauthorized):
        authenticate(connection, key)


@pytest.mark.parametrize("seconds", [0, -1, 1e12])
def test_a_key_cannot_be_made_for_no_time_or_for_ever(connection: Connection, seconds: float) -> None:
    with pytest.raises(InvalidRequest):
        create_key(connection, name="odd", valid_seconds=seconds)


def test_the_last_use_is_due_once_a_minute(connection: Connection) -> None:
    key = create_key(connection, name="used")
    owner = authenticate(connection, key)
    assert owner.is_use_due

    note_use(connection, owner.key_id)
    assert not authenticate(connection, key).is_use_due
    assert list_keys(connection, "default")[0]["last_used_at"] is not None
    _age(connection, 61)
    assert authenticate(connection, key).is_use_due


def test_a_rotated_key_is_valid_beside_the_new_one_for_the_grace_period(connection: Connection) -> None:
    old = create_key(connection, name="app", tenant="acme", scopes=["read"])

    new = rotate_key(connection, "acme", "app", grace_seconds=60)

    assert authenticate(connection, old).name == "app"
    owner = authenticate(connection, new)
    assert (owner.tenant, owner.scopes, owner.expires_at) == ("acme", frozenset({"read"}), None)
    _age(connection, 61)
    with pytest.raises(Unauthorized):
        authenticate(connection, old)
    authenticate(connection, new)


def test_a_rotation_prolongs_no_key_and_makes_one_that_is_valid_as_long(connection: Connection) -> None:
    old = create_key(connection, name="app", valid_seconds=30)

    new = rotate_key(connection, "default", old[:8], grace_seconds=3600)

    _age(connection, 29)
    authenticate(connection, old)
    authenticate(connection, new)
    _age(connection, 2)
    for key in (old, new):
        with pytest.raises(Unauthorized):
            authenticate(connection, key)


def test_a_rotation_names_exactly_one_valid_key_of_the_tenant(connection: Connection) -> None:
    twins = [create_key(connection, name="twin") for _ in range(2)]
    with pytest.raises(InvalidRequest, match="2 valid keys") as refused:
        rotate_key(connection, "default", "twin", grace_seconds=0)
    assert all(key[:8] in refused.value.hint for key in twins)

    for named in ("other", str(uuid.uuid4()), ""):
        with pytest.raises(KeyNotFound):
            rotate_key(connection, "default", named, grace_seconds=0)
    with pytest.raises(KeyNotFound):
        rotate_key(connection, "acme", twins[0][:8], grace_seconds=0)

    revoke_key(connection, "default", twins[0][:8])
    rotate_key(connection, "default", "twin", grace_seconds=0)


def test_the_audit_log_says_who_did_what_and_no_secret(connection: Connection) -> None:
    old = create_key(connection, name="app", tenant="acme", actor="boss (eq_12345)")
    new = rotate_key(connection, "acme", "app", grace_seconds=5, actor="boss (eq_12345)")
    revoke_key(connection, "acme", new[:8])

    entries = list_entries(connection, tenant="acme")

    assert [(entry["actor"], entry["action"], entry["target"]) for entry in entries] == [
        ("command line", "key.revoke", f"app ({new[:8]})"),
        ("boss (eq_12345)", "key.rotate", f"app ({old[:8]})"),
        ("boss (eq_12345)", "key.create", f"app ({old[:8]})"),
    ]
    assert not any(key in str(entry) for entry in entries for key in (old, new))
    assert connection.execute(select(func.count()).select_from(ApiKey)).scalar_one() == 2
