from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from emberq.errors import SettingInvalid
from emberq.store.admin.secrets import Sealer, hash_api_key, load_sealer, new_api_key


def test_a_sealed_secret_is_unreadable_and_comes_back() -> None:
    sealer = Sealer([Fernet.generate_key().decode()])
    sealed = sealer.seal("sk-123")
    assert "sk-123" not in sealed
    assert sealer.unseal(sealed) == "sk-123"


def test_keys_rotate_and_a_lost_key_is_told() -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    sealed = Sealer([old]).seal("sk-123")
    assert Sealer([new, old]).unseal(sealed) == "sk-123"
    with pytest.raises(SettingInvalid, match="another key"):
        Sealer([new]).unseal(sealed)


def test_the_key_in_the_data_directory_is_made_once_and_private(tmp_path: Path) -> None:
    sealed = load_sealer(None, tmp_path).seal("x")
    assert load_sealer(None, tmp_path).unseal(sealed) == "x"
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]


def test_a_key_that_is_none_is_refused() -> None:
    with pytest.raises(SettingInvalid, match="EMBERQ_SECRET_KEY"):
        Sealer(["short"])


def test_api_keys_are_long_random_and_stored_as_a_hash() -> None:
    key = new_api_key()
    assert key.startswith("eq_")
    assert len(key) >= 35
    assert key != new_api_key()
    assert key.encode() not in hash_api_key(key)
