"""`/pauses`: pause the jobs of the queue, of a tenant or of a collection, and resume them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from emberq.api.auth import Caller, Reader, ServicesDep, Writer
from emberq.api.types import Text
from emberq.dispatch.admit import admit_soon
from emberq.entry_points import QUEUE_NAME
from emberq.errors import Forbidden
from emberq.store.admin.audit import Action, record
from emberq.store.admin.pauses import PauseScope, list_pauses, pause, resume
from emberq.store.services import Services

router = APIRouter(prefix="/pauses", tags=["pauses"])


class PauseIn(BaseModel):
    """What to pause."""

    model_config = ConfigDict(extra="forbid")

    scope: PauseScope
    name: Text | None = Field(
        None,
        description="The collection. If left out: the only queue, or the key's own tenant.",
    )


class PauseOut(BaseModel):
    """A pause."""

    scope: PauseScope
    name: str
    paused_at: datetime
    waiting: int = Field(description="Jobs of the key's tenant that wait because of it.")


class PausesOut(BaseModel):
    """All pauses that concern jobs of the key's tenant."""

    items: list[PauseOut]


class ResumedOut(BaseModel):
    """Whether it was paused before."""

    resumed: bool


@router.get("")
def list_all(caller: Reader, services: ServicesDep) -> PausesOut:
    """List the pauses that concern jobs of the key's tenant."""
    return _list(services, caller)


@router.post("", status_code=201)
def create(body: PauseIn, caller: Writer, services: ServicesDep) -> PausesOut:
    """Pause jobs: running jobs finish, and waiting jobs do not start until they are resumed."""
    name = _allowed_name(caller, body.scope, body.name)
    with _open(services, caller, body.scope, name) as connection:
        pause(connection, body.scope, caller.tenant, name)
        _record(connection, caller, Action.PAUSE, body.scope, name)
    return _list(services, caller)


@router.delete("")
def delete(
    caller: Writer,
    services: ServicesDep,
    scope: PauseScope,
    name: Text | None = None,
) -> ResumedOut:
    """Resume paused jobs."""
    checked = _allowed_name(caller, scope, name)
    with _open(services, caller, scope, checked) as connection:
        resumed = resume(connection, scope, caller.tenant, checked)
        if resumed:
            _record(connection, caller, Action.RESUME, scope, checked)
    admit_soon(services)
    return ResumedOut(resumed=resumed)


def _list(services: Services, caller: Caller) -> PausesOut:
    with services.database.tenant_transaction(caller.tenant) as connection:
        return PausesOut(items=[PauseOut(**row) for row in list_pauses(connection, caller.tenant)])


def _open(
    services: Services, caller: Caller, scope: PauseScope, name: str
) -> AbstractContextManager[Connection]:
    """Open a transaction for a pause of an allowed name: a queue has the jobs of all tenants."""
    if scope is PauseScope.QUEUE:
        return services.database.system_transaction()
    return services.database.tenant_transaction(name if scope is PauseScope.TENANT else caller.tenant)


def _record(connection: Connection, caller: Caller, action: Action, scope: PauseScope, name: str) -> None:
    tenants = {PauseScope.QUEUE: "", PauseScope.TENANT: name, PauseScope.COLLECTION: caller.tenant}
    record(
        connection, actor=caller.actor, action=action, target=f"{scope.value} {name}", tenant=tenants[scope]
    )


def _allowed_name(caller: Caller, scope: PauseScope, name: str | None) -> str:
    """Return the name of what to pause or resume, unless it concerns others and the key is no admin's."""
    defaults = {PauseScope.QUEUE: QUEUE_NAME, PauseScope.TENANT: caller.tenant, PauseScope.COLLECTION: ""}
    target = name or defaults[scope]
    concerns_others = scope is PauseScope.QUEUE or (scope is PauseScope.TENANT and target != caller.tenant)
    if concerns_others and "admin" not in caller.scopes:
        raise Forbidden("This key may pause only its own tenant and that tenant's collections.")
    return target
