"""Collections: named sets of files that are searched together.

The collection of a tenant's extractions is not among them: see `emberq.store.files.extractions`.
"""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from emberq.errors import CollectionNotFound, InvalidRequest
from emberq.store.schema.tables import Collection, CollectionKind, FileRow, Pause

_is_documents = Collection.kind == CollectionKind.DOCUMENTS


def create_collection(
    connection: Connection,
    tenant: str,
    name: str,
    *,
    embedding_model: str,
    metadata: dict[str, Any] | None = None,
) -> RowMapping:
    """Make a collection.

    Raises:
        InvalidRequest: If the tenant already has a collection of that name.
    """
    made = (
        connection.execute(
            insert(Collection)
            .values(
                id=uuid.uuid4(),
                tenant=tenant,
                name=name,
                embedding_model=embedding_model,
                meta=metadata or {},
            )
            .on_conflict_do_nothing()
            .returning(*Collection.__table__.c)
        )
        .mappings()
        .one_or_none()
    )
    if made is None:
        raise _name_is_taken(name)
    return made


def update_collection(
    connection: Connection,
    tenant: str,
    name: str,
    *,
    new_name: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Change a collection's name and metadata, as far as they are given; its files and jobs stay as they are.

    Raises:
        CollectionNotFound: If the tenant has no collection of that name.
        InvalidRequest: If the tenant already has a collection of the new name.
    """
    found = get_collection(connection, tenant, name)
    changes = {key: value for key, value in (("name", new_name), ("meta", metadata)) if value is not None}
    if not changes:
        return
    try:
        with connection.begin_nested():
            connection.execute(update(Collection).where(Collection.id == found["id"]).values(**changes))
            connection.execute(
                update(Pause).where(Pause.collection_id == found["id"]).values(name=new_name or name)
            )
    except IntegrityError:
        raise _name_is_taken(new_name or name) from None


def _name_is_taken(name: str) -> InvalidRequest:
    return InvalidRequest(
        f"There is already a collection named {name!r}.",
        hint="Use it as it is, choose another name, or delete it first.",
    )


def get_collection(connection: Connection, tenant: str, name: str) -> RowMapping:
    """Return one collection.

    Raises:
        CollectionNotFound: If the tenant has no collection of that name.
    """
    statement = select(*Collection.__table__.c).where(
        Collection.tenant == tenant, Collection.name == name, _is_documents
    )
    return _found(connection.execute(statement).mappings().one_or_none(), name)


def _found(found: RowMapping | None, name: str) -> RowMapping:
    if found is None:
        raise CollectionNotFound(f"There is no collection named {name!r}.")
    return found


def list_collections(connection: Connection, tenant: str, *, after: str = "", limit: int) -> list[RowMapping]:
    """Return a page of the tenant's collections by name, each with its number of files.

    Args:
        connection: The transaction.
        tenant: The tenant.
        after: The name of the last collection of the page before.
        limit: Most collections to return.
    """
    statement = _select_with_files(tenant).where(Collection.name > after)
    return list(connection.execute(statement.order_by(Collection.name).limit(limit)).mappings())


def get_collection_with_files(connection: Connection, tenant: str, name: str) -> RowMapping:
    """Return one collection with its number of files.

    Raises:
        CollectionNotFound: If the tenant has no collection of that name.
    """
    statement = _select_with_files(tenant).where(Collection.name == name)
    return _found(connection.execute(statement).mappings().one_or_none(), name)


def _select_with_files(tenant: str) -> Select[Any]:
    files = (
        select(func.count())
        .select_from(FileRow)
        .where(FileRow.collection_id == Collection.id, FileRow.deleted_at.is_(None))
        .scalar_subquery()
    )
    return select(*Collection.__table__.c, files.label("files")).where(
        Collection.tenant == tenant, _is_documents
    )


def delete_collection(connection: Connection, tenant: str, name: str) -> None:
    """Delete a collection with its files, jobs and chunks; a running job of it can no longer commit.

    Raises:
        CollectionNotFound: If the tenant has no collection of that name.
    """
    found = get_collection(connection, tenant, name)
    connection.execute(delete(Collection).where(Collection.id == found["id"]))
