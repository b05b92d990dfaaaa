"""`emberq openwebui external-knowledge`: the role and the view, printed or made."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from emberq.cli.output import print_json

if TYPE_CHECKING:
    from emberq.openwebui.external_knowledge import KnowledgeView

__all__ = ["apply_view", "print_sql", "print_steps"]

#: Stands where the DBA's own choice belongs.
_PASSWORD_PLACEHOLDER = "CHOOSE-A-PASSWORD"  # noqa: S105 - no password

#: A tenant's collections, or the one of this name; parameters: tenant, name or nothing.
_COLLECTIONS = (
    "SELECT name FROM collections WHERE tenant = %s AND name = coalesce(nullif(%s, ''), name) ORDER BY name"
)


def print_sql(view: KnowledgeView) -> None:
    """Print the statements for `psql`, to be run by the owner of emberq's tables who may make roles."""
    sys.stdout.write("-- By somebody who may make roles (CREATEROLE):\n")
    for statement in view.make_role(_PASSWORD_PLACEHOLDER):
        sys.stdout.write(f"{statement};\n")
    sys.stdout.write("-- By the owner of emberq's tables:\nBEGIN;\n")
    for statement in view.make_view():
        sys.stdout.write(f"{statement};\n")
    sys.stdout.write("COMMIT;\n")


def apply_view(view: KnowledgeView) -> tuple[str, list[str]]:
    """Make the role and the view, and return the endpoint for Open WebUI and the collections it can search.

    The role gets a new password every time.

    Raises:
        InvalidRequest: If the database's account may not make roles.
        CollectionNotFound: If the collection is not there.
        DatabaseUnavailable: If PostgreSQL does not answer.
    """
    import psycopg

    from emberq.cli.commands.processes import open_database
    from emberq.errors import CollectionNotFound, DatabaseUnavailable, InvalidRequest
    from emberq.openwebui.external_knowledge import endpoint

    password = secrets.token_urlsafe(24)
    with open_database() as (url, admin_url):
        try:
            with psycopg.connect(_plain(admin_url), autocommit=True, connect_timeout=10) as admin:
                # Its settings are known once the extension is loaded.
                admin.execute("SELECT '[1]'::vector")
                for statement in view.make_role(password):
                    admin.execute(statement.encode())
            with psycopg.connect(_plain(url), connect_timeout=10) as owner:
                for statement in view.make_view():
                    owner.execute(statement.encode())
                found = [str(name) for (name,) in owner.execute(_COLLECTIONS, (view.tenant, view.collection))]
                if view.collection and not found:
                    raise CollectionNotFound(f"There is no collection named {view.collection!r}.")
        except psycopg.OperationalError as exc:
            raise DatabaseUnavailable(f"PostgreSQL does not answer: {str(exc).splitlines()[0]}") from exc
        except psycopg.errors.InsufficientPrivilege as exc:
            raise InvalidRequest(
                f"The database's account may not do that: {str(exc).splitlines()[0]}",
                hint="Let a DBA run what --print-sql prints.",
            ) from exc
    return endpoint(url, view.role, password), found


def print_steps(view: KnowledgeView, address: str, collections: Sequence[str], *, json_output: bool) -> None:
    """Print what is left to do in Open WebUI."""
    from emberq.openwebui.external_knowledge import connection_form

    bodies: list[dict[str, Any]] = connection_form(view, address, collections, question="what is in here")
    if json_output:
        print_json({"role": view.role, "endpoint": address, "sources": bodies})
        return
    config = connection_form(view, address, ["…"], question="")[0]["source"]["config"]
    sys.stdout.write(
        f"The role {view.role} may read {config['table_name']} and nothing else.\n\n"
        "In Open WebUI, as an admin: Workspace → Knowledge → + → External, provider pgvector\n"
        f"  Endpoint, with the password, shown only this once: {address}\n"
        f"  Collection: {', '.join(collections) or 'none there yet'}\n"
    )
    for name, value in config.items():
        sys.stdout.write(f"  {name.replace('_', ' ').capitalize()}: {value}\n")
    sys.stdout.write(
        "\nOr over REST: --json prints the bodies of POST /api/v1/knowledge/external/source/create.\n"
        "Open WebUI's embedding model has to be emberq's: `emberq openwebui doctor` compares them.\n"
    )


def _plain(url: str) -> str:
    return "postgresql://" + url.split("://", 1)[1]
