"""Rotation of the secret key: cut off at any moment, it leaves secrets that can be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from emberq.errors import SettingInvalid
from emberq.store.admin.changes import change_settings, roll_back
from emberq.store.admin.reseal import Resealed, reseal
from emberq.store.admin.secrets import FileSealer, Sealer, load_sealer
from emberq.store.admin.settings import load_snapshot
from emberq.store.services import Services

KEY = "rag_embedding_api_key"


class Killed(Exception):
    """Stands for a death: what was not committed or written is gone."""


def _set(services: Services, sealer: Sealer, secret: str, *, tenant: str = "") -> None:
    with services.database.system_transaction() as connection:
        change_settings(connection, sealer, {KEY: secret}, tenant=tenant, changed_by="test")


def _read(services: Services, sealer: Sealer, *, tenant: str = "") -> str:
    with services.database.system_transaction() as connection:
        snapshot = load_snapshot(connection, sealer)
    assert not snapshot.unreadable
    secret: str = getattr(snapshot.for_tenant(tenant), KEY).get_secret_value()
    return secret


def test_the_first_key_of_a_list_seals_and_all_of_them_read(services: Services) -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    _set(services, Sealer([old]), "sk-first")
    _set(services, Sealer([old]), "sk-tenant", tenant="acme")
    _set(services, Sealer([old]), "sk-second")

    with services.database.system_transaction() as connection:
        done = reseal(connection, Sealer([new, old]))

    assert done == Resealed(settings=2, history=4, lost=0)
    assert _read(services, Sealer([new])) == "sk-second"
    assert _read(services, Sealer([new]), tenant="acme") == "sk-tenant"
    with services.database.system_transaction() as connection:
        roll_back(connection, Sealer([new]), 1, changed_by="test")
    assert _read(services, Sealer([new])) == "sk-first"


def test_secrets_that_no_key_reads_are_named_and_nothing_is_changed(services: Services) -> None:
    lost, old, new = (Fernet.generate_key().decode() for _ in range(3))
    _set(services, Sealer([lost]), "sk-lost", tenant="acme")
    _set(services, Sealer([old]), "sk-kept")
    with (
        pytest.raises(SettingInvalid, match="rag_embedding_api_key of acme"),
        services.database.system_transaction() as connection,
    ):
        reseal(connection, Sealer([new, old]))
    assert _read(services, Sealer([lost, old])) == "sk-kept"

    _set(services, Sealer([old]), "sk-again", tenant="acme")
    with services.database.system_transaction() as connection:
        assert reseal(connection, Sealer([new, old])).lost == 2
    assert _read(services, Sealer([new]), tenant="acme") == "sk-again"


def test_a_rotation_that_is_cut_off_anywhere_leaves_readable_secrets_and_goes_on(
    services: Services, tmp_path: Path
) -> None:
    running = load_sealer(None, tmp_path)
    assert isinstance(running, FileSealer)
    first = running.path.read_text()
    _set(services, running, "sk-file")

    rotating = FileSealer(running.path)
    rotating.begin_rotation()
    assert _read(services, running) == _read(services, FileSealer(running.path)) == "sk-file"

    def cut_off() -> None:
        with services.database.system_transaction() as connection:
            reseal(connection, rotating)
            raise Killed

    with pytest.raises(Killed):
        cut_off()
    assert _read(services, running) == _read(services, FileSealer(running.path)) == "sk-file"

    # Run again: the key that was made first is taken, not a third one.
    keys = running.path.read_text()
    again = FileSealer(running.path)
    again.begin_rotation()
    assert running.path.read_text() == keys
    with services.database.system_transaction() as connection:
        reseal(connection, again)
    # A process that has read the file before seals with the new key from now on.
    _set(services, running, "sk-meanwhile", tenant="acme")
    assert _read(services, running) == _read(services, FileSealer(running.path)) == "sk-file"

    again.end_rotation()
    assert running.path.read_text() == keys.split()[0] + "\n"
    assert first.strip() not in running.path.read_text()
    assert running.path.stat().st_mode & 0o777 == 0o600
    for sealer in (running, load_sealer(None, tmp_path)):
        assert _read(services, sealer) == "sk-file"
        assert _read(services, sealer, tenant="acme") == "sk-meanwhile"
