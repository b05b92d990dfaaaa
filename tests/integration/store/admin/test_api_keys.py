"""What a new API key allows."""

from __future__ import annotations

import pytest

from emberq.errors import Forbidden
from emberq.store.admin.api_keys import authenticate, create_key
from emberq.store.services import Services


@pytest.mark.parametrize("scopes", [None, []])
def test_a_key_made_without_scopes_allows_all_to_the_first_tenant_and_documents_to_others(
    services: Services, scopes: list[str] | None
) -> None:
    with services.database.system_transaction() as connection:
        first = create_key(connection, name="first", scopes=scopes)
        theirs = create_key(connection, name="theirs", tenant="acme", scopes=scopes)
        assert authenticate(connection, first) == ("default", frozenset({"read", "write", "admin"}))
        assert authenticate(connection, theirs) == ("acme", frozenset({"read", "write"}))


def test_an_unknown_scope_is_refused(services: Services) -> None:
    with services.database.system_transaction() as connection, pytest.raises(Forbidden, match="wirte"):
        create_key(connection, name="typo", scopes=["wirte"])
