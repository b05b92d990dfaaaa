"""Steps of `emberq openwebui external-knowledge`: print or create the role and the view."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from emberq.cli.output import print_json

if TYPE_CHECKING:
    from emberq.openwebui.external_knowledge import KnowledgeView


#: Placeholder for a password that the DBA chooses.
_PASSWORD_PLACEHOLDER = "CHOOSE-A-PASSWORD"  # noqa: S105 - no password

#: Names of a tenant's collections; parameters: the tenant, and one collection's name or an empty string.
_COLLECTIONS = (
    "SELECT name FROM collections WHERE tenant = %s AND name = coalesce(nullif(%s, ''), name) ORDER BY name"
)


def print_sql(view: KnowledgeView) -> None:
    """Print the statements for `psql`, with the privileges that each part needs."""
    sys.stdout.write("-- As a role with CREATEROLE:\n")
    for statement in view.make_role(_PASSWORD_PLACEHOLDER):
        sys.stdout.write(f"{statement};\n")
    sys.stdout.write("-- As the owner of emberq's tables:\nBEGIN;\n")
    for statement in view.make_view():
        sys.stdout.write(f"{statement};\n")
    sys.stdout.write("COMMIT;\n")


def apply_view(view: KnowledgeView) -> tuple[str, list[str]]:
    """Create the role and the view; the role gets a new password every time.

    Returns:
        The endpoint for Open WebUI, and the names of the collections that it can search.

    Raises:
        InvalidRequest: If the database's account may not create roles.
        CollectionNotFound: If the collection does not exist.
        DatabaseUnavailable: If PostgreSQL does not answer.
    """
    import psycopg

    from emberq.cli.commands.processes import open_database
    from emberq.errors import CollectionNotFound, DatabaseUnavailable, InvalidRequest
    from emberq.openwebui.external_knowledge import endpoint
    from emberq.store.database import TENANT_VARIABLE

    password = secrets.token_urlsafe(24)
    with open_database() as url:
        try:
            with psycopg.connect(_plain(url), autocommit=True, connect_timeout=10) as admin:
                # The role's hnsw setting exists once the extension is loaded.
                admin.execute("SELECT '[1]'::vector")
                for statement in view.make_role(password):
                    admin.execute(statement.encode())
            with psycopg.connect(_plain(url), connect_timeout=10) as owner:
                for statement in view.make_view():
                    owner.execute(statement.encode())
                owner.execute("SELECT set_config(%s, %s, true)", (TENANT_VARIABLE, view.tenant))
                found = [str(name) for (name,) in owner.execute(_COLLECTIONS, (view.tenant, view.collection))]
                if view.collection and not found:
                    raise CollectionNotFound(f"There is no collection named {view.collection!r}.")
        except psycopg.OperationalError as exc:
            raise DatabaseUnavailable(f"PostgreSQL does not answer: {str(exc).splitlines()[0]}") from exc
        except psycopg.errors.InsufficientPrivilege as exc:
            raise InvalidRequest(
                f"The database's account lacks a privilege: {str(exc).splitlines()[0]}",
                hint="Let a DBA run the output of --print-sql.",
            ) from exc
    return endpoint(url, view.tenant, view.role, password), found


def print_steps(view: KnowledgeView, address: str, collections: Sequence[str], *, json_output: bool) -> None:
    """Print the remaining steps in Open WebUI."""
    from emberq.openwebui.external_knowledge import connection_form

    bodies: list[dict[str, Any]] = connection_form(view, address, collections, question="what is in here")
    if json_output:
        print_json({"role": view.role, "endpoint": address, "sources": bodies})
        return
    config = connection_form(view, address, ["…"], question="")[0]["source"]["config"]
    sys.stdout.write(
        f"The role {view.role} may read {config['table_name']} and nothing else.\n\n"
        "In Open WebUI, as an admin: Workspace → Knowledge → + → External, provider pgvector\n"
        f"  Endpoint, with the password, which is not shown again: {address}\n"
        f"  Collection: {', '.join(collections) or 'there are none yet'}\n"
    )
    for name, value in config.items():
        sys.stdout.write(f"  {name.replace('_', ' ').capitalize()}: {value}\n")
    sys.stdout.write(
        "\nOr over REST: --json prints the bodies of POST /api/v1/knowledge/external/source/create.\n"
        "Open WebUI must use emberq's embedding model: `emberq openwebui doctor` compares them.\n"
    )


def _plain(url: str) -> str:
    return "postgresql://" + url.split("://", 1)[1]
